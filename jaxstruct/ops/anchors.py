"""Boxes that are known without the image: the references of a region proposal network.

What may be added here: other layouts of anchors.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxstruct.ops import _checks


def anchor_grid(
    height: int,
    width: int,
    *,
    stride: int | tuple[int, int],
    scales: Sequence[float],
    ratios: Sequence[float],
    offset: float = 0.0,
    rounded: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Anchors of every scale and ratio at every cell of a feature map.

        size (h, w) = (scale sqrt(ratio), scale / sqrt(ratio))
        centre (y, x) = (stride (row + offset), stride (column + offset))

    Anchors may reach outside the image (`clip_boxes`). The defaults are torchvision's.

    Args:
        height: of the feature map in cells.
        width: of the feature map in cells.
        stride: pixels of the image from cell to cell; a pair for (height, width).
        scales: square roots of the anchors' areas, in pixels.
        ratios: height / width of the anchors.
        offset: where in its cell an anchor is centred: 0 for the upper left corner, 0.5 for the
            middle.
        rounded: whether the corners relative to the centre are rounded to whole pixels, half to
            even.
        dtype: of the result; bfloat16 holds whole pixels only up to 256.

    Returns:
        [height * width * A, 4] boxes with A = len(ratios) * len(scales). Rows vary slowest, then
        columns, then ratios; scales vary fastest.

    Raises:
        ValueError: a size, stride, scale or ratio that is not positive, or no scale or ratio.
        TypeError: an option that is not a number, or a dtype that is not floating.

    Source: Ren et al. 2015 (Faster R-CNN), section 3.1.1.
    """
    height, width = (
        _checks.integer("height", height, least=1),
        _checks.integer("width", width, least=1),
    )
    strides = _checks.pair("stride", stride)
    offset = _checks.number("offset", offset)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype is {dtype!r}, expected a floating dtype")

    # In float32 as torchvision computes them: where a corner falls on a half before it is rounded,
    # another precision would give another pixel.
    scale, root = _positive("scales", scales), np.sqrt(_positive("ratios", ratios))
    heights = (root[:, None] * scale).ravel()
    widths = ((1 / root)[:, None] * scale).ravel()
    corners = np.stack([-widths, -heights, widths, heights], axis=-1) / np.float32(2)
    if rounded:
        corners = np.round(corners)
    y, x = (
        (jnp.arange(count, dtype=jnp.float32) + offset) * step
        for count, step in zip((height, width), strides, strict=True)
    )
    y, x = jnp.meshgrid(y, x, indexing="ij")
    centres = jnp.stack([x, y, x, y], axis=-1)[:, :, None]
    return (centres + corners[None, None]).reshape(-1, 4).astype(dtype)


def _positive(name: str, values: Sequence[float]) -> np.ndarray:
    return np.asarray(_checks.positive_numbers(name, values), np.float32)
