"""The maxout layer (Goodfellow et al., Maxout networks, ICML 2013).

What may be added here: maxout over the channels of maps.
"""

from dataclasses import field

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer


class Maxout(nn.Module):
    """Units that are each the largest of a few linear functions of the input.

        h_i = max_j x W_ji + b_ji,   j = 1 .. pieces

    Called with x [..., D] it returns h [..., features], in the compute dtype. The parameters are
    those of the layer `linear`: kernel [D, pieces, features] and bias [pieces, features].

    Attributes:
        features: units of the layer.
        pieces: linear functions of each unit.
        kernel_init, bias_init: linen's defaults; a kernel is drawn as that of a layer of D inputs.
        dtype: the compute dtype; None is what x and the parameters promote to.

    Raises:
        ValueError: when called, if features or pieces is below 1, or x is a scalar.

    Source: Goodfellow et al. 2013, section 3.
    """

    features: int
    pieces: int
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns h [..., features] for x [..., D]."""
        for name, size in (("features", self.features), ("pieces", self.pieces)):
            if size < 1:
                raise ValueError(f"got {name}={size}, expected at least 1")
        if jnp.ndim(x) == 0:
            raise ValueError("got an input of shape (), expected [..., D]")
        linear = nn.DenseGeneral(
            (self.pieces, self.features),
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            name="linear",
        )
        return jnp.max(linear(x), axis=-2)
