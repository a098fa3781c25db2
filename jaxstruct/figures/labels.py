"""Label maps as pictures: colours that are told apart, over the image that the labels belong to.

What may be added here: other things drawn over one image (boxes, flow).
"""

import colorsys

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOID = 255

# Okabe & Ito's eight, which the colour-blind tell apart, in an order of contrasts.
_FIRST = (
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (230, 159, 0),
    (0, 0, 0),
)
_GOLDEN = (5**0.5 - 1) / 2


def label_colors(count: int) -> NDArray[np.uint8]:
    """A colour for each label: eight to be told apart, then hues a golden section from each other.

    Args:
        count: how many labels there are.

    Returns:
        [count, 3] uint8, RGB.

    Source: Okabe & Ito 2008, Color universal design.
    """
    more = (
        colorsys.hsv_to_rgb(i * _GOLDEN % 1, (0.5, 0.95)[i % 2], (0.95, 0.6, 0.75)[i % 3])
        for i in range(count - len(_FIRST))
    )
    colors = [*_FIRST, *(tuple(round(255 * part) for part in color) for color in more)]
    return np.array(colors[:count], np.uint8).reshape(count, 3)


def label_overlay(
    image: ArrayLike,
    labels: ArrayLike,
    *,
    opacity: float = 0.7,
    colors: ArrayLike | None = None,
) -> NDArray[np.uint8]:
    """The colours of the labels over the grey of an image; where there is no label, the image.

    Args:
        image: [H, W, 3] uint8.
        labels: [H, W] integers; 255 (void) is no label.
        opacity: of the colours, from 0 to 1.
        colors: [L, 3] uint8; by default `label_colors`.

    Returns:
        [H, W, 3] uint8, for `image_grid`.

    Raises:
        ValueError: other shapes, or a label that has no colour. TypeError: other dtypes.
    """
    pixels, index = np.asarray(image), np.asarray(labels)
    if pixels.ndim != 3 or pixels.shape != (*index.shape, 3):
        raise ValueError(
            f"got image {pixels.shape} and labels {index.shape}, expected [H, W, 3] and [H, W]"
        )
    if pixels.dtype != np.uint8 or index.dtype.kind not in "iu":
        raise TypeError(f"got image {pixels.dtype}, labels {index.dtype}; expected uint8, integers")
    there = index != VOID
    count = int(index[there].max()) + 1 if there.any() else 0
    table = label_colors(count) if colors is None else np.asarray(colors)
    if np.min(index, initial=0) < 0 or count > len(table):
        raise ValueError(f"labels reach from {index.min()} to {count - 1}, colors {table.shape}")
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    mixed = opacity * table[index[there]] + (1 - opacity) * grey[there][:, None]
    drawn = pixels.copy()
    drawn[there] = np.round(mixed)
    return drawn
