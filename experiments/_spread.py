"""Which images of a set are shown or measured, where not all of them are.

What may be added: another choice.
"""

from __future__ import annotations

import numpy as np


def spread(size: int, count: int) -> np.ndarray:
    """So many indices of a set, or all of a smaller one, evenly spaced: int64 [count]."""
    return np.linspace(0, size - 1, min(count, size)).round().astype(int)
