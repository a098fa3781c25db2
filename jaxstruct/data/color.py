"""Random changes of an image's colours that leave every pixel in its place.

What may be added: another change of colours, drawn from a NumPy generator.
"""

from __future__ import annotations

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601


def jitter_color(generator: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """Changes brightness, contrast and saturation of an image by factors that are drawn.

    Each factor is uniform in [1 - strength, 1 + strength]. Brightness multiplies, contrast
    stretches about the mean luminance of the image, saturation about the luminance of each pixel,
    in this order; the result is clipped once, at the end. Three numbers are drawn for every image.

    Args:
        generator: the example's own.
        image: [H, W, 3] or [H, W, 1], uint8, or float32 in [0, 1].
        strength: 0 to 1; 0 changes nothing.

    Returns:
        The image in its dtype.

    Raises:
        ValueError: the shape or the strength is another.
        TypeError: the image has another dtype.
    """
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"image of shape {image.shape}, expected [H, W, 3] or [H, W, 1]")
    if image.dtype not in (np.uint8, np.float32):
        raise TypeError(f"image of {image.dtype}, expected uint8 or float32")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength}, expected a number from 0 to 1")
    brightness, contrast, saturation = 1 + strength * generator.uniform(-1, 1, 3)
    luma = _LUMA if image.shape[-1] == 3 else np.ones(1)
    mean = float(image.mean((0, 1), dtype=np.float64) @ luma)
    # The three changes are one affine map of colours, [C, C] and an offset.
    grey = np.outer(luma, np.ones_like(luma))
    mixed = saturation * np.eye(len(luma)) + (1 - saturation) * grey
    matrix = (brightness * contrast * mixed).astype(np.float32)
    changed = image.astype(np.float32) @ matrix + np.float32(brightness * (1 - contrast) * mean)
    if image.dtype == np.uint8:
        return np.clip(np.round(changed), 0, 255).astype(np.uint8)
    return np.clip(changed, 0, 1)
