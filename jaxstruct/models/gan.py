"""The multilayer perceptrons of "Generative adversarial nets" (Goodfellow et al., NIPS 2014).

What may be added here: other players of the game that are no convolutional networks.
"""

import math
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from jaxstruct.models.maxout import Maxout


def uniform_initializer(bound: float) -> Initializer:
    """Draws parameters from U(-bound, bound).

    Args:
        bound: the largest size; for all kernels of the generator 0.05, of the discriminator 0.005.

    Returns:
        an initializer: (key, shape, dtype) -> the parameter.

    Source: the configuration that the paper's authors published (mnist.yaml, `irange`).
    """

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def gan_noise(key: jax.Array, latent: int) -> jax.Array:
    """Draws z from the uniform distribution of mean 0 and variance 1, U(-sqrt 3, sqrt 3).

    Args:
        key: one key; for a batch that is drawn example by example, vmap over keys.
        latent: dimensions of z.

    Returns:
        [latent] float32.

    Source: the code that the paper's authors published; the paper says "uniform".
    """
    return jax.random.uniform(key, (latent,), minval=-math.sqrt(3), maxval=math.sqrt(3))


class GANGenerator(nn.Module):
    """Examples in (0, 1) from noise: two hidden layers of ReLU, then sigmoid.

    Called with z [..., latent] it returns x [..., size], in the compute dtype.

    Attributes:
        hidden: units of each hidden layer.
        size: dimensions of x.
        kernel_init, bias_init: linen's defaults; the paper's kernels are of
            `uniform_initializer(0.05)`, and their biases 0.
        output_bias_init: of the last layer; the paper's is the inverse of sigmoid of the mean x.
        dtype: the compute dtype; None is what z and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or size is below 1, or z is a scalar.

    Source: Goodfellow et al. 2014, section 5; sizes: the authors' mnist.yaml.
    """

    hidden: int = 1200
    size: int = 784
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    output_bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Returns x [..., size] for z [..., latent]."""
        _check(z, hidden=self.hidden, size=self.size)
        options: Any = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        h = z
        for i in (1, 2):
            layer = nn.Dense(self.hidden, bias_init=self.bias_init, name=f"hidden{i}", **options)
            h = nn.relu(layer(h))
        output = nn.Dense(self.size, bias_init=self.output_bias_init, name="output", **options)
        return nn.sigmoid(output(h))


class GANDiscriminator(nn.Module):
    """Real or generated: two layers of maxout, then the logit of being real, with dropout.

    Called with x [..., D] it returns logits [...], in the compute dtype. With train, inputs are
    dropped and the rest is scaled up, from a key named "dropout", one for all of x: for masks that
    are drawn example by example, vmap over examples and keys.

    Attributes:
        hidden: units of each hidden layer.
        pieces: linear functions of each unit.
        input_dropout: the share of x that is dropped.
        hidden_dropout: the share of each hidden layer that is dropped.
        kernel_init, bias_init: linen's defaults; the paper's kernels are of
            `uniform_initializer(0.005)`, and their biases 0.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Raises:
        ValueError: when called, if hidden or pieces is below 1, or x is a scalar.

    Source: Goodfellow et al. 2014, section 5; sizes and shares: the authors' mnist.yaml.
    """

    hidden: int = 240
    pieces: int = 5
    input_dropout: float = field(default=0.2, kw_only=True)
    hidden_dropout: float = field(default=0.5, kw_only=True)
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns logits [...] for x [..., D]."""
        _check(x, hidden=self.hidden, pieces=self.pieces)
        options: Any = {
            "kernel_init": self.kernel_init,
            "bias_init": self.bias_init,
            "dtype": self.dtype,
        }
        h = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        for i in (1, 2):
            h = Maxout(self.hidden, self.pieces, name=f"maxout{i}", **options)(h)
            h = nn.Dropout(self.hidden_dropout, deterministic=not train)(h)
        return nn.Dense(1, name="logit", **options)(h)[..., 0]


def _check(inputs: jax.Array, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"got {name}={size}, expected at least 1")
    if jnp.ndim(inputs) == 0:
        raise ValueError("got an input of shape (), expected [..., D]")
