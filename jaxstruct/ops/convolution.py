"""Convolution. What may be added: another form of the same sum, and where it is the fastest."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks
from jaxstruct.ops._cpu.convolution import choose
from jaxstruct.ops._settings import Setting


def conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    stride: int | tuple[int, int] = 1,
    padding: _checks.Padding = "SAME",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolution, as networks mean it: the kernel is not flipped.

        out[o] = sum over t of  x[stride o + dilation t - low] kernel[t]

    along both axes. `low` rows of zeros come before the image: what padding says; none with
    "VALID"; with "SAME", for ceil(H / stride) results, half of what they need, rounded down. With
    groups, output channels [i D / groups, (i + 1) D / groups) see the i-th part of x's channels.

    On a CPU it is computed as matrix products, of fewer and larger numbers where that is possible
    (Winograd's algorithm: a largest error of 1e-5 to 3e-5 of the largest value in float32, and a
    NaN or infinity in x may reach all results of a tile, not only those that see it; with the
    precision "highest" it is not used; or, of taps far apart, the part of the image that each
    sees), and depthwise, where each channel is a group, as a sum of shifted images, because XLA's
    own is slow there, the gradient of the kernel above all. The form is chosen by shape: another
    size of batch or image compiles again. Everything else runs XLA's convolution. Both arguments
    can be differentiated, in both modes and repeatedly.

    Args:
        x: [H, W, C] or [B, H, W, C].
        kernel: [kh, kw, C / groups, D].
        stride: distance of two results, an integer for both axes or (down, across).
        padding: "SAME", "VALID", an integer for both axes or (down, across) and as much at the end,
            or ((before, after), (before, after)).
        dilation: distance of two taps, an integer for both axes or (down, across).
        groups: how many convolutions stand side by side; it divides C and D.
        precision: of the products, as in `jax.lax.dot`.

    Returns:
        [H', W', D] or [B, H', W', D], in the dtype that x and kernel promote to.

    Raises:
        ValueError: other shapes, options out of their range, or nothing left of the result.
        TypeError: x or kernel is not floating, or an option is of another type.

    Source: the equation above; the forms are those of Lavin & Gray 2015, Fast algorithms for
    convolutional neural networks, and of Chellapilla et al. 2006 (products of unrolled images).
    """
    groups = _checks.integer("groups", groups, least=1)
    x, kernel = _checks.image_and_kernel(x, kernel, groups)
    step, apart = _checks.pair("stride", stride), _checks.pair("dilation", dilation)
    reach = [(k - 1) * r + 1 for k, r in zip(kernel.shape[:2], apart, strict=True)]
    images = x if x.ndim == 4 else x[None]
    down, across = _checks.padding(padding, images.shape[1:3], reach, step)
    setting = Setting(step, (down, across), apart, groups, precision)
    if min(setting.number(images.shape, kernel.shape)) < 1:
        raise ValueError(
            f"got padding {padding!r} for x {x.shape}, kernel {kernel.shape} and dilation "
            f"{dilation}: nothing is left of the result, expected a larger image or padding"
        )
    out = _form(setting)(images, kernel)
    return out if x.ndim == 4 else out[0]


def atrous_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    rate: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: _checks.Padding = "SAME",
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Atrous convolution, also called dilated: `conv` under the name and the word of its paper.

    A field of view of k + (k - 1) (rate - 1) for the parameters and the work of k.

    Args:
        x: [H, W, C] or [B, H, W, C].
        kernel: [kh, kw, C, D].
        rate: distance of two taps, an integer for both axes or (down, across).
        stride, padding, precision: as in `conv`.

    Returns:
        As `conv`.

    Raises:
        ValueError, TypeError: as `conv`.

    Source: Chen et al. 2015, Semantic image segmentation with deep convolutional nets and fully
    connected CRFs, section 3.1; the equation is that of its successor, eq. 1.
    """
    rate = _checks.pair("rate", rate)
    return conv(x, kernel, stride=stride, padding=padding, dilation=rate, precision=precision)


@functools.lru_cache(maxsize=256)
def _form(setting: Setting) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Cached and jitted, so that a call outside of jit compiles once for its shapes."""
    elsewhere = functools.partial(_convolved, setting)

    # What a gradient needs is computed again: a Winograd transform is 2.25 times as large as x.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # A CPU multiplies bfloat16 no faster than float32, and would round every sum to it.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        form = choose(setting, x.shape, kernel.shape) or _convolved
        return form(setting, x.astype(wide), kernel.astype(wide)).astype(x.dtype)

    return jax.jit(lambda *given: lax.platform_dependent(*given, cpu=on_cpu, default=elsewhere))


def _convolved(setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's own."""
    return lax.conv_general_dilated(
        x,
        kernel,
        setting.stride,
        setting.ends,
        rhs_dilation=setting.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=setting.groups,
        precision=setting.precision,
    )
