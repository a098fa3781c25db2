"""Which examples of a set are nearest: whether samples are copies of what was trained on.

What may be added here: another distance.
"""

import numpy as np
from numpy.typing import NDArray


def nearest_examples(points: NDArray, examples: NDArray, *, chunk: int = 5000) -> NDArray[np.int64]:
    """The example that is nearest to each point, by the squared Euclidean distance.

    Args:
        points: [M, ...], floating in [0, 1], or uint8, which is divided by 255.
        examples: [N, ...] of the same size each, floating or uint8 likewise.
        chunk: examples at a time: memory for [M, chunk] values is needed.

    Returns:
        [M] indices into the examples; the first of several that are equally near.

    Raises:
        ValueError: no example, or sizes that differ.

    Source: Goodfellow et al. 2014, figure 2, shows the nearest example beside each sample.
    """
    if not len(examples) or points.shape[1:] != examples.shape[1:]:
        raise ValueError(
            f"got points {points.shape} and examples {examples.shape}, expected at least one "
            "example, of the points' size"
        )
    x = _vectors(points)
    smallest, found = np.full(len(x), np.inf, np.float32), np.zeros(len(x), int)
    for first in range(0, len(examples), chunk):
        y = _vectors(examples[first : first + chunk])
        squares = np.sum(y**2, 1)[None] - 2 * x @ y.T  # and |x|^2, the same for all
        at = np.argmin(squares, 1)
        least = squares[np.arange(len(x)), at]
        nearer = least < smallest
        smallest[nearer], found[nearer] = least[nearer], first + at[nearer]
    return found


def _vectors(values: NDArray) -> NDArray:
    x = values.reshape(len(values), -1)
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x
