"""scikit-learn's digits: the set `digits`, and what the sets in MNIST's format are imitated of.

What may be added: nothing.
"""

from __future__ import annotations

import numpy as np

CLASSES = tuple("0123456789")

TRAIN = 1437
"""How many of the 1,797 digits, in their order, are the train split."""


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """The digits, uint8 [1797,8,8], 0..16 scaled to 0..255, and their labels, uint8 [1797]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.uint8)
