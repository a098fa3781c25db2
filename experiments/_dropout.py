"""Units that are dropped by each example's own key, in a network that sees the whole batch.

What may be added: another layer that draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def by_example(keys: jax.Array) -> Callable[..., Any]:
    """An interceptor of `nn.Dropout`, for `nn.intercept_methods`: its masks are by keys [B].

    Flax draws the mask of a batch by one key, so that other numbers are drawn on other numbers of
    devices. To map the network over its images would help, but convolutions that are mapped are
    computed one by one: a step takes ten times as long.
    """
    layers = iter(range(1 << 31))  # no two layers drop alike

    def intercept(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        layer = context.module
        if not isinstance(layer, nn.Dropout) or layer.deterministic or not layer.rate:
            return call(*arguments, **options)
        (x,), number, keep = arguments, next(layers), 1 - layer.rate
        draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, number), keep, x.shape[1:])
        return jnp.where(jax.vmap(draw)(keys), x / keep, 0)

    return intercept
