"""Layers that stand in for linen's, over the ops of this project.

What may be added here: another layer with the parameters of the one that it replaces.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jax import lax

from jaxstruct import ops


class Conv(nn.Conv):
    """`flax.linen.Conv`, computed by `ops.conv` where there are two axes to convolve along.

    The attributes, parameters, names, initialisers, options and values are linen's, and so is the
    computation where `input_dilation` is not 1 or the number of axes is another.

    Attributes:
        features, kernel_size, strides, padding, kernel_dilation, feature_group_count, use_bias,
        mask, dtype, param_dtype, precision, kernel_init, bias_init: linen's.

    Raises:
        ValueError, TypeError: when called, as linen's and `ops.conv` do.

    Source: `flax.linen.Conv`; see `ops.conv` for the forms.
    """

    conv_general_dilated_cls: Any = lambda: _convolve


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


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Any,
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    feature_group_count: int,
    precision: lax.PrecisionLike,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` as linen calls it."""
    if len(strides) != 2 or any(d != 1 for d in lhs_dilation):
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            feature_group_count=feature_group_count,
            precision=precision,
            **options,
        )
    return ops.conv(
        x,
        kernel,
        stride=(strides[0], strides[1]),
        padding=padding if isinstance(padding, str) else tuple(padding),
        dilation=(rhs_dilation[0], rhs_dilation[1]),
        groups=feature_group_count,
        precision=precision,
    )
