"""Slow references of what is read between pixels."""

import numpy as np


def sample(image, coords, outside):
    """By the sum over all pixels that `bilinear_sample` gives, in float64."""
    height, width, channels = image.shape
    out = np.zeros((*coords.shape[:-1], channels))
    for at in np.ndindex(coords.shape[:-1]):
        x, y = coords[at].astype(np.float64)
        if not np.isfinite(x + y):
            continue
        if outside == "edge":
            x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        for i in range(height):
            for j in range(width):
                out[at] += max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i)) * image[i, j]
    return out


def resize(image, size, align_corners):
    """Pixel by pixel, by the equations of `resize_bilinear`."""
    out = np.zeros((*size, image.shape[-1]))
    for i, j in np.ndindex(*size):
        at = []
        for index, new, old in ((i, size[0], image.shape[0]), (j, size[1], image.shape[1])):
            if align_corners:
                at.append(index * (old - 1) / max(new - 1, 1))
            else:
                at.append(max((index + 0.5) * old / new - 0.5, 0))
        out[i, j] = sample(image, np.array(at[::-1]), "edge")
    return out
