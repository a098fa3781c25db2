"""Weights of classes by how often they occur, on the host.

What may be added: another rule that makes weights of counts.
"""

from __future__ import annotations

import numpy as np


def median_frequency_weights(counts: np.ndarray, *, power: float = 1.0) -> np.ndarray:
    """Weights by median frequency balancing: rare classes weigh more, the median class 1.

    The frequency of a class is its share of the labelled pixels in the images that show it, and its
    weight is (median of all frequencies / frequency) ** power. A class that no image shows has no
    frequency, and the weight 0. In a loss, both the total and the count are weighted.

    Args:
        counts: [N, C] integers, the pixels of each class in each image (`data.pixel_counts`).
        power: 1 is the paper's; 0.5, the square root, is milder; 0 weighs all alike.

    Returns:
        [C] float64.

    Raises:
        ValueError: counts of another shape or below 0, no pixel at all, or a power below 0.

    Source: Eigen & Fergus 2015, on semantic labels: median freq / freq(c).
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or np.min(counts, initial=0) < 0:
        raise ValueError(f"got counts {counts.shape}, expected [N, C], none of them below 0")
    if not counts.any():
        raise ValueError("no pixel has a class, so that no class has a frequency")
    if not power >= 0:
        raise ValueError(f"power is {power}, expected at least 0")
    shown = counts > 0
    pixels = counts.sum(0)
    around = (shown * counts.sum(1, keepdims=True)).sum(0)
    occurs = pixels > 0
    frequency = pixels[occurs] / around[occurs]
    weights = np.zeros(counts.shape[1])
    weights[occurs] = (np.median(frequency) / frequency) ** power
    return weights
