"""The multilayer perceptrons of "Auto-Encoding Variational Bayes" (Kingma & Welling, ICLR 2014).

What may be added here: other encoders and decoders that `VAE` can join.
"""

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer


def vae_initializer(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Draws parameters from N(0, 0.01), the paper's choice for all kernels and all biases.

    0.01 is read as the variance, as everywhere else in the paper: a standard deviation of 0.1.

    Args:
        key: one key.
        shape: of the parameter.
        dtype: of the parameter.

    Returns:
        the parameter, of that shape and dtype.

    Source: Kingma & Welling 2014, section 5.
    """
    return 0.1 * jax.random.normal(key, shape, dtype)


class GaussianEncoder(nn.Module):
    """The posterior q(z | x): a hidden layer of tanh, then mean and logarithm of the variance.

        h = tanh(W3 x + b3),   mean = W4 h + b4,   log variance = W5 h + b5

    Called with x [..., D] it returns (mean [..., latent], log_variance [..., latent]), in the
    compute dtype.

    Attributes:
        hidden: units of the hidden layer.
        latent: dimensions of z.
        kernel_init, bias_init: linen's defaults; the paper's is `vae_initializer` for both.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or latent is below 1, or x is a scalar.

    Source: Kingma & Welling 2014, appendix C.2, eq. 12 with x and z swapped.
    """

    hidden: int
    latent: int
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log_variance [..., latent] of q(z | x) for x [..., D]."""
        _check(x, hidden=self.hidden, latent=self.latent)
        h = jnp.tanh(_dense(self, self.hidden, "hidden_layer")(x))
        mean = _dense(self, self.latent, "mean")(h)
        return mean, _dense(self, self.latent, "log_variance")(h)


class BernoulliDecoder(nn.Module):
    """The likelihood p(x | z) of binary data: a hidden layer of tanh, then logits.

        logits = W2 tanh(W1 z + b1) + b2,   p(x_i = 1 | z) = sigmoid(logits_i)

    Called with z [..., latent] it returns logits [..., size], in the compute dtype.

    Attributes:
        hidden: units of the hidden layer.
        size: dimensions of x.
        kernel_init, bias_init: linen's defaults; the paper's is `vae_initializer` for both.
        dtype: the compute dtype; None is what z and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or size is below 1, or z is a scalar.

    Source: Kingma & Welling 2014, appendix C.1, eq. 11.
    """

    hidden: int
    size: int
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Returns logits [..., size] of p(x | z) for z [..., latent]."""
        _check(z, hidden=self.hidden, size=self.size)
        h = jnp.tanh(_dense(self, self.hidden, "hidden_layer")(z))
        return _dense(self, self.size, "logits")(h)


class GaussianDecoder(nn.Module):
    """The likelihood p(x | z) of data in (0, 1): mean and logarithm of the variance.

        h = tanh(W3 z + b3),   mean = sigmoid(W4 h + b4),   log variance = W5 h + b5

    Called with z [..., latent] it returns (mean [..., size], log_variance [..., size]), in the
    compute dtype.

    A pixel that hardly varies in the data has no best variance: its likelihood grows without
    end as the log variance falls. `min_log_variance` = m bounds it from below by
    m + softplus(log variance - m). Smooth, because a clipped pixel has no gradient and stays at
    the bound when its mean moves away from the data; well above m it is the paper's output.

    Attributes:
        hidden: units of the hidden layer.
        size: dimensions of x.
        min_log_variance: the bound m, in log units of x squared; None is the paper's, no bound.
        kernel_init, bias_init: linen's defaults; the paper's is `vae_initializer` for both.
        dtype: the compute dtype; None is what z and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or size is below 1, or z is a scalar.

    Source: Kingma & Welling 2014, appendix C.2, eq. 12; the sigmoid is section 5's.
    """

    hidden: int
    size: int
    min_log_variance: float | None = field(default=None, kw_only=True)
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log_variance [..., size] of p(x | z) for z [..., latent]."""
        _check(z, hidden=self.hidden, size=self.size)
        h = jnp.tanh(_dense(self, self.hidden, "hidden_layer")(z))
        mean = nn.sigmoid(_dense(self, self.size, "mean")(h))
        log_variance = _dense(self, self.size, "log_variance")(h)
        if self.min_log_variance is not None:
            bound = self.min_log_variance
            log_variance = bound + nn.softplus(log_variance - bound)
        return mean, log_variance


class VAE(nn.Module):
    """An encoder and a decoder, joined by a sample from the posterior that is drawn outside.

        z = mean + exp(log_variance / 2) * noise

    Called with x [..., D] and noise [..., latent] from N(0, I) it returns
    (mean, log_variance, z, prediction), where prediction is what the decoder returns.

    Attributes:
        encoder: x -> (mean, log_variance), as `GaussianEncoder`.
        decoder: z -> prediction, as `BernoulliDecoder` or `GaussianDecoder`.

    Raises:
        ValueError: when called, if noise has not the shape of the mean.

    Source: Kingma & Welling 2014, section 3, eq. 10.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __call__(
        self, x: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
        """Returns (mean, log_variance, z, prediction) for x [..., D] and noise [..., latent]."""
        mean, log_variance = self.encode(x)
        if noise.shape != mean.shape:
            raise ValueError(f"got noise {noise.shape}, expected the shape of z, {mean.shape}")
        z = mean + jnp.exp(0.5 * log_variance) * noise
        return mean, log_variance, z, self.decode(z)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log_variance [..., latent] of q(z | x) for x [..., D]."""
        return self.encoder(x)

    def decode(self, z: jax.Array) -> Any:
        """Returns the decoder's prediction for z [..., latent]."""
        return self.decoder(z)


def _dense(module: Any, features: int, name: str) -> nn.Dense:
    return nn.Dense(
        features,
        name=name,
        dtype=module.dtype,
        kernel_init=module.kernel_init,
        bias_init=module.bias_init,
    )


def _check(inputs: jax.Array, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"got {name}={size}, expected at least 1")
    if jnp.ndim(inputs) == 0:
        raise ValueError("got an input of shape (), expected [..., D]")
