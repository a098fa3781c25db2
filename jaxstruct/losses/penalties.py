"""Penalties on a network's gradient by its input, one value per example.

What may be added here: a penalty at other examples (between real and generated ones, whose share is
drawn from a key that comes first).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def r1_penalty(
    judge: Callable[[jax.Array], tuple[jax.Array, Any]], x: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    """Half the squared norm of the gradient of a discriminator's logits by real examples.

        R1(x) = 1/2 |grad_x D(x)|^2

    Args:
        judge: x -> (logits [B], anything else), as `jax.grad` with has_aux takes it. Where examples
            share statistics (batch norm), the gradient is that of the sum of their logits.
        x: [B, ...] real examples, floating; the penalty's scale is that of their units.

    Returns:
        (penalty [B], (logits, anything else)): what judge returns comes from the same forward pass.

    Raises:
        ValueError: logits that are not [B].

    Source: Mescheder, Geiger & Nowozin 2018, eq. 9, whose weight is gamma.
    """

    def total(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        logits, rest = judge(x)
        if logits.shape != x.shape[:1]:
            raise ValueError(f"got logits {logits.shape} of x {x.shape}, expected {x.shape[:1]}")
        return logits.sum(), (logits, rest)

    slopes, judged = jax.grad(total, has_aux=True)(x)
    return jnp.sum(slopes**2, axis=tuple(range(1, x.ndim))) / 2, judged
