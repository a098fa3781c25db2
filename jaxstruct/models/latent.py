"""Vectors of a latent space: lines between them, sums of them, directions towards classes.

What may be added here: another path through a latent space, as a function of vectors.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def latent_lines(points: ArrayLike, steps: int) -> jax.Array:
    """Straight lines from each vector to the next, in equal steps.

    Args:
        points: [..., P, latent], at least two in a row.
        steps: vectors on each line, with both its ends.

    Returns:
        [..., (P - 1) (steps - 1) + 1, latent]; lines share the ends at which they meet.

    Raises:
        ValueError: fewer than two points or steps.

    Source: Goodfellow et al. 2014, figure 3; Radford et al. 2016, figure 4.
    """
    z = jnp.asarray(points)
    if z.ndim < 2 or z.shape[-2] < 2 or steps < 2:
        raise ValueError(f"got points {z.shape} and {steps} steps, expected at least two of each")
    lines = [
        jnp.linspace(z[..., i, :], z[..., i + 1, :], steps, axis=-2) for i in range(z.shape[-2] - 1)
    ]
    return jnp.concatenate([lines[0], *(line[..., 1:, :] for line in lines[1:])], axis=-2)


def latent_sum(
    key: jax.Array, a: ArrayLike, b: ArrayLike, c: ArrayLike, *, jitter: float = 0.25
) -> jax.Array:
    """The sum mean(a) - mean(b) + mean(c), with uniform noise around it.

    Args:
        key: of the noise.
        a: [n, latent], any number of vectors; likewise b and c.
        b: the vectors whose mean is taken away.
        c: the vectors whose mean is added.
        jitter: the noise lies in [-jitter, jitter].

    Returns:
        [3, 3, latent]: the sum alone in the middle, with noise around it.

    Source: Radford et al. 2016, section 6.3.2.
    """
    a, b, c = (jnp.asarray(value) for value in (a, b, c))
    total = a.mean(axis=0) - b.mean(axis=0) + c.mean(axis=0)
    noise = jax.random.uniform(key, (3, 3, len(total)), minval=-jitter, maxval=jitter)
    return jnp.broadcast_to(total, noise.shape) + noise.at[1, 1].set(0.0)


def class_vectors(z: jax.Array, scores: np.ndarray, top: int) -> jax.Array:
    """The latent vectors whose images are most of one class, and of no other.

    The highest scores of a class alone are those of the strangest images, whose features are large.

    Args:
        z: [N, latent].
        scores: [N, K], of the images that the vectors give: higher is more of the class.
        top: vectors of each class.

    Returns:
        [K, top, latent]: those whose score is above the best other class's the most, in order.
    """
    others = [np.delete(scores, k, axis=1).max(axis=1) for k in range(scores.shape[1])]
    margins = scores - np.stack(others, axis=1)
    return z[np.argsort(-margins, axis=0)[:top].T]


def class_directions(vectors: jax.Array) -> jax.Array:
    """The directions in which vectors move towards classes.

    Args:
        vectors: [K, n, latent], some of each class, as `class_vectors` gives them.

    Returns:
        [K, latent]: from the mean over all classes to each class's mean.
    """
    means = vectors.mean(axis=1)
    return means - means.mean(axis=0, keepdims=True)
