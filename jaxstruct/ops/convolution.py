"""Convolution. What may be added: the forms that a CPU is fastest at."""

import jax
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks


def atrous_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    rate: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = "SAME",
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Atrous convolution, also called dilated: a convolution whose taps are `rate` apart.

        out[o] = sum over t of  x[stride o + rate t - low] kernel[t]

    along both axes: a field of view of k + (k - 1) (rate - 1) for the parameters and the work of
    k. `low` rows of zeros come before the image: an integer padding, and as many after it; none
    with "VALID"; with "SAME", for ceil(H / stride) results, half of what they need, rounded down.

    Args:
        x: [H, W, C] or [B, H, W, C].
        kernel: [kh, kw, C, D].
        rate: distance of two taps, an integer for both axes or (down, across).
        stride: distance of two results, likewise.
        padding: "SAME", "VALID", or an integer for both axes or (down, across).
        precision: of the products, as in `jax.lax.dot`.

    Returns:
        [H', W', D] or [B, H', W', D], in the dtype that x and kernel promote to.

    Raises:
        ValueError: other shapes, options out of their range, or nothing left of the result.
        TypeError: x or kernel is not floating, or an option is of another type.

    Source: Chen et al. 2015, Semantic image segmentation with deep convolutional nets and fully
    connected CRFs, section 3.1; the equation is that of its successor, eq. 1.
    """
    x, kernel = _checks.image_and_kernel(x, kernel)
    step, apart = _checks.pair("stride", stride), _checks.pair("rate", rate)
    reach = [(k - 1) * r + 1 for k, r in zip(kernel.shape[:2], apart, strict=True)]
    images = x if x.ndim == 4 else x[None]
    ends = _checks.padding(padding, images.shape[1:3], reach, step)
    if any(n + sum(end) < r for n, end, r in zip(images.shape[1:3], ends, reach, strict=True)):
        raise ValueError(
            f"got padding {padding!r} for x {x.shape}, kernel {kernel.shape} and rate {rate}: "
            "nothing is left of the result, expected a larger image or padding"
        )
    out = lax.conv_general_dilated(
        images,
        kernel,
        step,
        ends,
        rhs_dilation=apart,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return out if x.ndim == 4 else out[0]
