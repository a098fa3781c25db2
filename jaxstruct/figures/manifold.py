"""Where a latent space is sampled for a picture of it.

What may be added here: other walks through a latent space (lines between two points).
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def manifold_coordinates(n: int) -> NDArray[np.float32]:
    """Points of a two-dimensional latent space that cut its prior N(0, I) into equal shares.

        z = (Phi^-1(u), Phi^-1(v)),   u, v = (i + 1/2) / n,   i = 0 .. n - 1

    with Phi the distribution function of N(0, 1). As a picture: x grows to the right and y
    grows upwards, so that row 0, drawn at the top, has the largest y.

    Args:
        n: points along each axis.

    Returns:
        [n, n, 2] float32: [row, column] -> (x, y).

    Raises:
        ValueError: n is below 1.

    Source: Kingma & Welling 2014, figure 4.
    """
    if n < 1:
        raise ValueError(f"got n={n}, expected at least 1")
    # Centres of cells: the borders of the unit square lie at infinity.
    ticks = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)], np.float32)
    return np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1)
