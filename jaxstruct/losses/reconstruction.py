"""Distances of a reconstruction from what it should be, one value per vector.

What may be added here: another distance between vectors that an autoencoder is trained with.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstruct.losses._checks import vectors


def squared_error(prediction: ArrayLike, x: ArrayLike) -> jax.Array:
    """The squared Euclidean distance, sum_i (prediction_i - x_i)^2.

    Args:
        prediction: [..., D].
        x: [..., D].

    Returns:
        [...], float32 or wider.

    Raises:
        ValueError: unequal shapes, or scalars. TypeError: an argument is of integers.

    Source: Vincent et al. 2008, section 2.2.
    """
    prediction, x = vectors(prediction=prediction, x=x)
    return jnp.sum(jnp.square(prediction - x), axis=-1)
