"""Multilayer perceptrons and the autoencoders made of them.

What may be added here: another way to tie an encoder to its decoder.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

Activation = Callable[[jax.Array], jax.Array]


class Perceptron(nn.Module):
    """Fully connected layers, one after the other: `layer1`, `layer2`, ...

        h_i = s_i(h_(i-1) W_i + b_i),   h_0 = x

    Called with x [..., D] it returns [..., widths[-1]], in the compute dtype.

    Attributes:
        widths: units of each layer, at least one layer.
        hidden: s_i of all layers but the last.
        last: s_i of the last layer; the identity leaves it linear.
        kernel_init, bias_init: linen's defaults.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Raises:
        ValueError: when called, without a layer, for a width below 1, or for a scalar.

    Source: Rumelhart, Hinton & Williams 1986, Learning representations by back-propagating errors.
    """

    widths: Sequence[int]
    hidden: Activation = nn.relu
    last: Activation = jax.nn.identity
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the last layer's activations [..., widths[-1]] for x [..., D]."""
        _check_widths(self.widths)
        if jnp.ndim(x) == 0:
            raise ValueError("got an input of shape (), expected [..., D]")
        for i, width in enumerate(self.widths, 1):
            layer = nn.Dense(
                width,
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                name=f"layer{i}",
            )
            x = (self.last if i == len(self.widths) else self.hidden)(layer(x))
        return x


class Autoencoder(nn.Module):
    """A perceptron that encodes x, and its mirror image that decodes the code.

        code = encoder(x),   prediction = decoder(code),   D -> widths -> mirrored widths -> D

    Called with x [..., size] it returns the prediction [..., size] before any output nonlinearity:
    logits where a sigmoid makes the reconstruction, the reconstruction itself where none does.
    With tied weights the decoder's kernels are the encoder's transposed, W_i' = W_i^T, and only its
    biases, `bias1` (the pixels') and on, are its own.

    Attributes:
        size: dimensions of x.
        widths: units of the encoder's layers, the code's last.
        hidden: the nonlinearity of all layers but the code and the prediction.
        code: that of the code; the identity leaves it linear.
        tied: whether the decoder has the encoder's kernels.
        kernel_init, bias_init: linen's defaults.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Raises:
        ValueError: when called, without a layer, for a width below 1, or for an input of another
        size.

    Source: Hinton & Salakhutdinov 2006, figure 1; tied weights: Vincent et al. 2008, section 2.2.
    """

    size: int
    widths: Sequence[int]
    hidden: Activation = nn.relu
    code: Activation = jax.nn.identity
    tied: bool = field(default=False, kw_only=True)
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def setup(self) -> None:
        """Makes the encoder, and the decoder's layers or its biases."""
        _check_widths(self.widths)
        options: dict[str, Any] = {
            "kernel_init": self.kernel_init,
            "bias_init": self.bias_init,
            "dtype": self.dtype,
        }
        self.encoder = Perceptron(self.widths, self.hidden, self.code, **options)
        outputs = (self.size, *self.widths[:-1])
        if self.tied:
            self.biases = [
                self.param(f"bias{i}", self.bias_init, (width,))
                for i, width in enumerate(outputs, 1)
            ]
        else:
            self.decoder = Perceptron(outputs[::-1], self.hidden, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the prediction [..., size] for x [..., size]."""
        return self.decode(self.encode(x))

    def encode(self, x: jax.Array) -> jax.Array:
        """Returns the code [..., widths[-1]] of x [..., size]."""
        if jnp.shape(x)[-1:] != (self.size,):
            raise ValueError(f"got an input of shape {jnp.shape(x)}, expected [..., {self.size}]")
        return self.encoder(x)

    def decode(self, code: jax.Array) -> jax.Array:
        """Returns the prediction [..., size] for a code [..., widths[-1]]."""
        if jnp.shape(code)[-1:] != (self.widths[-1],):
            raise ValueError(
                f"got a code of shape {jnp.shape(code)}, expected [..., {self.widths[-1]}]"
            )
        if not self.tied:
            return self.decoder(code)
        layers = self.encoder.variables["params"]
        x = code
        for i in range(len(self.widths), 0, -1):
            kernel = layers[f"layer{i}"]["kernel"]
            x, kernel, bias = nn.dtypes.promote_dtype(
                x, kernel, self.biases[i - 1], dtype=self.dtype
            )
            x = jnp.dot(x, kernel.T)
            x = x + jnp.broadcast_to(bias, x.shape)
            x = x if i == 1 else self.hidden(x)
        return x


def _check_widths(widths: Sequence[int]) -> None:
    if not widths or min(widths) < 1:
        raise ValueError(f"got widths {tuple(widths)}, expected one or more of at least 1")
