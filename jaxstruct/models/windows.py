"""Sliding windows: those of a network that is applied to a whole image, and those of a budget.

What may be added: another way to place windows.
"""

import math
from collections.abc import Sequence

import numpy as np

SCALES = tuple(2 ** (-i / 2) for i in range(8))  # of the image's shorter side, down to 1 / 11
RATIOS = (0.5, 1.0, 2.0)


def slid_windows(height: int, width: int, *, size: int, stride: int) -> np.ndarray:
    """The windows that a network sees which is applied to a whole image: [h, w, 4].

    A network without padding that makes one answer of a window of `size` x `size` pixels makes
    h x w answers of a larger image: of windows `stride` pixels apart, the product of the strides of
    its layers. They are the answers that it gives window by window (Sermanet et al. 2014, OverFeat,
    section 3.5). With padding they are not, since a window that is cut out is padded where the
    image goes on; a pooling that rounds the size of its output up pads, too.

    Args:
        height, width: of the image, in pixels.
        size: of the window, in pixels.
        stride: from window to window, in pixels.

    Raises:
        ValueError: an image smaller than a window, a size or stride below 1.
    """
    if min(size, stride) < 1 or min(height, width) < size:
        raise ValueError(
            f"got an image of {height}x{width}, windows of {size} and stride {stride}, expected an "
            "image as large as a window at least, and numbers from 1 on"
        )
    y, x = (
        np.arange((side - size) // stride + 1, dtype=np.float32) * stride
        for side in (height, width)
    )
    left, top = np.meshgrid(x, y)
    return np.stack([left, top, left + size, top + size], axis=-1)


def sliding_windows(
    height: int,
    width: int,
    most: int,
    *,
    scales: Sequence[float] = SCALES,
    ratios: Sequence[float] = RATIOS,
) -> np.ndarray:
    """At most so many windows of an image, evenly spread over places, scales and ratios: [n, 4].

    Windows of one shape are the same share of their sides apart in all shapes, which is as small
    as the number allows; they are spread from border to border. Where there are more shapes than
    windows are allowed, the largest shapes have one window each, in the middle. Windows come in
    the order of scales, ratios, rows, columns.

    Args:
        height, width: of the image, in pixels.
        most: how many windows at most.
        scales: square roots of areas, as shares of the image's shorter side.
        ratios: height / width; windows are cut to the image's sides.

    Raises:
        ValueError: a number below 1, no shape, or a scale or ratio that is not above 0.
    """
    if most < 1 or min(height, width) < 1:
        raise ValueError(f"got {most} windows of {height}x{width}, expected numbers from 1 on")
    if not scales or not ratios or min(*scales, *ratios) <= 0:
        raise ValueError(f"got scales {scales} and ratios {ratios}, expected numbers above 0")
    side = min(height, width)
    shapes = [
        (min(scale * side * math.sqrt(ratio), height), min(scale * side / math.sqrt(ratio), width))
        for scale in sorted(scales, reverse=True)
        for ratio in ratios
    ][:most]

    def counts(step: float) -> list[tuple[int, int]]:
        return [
            (1 + math.floor((height - h) / (step * h)), 1 + math.floor((width - w) / (step * w)))
            for h, w in shapes
        ]

    few, many = 4 * max(height, width) / min(map(min, shapes)), 1e-4  # steps
    for _ in range(60):
        middle = math.sqrt(few * many)
        enough = sum(rows * columns for rows, columns in counts(middle)) <= most
        few, many = (middle, many) if enough else (few, middle)
    windows = []
    for (h, w), (rows, columns) in zip(shapes, counts(few), strict=True):
        top, left = (
            np.linspace(0, rest, n) if n > 1 else np.array([rest / 2])
            for rest, n in ((height - h, rows), (width - w, columns))
        )
        x, y = np.meshgrid(left, top)
        windows.append(np.stack([x, y, x + w, y + h], axis=-1).reshape(-1, 4))
    return np.concatenate(windows).astype(np.float32)
