"""The pixels near boundaries of a class map, on the host: where a segmentation is hardest.

What may be added: a score of the boundaries themselves.
"""

from __future__ import annotations

import numpy as np


def boundary_distance(class_map: np.ndarray, *, void: int = 255) -> np.ndarray:
    """How far each labelled pixel is from the nearest pixel of another value.

    Distances are Euclidean, between the centres of pixels, and exact: on both sides of a boundary
    they begin at 1. Void is another value than any class, so that the void border of an object is
    a boundary. The edge of the image is none.

    Args:
        class_map: [H, W] integers.
        void: the value of pixels without a label, to which no pixel belongs.

    Returns:
        float64 [H, W]: infinite for void pixels, and where all pixels have one value.

    Raises:
        ValueError: another number of axes. TypeError: floating values.
    """
    from scipy.ndimage import distance_transform_edt

    class_map = np.asarray(class_map)
    if class_map.ndim != 2:
        raise ValueError(f"got a class map {class_map.shape}, expected [H, W]")
    if class_map.dtype.kind not in "iu":
        raise TypeError(f"the class map has dtype {class_map.dtype}, expected an integer dtype")
    found = np.full(class_map.shape, np.inf)
    values = np.unique(class_map)
    if len(values) < 2:
        return found
    for value in values[values != void]:
        inside = class_map == value
        found[inside] = distance_transform_edt(inside)[inside]
    return found


def boundary_band(class_map: np.ndarray, width: float, *, void: int = 255) -> np.ndarray:
    """Which labelled pixels are in the band around the boundaries (the trimap), bool [H, W].

    They are those at most `width` pixels from a pixel of another class, or of void, see
    `boundary_distance`. The scores of a band are those of a `Confusion` whose labels are void
    outside of it, `np.where(boundary_band(labels, 5), labels, 255)`.

    Args:
        class_map: [H, W] integers.
        width: of the band on each side of a boundary, in pixels; 1 are the pixels beside it.
        void: the value of pixels without a label, which are in no band.

    Raises:
        ValueError: another number of axes, or a width below 1. TypeError: floating values.

    Source: Kohli, Ladicky & Torr 2009; Chen et al. 2015 (DeepLab), figure 5, whose band is that
    around void.
    """
    if not width >= 1:
        raise ValueError(f"width is {width}, expected at least 1 pixel")
    return boundary_distance(class_map, void=void) <= width
