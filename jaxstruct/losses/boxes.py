"""Losses of box regression.

What may be added: another loss of the differences between predicted and true boxes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstruct.losses._checks import vectors


def smooth_l1(predictions: ArrayLike, targets: ArrayLike, *, beta: float = 1.0) -> jax.Array:
    """The sum over the last axis of a loss that is quadratic near 0 and linear beyond beta.

        f(d) = d^2 / (2 beta) where |d| < beta,  |d| - beta / 2 elsewhere;   beta = 1 / sigma^2

    Args:
        predictions: [..., D]; of boxes, D = 4.
        targets: [..., D].
        beta: where f becomes linear; 0 is the absolute value. 1 in Fast R-CNN, 1/9 in the RPN of
            Faster R-CNN's code (sigma 3) and in torchvision.

    Returns:
        [...], float32 or wider.

    Raises:
        ValueError: the shapes differ, or beta is negative or not finite. TypeError: predictions or
            targets are not floating.

    Source: Girshick 2015 (Fast R-CNN), eqs. 2 and 3.
    """
    if isinstance(beta, bool) or not isinstance(beta, int | float):
        raise TypeError(f"beta is {beta!r}, expected a number")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}, expected a number from 0 on")
    predictions, targets = vectors(predictions=predictions, targets=targets)
    distance = jnp.abs(predictions - targets)
    if beta == 0:
        return jnp.sum(distance, axis=-1)
    near = 0.5 * distance * distance / beta
    return jnp.sum(jnp.where(distance < beta, near, distance - 0.5 * beta), axis=-1)
