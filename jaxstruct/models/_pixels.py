"""Whole images in, an answer for each pixel out: the strides of a network between the two.

What may be added: another rule by which a map of a stride meets the pixels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxstruct import ops


def whole_strides(images: jax.Array, stride: int) -> jax.Array:
    """Images [B, H, W, C] whose sides are multiples of a stride.

    What is added lies below and on the right, and repeats the last row and column. Raises
    ValueError for another rank.
    """
    if images.ndim != 4:
        raise ValueError(f"got images {images.shape}, expected [B, H, W, C]")
    down, across = (-side % stride for side in images.shape[1:3])
    return jnp.pad(images, ((0, 0), (0, down), (0, across), (0, 0)), mode="edge")


def to_pixels(scores: jax.Array, stride: int | None, size: Sequence[int]) -> jax.Array:
    """Scores [B, h, w, C] of a map of a stride for each pixel [B, H, W, C] of an image of a size.

    Interpolated bilinearly, in float32 at least, and cut off where `whole_strides` added pixels.
    Without a stride the map covers the image alone, whatever part of a cell that is.
    """
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    height, width = size if stride is None else (n * stride for n in scores.shape[1:3])
    return ops.resize_bilinear(scores, (height, width))[:, : size[0], : size[1]]
