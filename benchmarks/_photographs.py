"""Photographs that scikit-image brings along, and what a network might say of their pixels.

What may be added: other images that need no download.
"""

from __future__ import annotations

import numpy as np

NAMES = ("coffee", "chelsea", "astronaut", "rocket")  # in skimage.data


def photograph(number: int, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] uint8, resized. After the last one come parts of the same ones."""
    again, which = divmod(number, len(NAMES))
    image = _read(which)
    return resized(middle(image, tuple(round(n * 0.7**again) for n in image.shape[:2])), size)


def detail(number: int, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] uint8, the middle of a photograph, not resized."""
    return middle(_read(number), size)


def middle(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """[H, W, ...] of this size."""
    top, left = ((n - s) // 2 for n, s in zip(image.shape, size, strict=False))
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])


def resized(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """uint8, smoothed where it gets smaller."""
    from skimage import transform

    values = transform.resize(image, size, preserve_range=True, anti_aliasing=True)
    return values.round().astype(np.uint8)


def segments(image: np.ndarray, labels: int) -> np.ndarray:
    """[H, W] integers: k-means of colours and places, of an eighth of the size."""
    from scipy.cluster import vq

    size = tuple(max(n // 8, 8) for n in image.shape[:2])
    places = np.moveaxis(np.indices(size), 0, -1) * (128 / max(size))
    points = np.concatenate([resized(image, size), places], -1).reshape(-1, 5)
    coarse = vq.kmeans2(points, labels, minit="++", rng=0)[1].reshape(size)
    rows, columns = (np.arange(n) * s // n for n, s in zip(image.shape, size, strict=False))
    return coarse[rows[:, None], columns]


def unaries(image: np.ndarray, labels: int, seed: int = 0) -> np.ndarray:
    """[H, W, L] float32 negative log-probabilities: blurred segments, and noise of few labels."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    one_hot = np.eye(labels, dtype=np.float32)[segments(image, labels)]
    blurred = ndimage.gaussian_filter(one_hot, 6, axes=(0, 1))
    noise = rng.dirichlet(np.full(labels, 0.3), image.shape[:2])
    return -np.log(0.6 * blurred + 0.4 * noise + 1e-4).astype(np.float32)


def _read(number: int) -> np.ndarray:
    import skimage

    image: np.ndarray = getattr(skimage.data, NAMES[number])()
    return image
