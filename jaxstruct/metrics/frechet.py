"""The Fréchet distance of two Gaussians, and the moments that make Gaussians of features.

What may be added: another distance of two sets of features. What features is the caller's to say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

_ROUNDING = 1e-3  # of a covariance's largest value: float32 leaves less, whatever the features


class Moments(NamedTuple):
    """Count, mean [D] and scatter [D, D] of features, float64 on the host.

    The scatter is the sum of (x - mean) (x - mean)^T: unlike a sum of x x^T, it loses no digits
    where the mean is large.
    """

    count: Any
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: ArrayLike) -> Moments:
        """The moments of features [N, D]. Raises ValueError for another shape, or no example."""
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"got features {x.shape}, expected [N, D] with N above 0")
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def add(self, other: Moments) -> Moments:
        """The moments of the examples of both (the pairwise update of Chan et al. 1983).

        Raises ValueError unless both have features of one width.
        """
        shapes = [np.shape(array) for m in (self, other) for array in (m.mean, m.scatter)]
        if len(shapes[0]) != 1 or shapes != 2 * [shapes[0], 2 * shapes[0]]:
            raise ValueError(
                f"got means {shapes[0]}, {shapes[2]} and scatters {shapes[1]}, {shapes[3]}, "
                "expected [D], [D] and [D, D], [D, D]"
            )
        count, apart = self.count + other.count, other.mean - self.mean
        between = self.count * other.count / count * np.outer(apart, apart)
        mean = self.mean + other.count / count * apart
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """scatter / (count - 1), [D, D]. Raises ValueError for a count of 1."""
        if self.count < 2:
            raise ValueError(f"got {self.count} example, expected two for a covariance")
        return self.scatter / (self.count - 1)


def frechet_distance(
    mean_a: ArrayLike, covariance_a: ArrayLike, mean_b: ArrayLike, covariance_b: ArrayLike
) -> float:
    """The squared Fréchet distance of two Gaussians, also called Wasserstein-2.

        d^2 = |m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    The trace of the last root is the sum of the singular values of C_a^(1/2) C_b^(1/2), so that
    singular covariances, those of fewer examples than dimensions, are as good as others. Float64
    on the host.

    Args:
        mean_a, mean_b: [D].
        covariance_a, covariance_b: [D, D], symmetric and without negative eigenvalues, but for
            rounding: what is left below 0 counts as 0.

    Returns:
        the squared distance, 0 or above, in squared units of the features.

    Raises:
        ValueError: other shapes, values that are not finite, or what is no covariance: by more than
            a thousandth of its largest value not symmetric, or with an eigenvalue below 0.

    Source: Heusel et al. 2017, eq. 6, which with Inception's features is their FID; Dowson & Landau
    1982 for Gaussians.
    """
    means = [np.asarray(mean, np.float64) for mean in (mean_a, mean_b)]
    covariances = [np.asarray(matrix, np.float64) for matrix in (covariance_a, covariance_b)]
    shapes = [array.shape for array in (*means, *covariances)]
    size = means[0].shape
    if len(size) != 1 or shapes != [size, size, 2 * size, 2 * size]:
        raise ValueError(
            f"got means {shapes[0]}, {shapes[1]} and covariances {shapes[2]}, {shapes[3]}, "
            "expected [D], [D] and [D, D], [D, D]"
        )
    if not all(np.all(np.isfinite(array)) for array in (*means, *covariances)):
        raise ValueError("got means or covariances with values that are not finite")
    root_a, root_b = (_root(matrix) for matrix in covariances)
    overlap = np.sum(np.linalg.svd(root_a @ root_b, compute_uv=False))
    spread = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * overlap
    return max(0.0, float(np.sum(np.square(means[0] - means[1])) + spread))


def _root(matrix: np.ndarray) -> np.ndarray:
    apart = np.abs(matrix - matrix.T).max(initial=0)
    if apart > _ROUNDING * np.abs(matrix).max(initial=0):
        raise ValueError(
            f"got a covariance that differs from its transpose by {apart:.3g}, expected a "
            "symmetric one"
        )
    values, vectors = np.linalg.eigh(matrix)
    if values.min(initial=0) < -_ROUNDING * np.abs(values).max(initial=0):
        raise ValueError(
            f"got a covariance with the eigenvalue {values.min():.3g}, expected none below 0"
        )
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
