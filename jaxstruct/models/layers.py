"""Layers that stand in for linen's, over the ops of this project.

What may be added here: another layer with the parameters of the one that it replaces.
"""

from dataclasses import field

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jax import lax

from jaxstruct import ops


class UpConv(nn.Module):
    """`flax.linen.ConvTranspose` in two dimensions, computed by `ops.upconv`.

    It has the same parameters, `kernel` [kh, kw, C, features] and `bias` [features], from the same
    initialisers, and with padding "SAME" and "VALID" the same values. Called with x [..., H, W, C]
    it returns [..., H', W', features], in the compute dtype.

    Attributes:
        features: channels of the result.
        kernel_size: an integer for both axes, or (down, across).
        strides: likewise.
        padding: "SAME", "VALID", or PyTorch's integer for both axes or (down, across). (An integer
            of ConvTranspose is another: it adds rows of zeros around the stretched image.)
        output_padding: with integer padding, how many more rows and columns the end has.
        use_bias: whether a bias is added.
        dtype: the compute dtype; None is what x and the parameters promote to.
        param_dtype: of the parameters.
        precision: of the products, as in `jax.lax.dot`.
        kernel_init, bias_init: linen's defaults; `ops.bilinear_kernel` gives FCN's kernel.

    Raises:
        ValueError, TypeError: when called, as `ops.upconv` does.

    Source: Zeiler et al. 2010, Deconvolutional networks.
    """

    features: int
    kernel_size: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: str | int | tuple[int, int] = "SAME"
    output_padding: int | tuple[int, int] = field(default=0, kw_only=True)
    use_bias: bool = field(default=True, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)
    param_dtype: Dtype = field(default=jnp.float32, kw_only=True)
    precision: lax.PrecisionLike = field(default=None, kw_only=True)
    kernel_init: Initializer = field(default=nn.initializers.lecun_normal(), kw_only=True)
    bias_init: Initializer = field(default=nn.initializers.zeros_init(), kw_only=True)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolves upwards; any number of axes may come before the last three."""
        size = self.kernel_size
        down, across = size if isinstance(size, tuple | list) else (size, size)
        shape = (down, across, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        out = ops.upconv(
            x.reshape(-1, *x.shape[-3:]) if x.ndim > 4 else x,
            kernel,
            stride=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            precision=self.precision,
        )
        out = out if bias is None else out + jnp.broadcast_to(bias, out.shape)
        return out.reshape(*x.shape[:-3], *out.shape[-3:])
