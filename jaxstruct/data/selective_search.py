"""Selective Search (Uijlings et al. 2013): boxes around segments, and around what merges of them.

What may be added: another choice of what makes two segments alike.
"""

from __future__ import annotations

import numpy as np

MODES = ("fast", "quality")


def selective_search(
    image: np.ndarray, *, mode: str = "fast", width: int | None = 320
) -> np.ndarray:
    """Boxes that may hold an object, float32 [N, 4] as (x1, y1, x2, y2) in continuous pixels.

    Args:
        image: uint8 [H, W, 3] in RGB, or grey [H, W, 1].
        mode: "fast" or "quality", as OpenCV has the paper's two: quality merges by more measures,
            in more colour spaces; it takes 3 times as long, and gives 2 to 3 times as many boxes.
        width: an image that is wider is shrunk to so many pixels first; None: none is. Boxes are in
            the pixels of `image` in any case.

    No two boxes are equal, none reaches beyond the image, and there is at least one. The paper's
    order is random; here, equal images give equal boxes in an equal order. The first boxes are
    those that the different merges agree on: a box with more others of the image at an IoU of 0.8
    or more goes before one with fewer, and a larger one before a smaller one. Of boxes at such an
    IoU, the first alone keeps its place; the others follow, in the same order, behind all boxes
    without such a box before them (greedy non-maximum suppression).

    Raises ValueError for another shape, dtype, mode or width. Source: J. R. R. Uijlings et al.,
    Selective search for object recognition, IJCV 104, 2013; `cv2.ximgproc.segmentation`.
    """
    import cv2
    from cv2.ximgproc import segmentation

    check_options(mode, width)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise ValueError(
            f"image {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3] or [H, W, 1], H "
            "and W at least 1"
        )
    size = image.shape[1], image.shape[0]
    small = np.broadcast_to(image, (*image.shape[:2], 3))
    if width is not None and size[0] > width:
        shrunk = width, max(1, round(size[1] * width / size[0]))
        small = cv2.resize(np.ascontiguousarray(small), shrunk, interpolation=cv2.INTER_AREA)
    search = segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(small[..., ::-1]))  # in BGR
    if mode == "fast":
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    # x, y, width, height of pixels, from OpenCV in the order of C's rand().
    found = np.asarray(search.process(), np.int64)
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
    boxes = boxes[_order(boxes)]
    scale = np.array(size * 2) / (small.shape[1::-1] * 2)
    return np.minimum(boxes * scale, size * 2).astype(np.float32)


def check_options(mode: str, width: int | None) -> None:
    """Raises ValueError for a mode that does not exist, and a width below 1."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}, expected one of {', '.join(MODES)}")
    if width is not None and width < 1:
        raise ValueError(f"width {width}, expected at least 1, or None")


def _order(boxes: np.ndarray) -> np.ndarray:
    """The order [N] of different boxes int64 [N, 4] that `selective_search` promises."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alike, near = _alike(boxes, area)
    # The last key is the first to decide; the sides decide between equal areas.
    ranked = np.lexsort((*boxes.T, -area, -near))
    suppressed = np.zeros(alike.shape[1], np.uint8)
    first, later = [], []
    for index in ranked:
        if suppressed[index // 8] & 128 >> index % 8:
            later.append(index)
        else:
            first.append(index)
            suppressed |= alike[index]
    return np.array(first + later)


_ROWS = 256  # boxes that are compared with all others at once, to save memory


def _alike(boxes: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes int64 [N, 4] have an IoU of at least 0.8, exact, and with how many each has.

    They are bits, uint8 [N, ceil(N / 8)] as of `np.packbits`: a large photograph has 10^5 boxes.
    """
    alike = np.empty((len(boxes), -(-len(boxes) // 8)), np.uint8)
    near = np.empty(len(boxes), np.int64)
    x1, y1, x2, y2 = boxes.T
    for start in range(0, len(boxes), _ROWS):
        a1, b1, a2, b2 = boxes[start : start + _ROWS].T[..., None]
        wide = np.minimum(a2, x2) - np.maximum(a1, x1)
        high = np.minimum(b2, y2) - np.maximum(b1, y1)
        common = np.maximum(wide, 0) * np.maximum(high, 0)
        both = area[start : start + _ROWS, None] + area
        found = 9 * common >= 4 * both  # common / (both - common) >= 4 / 5
        alike[start : start + _ROWS] = np.packbits(found, axis=1)
        near[start : start + _ROWS] = found.sum(axis=1)
    return alike, near
