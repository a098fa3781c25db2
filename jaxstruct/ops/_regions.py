"""What pooling and alignment of regions share: their arguments, batching and how they loop.

What may be added: a rule that every op over (features, rois) follows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks
from jaxstruct.ops._arrays import vary

Core = Callable[..., jax.Array]


def apply(core: Core, features: ArrayLike, rois: ArrayLike) -> jax.Array:
    """Checks the arguments and applies `core`, which knows the batched form alone.

    `core` takes features [B, H, W, C] and rois [B, R, 4] and returns [B, R, ...].
    """
    features, rois = _checks.floating("features", features), _checks.floating("rois", rois)
    single = features.ndim == 3 and rois.ndim == 2
    batched = features.ndim == 4 and rois.ndim == 3 and features.shape[0] == rois.shape[0]
    if not (single or batched) or rois.shape[-1] != 4:
        raise ValueError(
            f"got features {features.shape} and rois {rois.shape}, "
            "expected [H, W, C] and [R, 4], or [B, H, W, C] and [B, R, 4]"
        )
    if 0 in features.shape[-3:-1]:
        raise _checks.shape("features", features.shape, "at least one row and column")
    # Coordinates need float32: bfloat16 has no odd pixel beyond 256.
    rois = rois.astype(jnp.promote_types(rois.dtype, jnp.float32))
    varying: tuple[jax.Array, jax.Array] = vary(features, rois)
    if single:
        return core(*(array[None] for array in varying))[0]
    return core(*varying)


def over_examples(core: Core, *, share_first: bool) -> Core:
    """Returns `core`, whose arrays all begin with B, so that vmap only makes B larger.

    Plain vmap would run every loop over regions to the slowest member of the batch.

    Args:
        core: arrays [B, ...] to an array [B, ...]; examples do not meet.
        share_first: where the first array alone is not mapped, the others' mapped axis joins
            their second axis instead, so that the first, the features, is not copied.
    """
    function = jax.custom_batching.custom_vmap(core)

    @function.def_vmap
    def _(size: int, mapped: list[bool], *arrays: jax.Array) -> tuple[jax.Array, bool]:
        if share_first and not mapped[0]:
            rest = [_mapped(a, m, size) for a, m in zip(arrays[1:], mapped[1:], strict=True)]
            joined = [jnp.swapaxes(a, 0, 1) for a in rest]
            out = function(
                arrays[0], *(a.reshape(a.shape[0], size * a.shape[2], *a.shape[3:]) for a in joined)
            )
            split = out.reshape(out.shape[0], size, out.shape[1] // size, *out.shape[2:])
            return jnp.swapaxes(split, 0, 1), True
        every = [_mapped(a, m, size) for a, m in zip(arrays, mapped, strict=True)]
        out = function(*(a.reshape(size * a.shape[1], *a.shape[2:]) for a in every))
        return out.reshape(size, out.shape[0] // size, *out.shape[1:]), True

    return function


def _mapped(array: jax.Array, mapped: bool, size: int) -> jax.Array:
    return array if mapped else jnp.broadcast_to(array[None], (size, *array.shape))


def first_cells(batch: int, regions: int, cells: int) -> jax.Array:
    """[B R] int32: where each region's example begins among the cells of all examples."""
    return jnp.repeat(jnp.arange(batch, dtype=jnp.int32) * cells, regions)


def pick(regions: Any, i: jax.Array) -> Any:
    """The i-th region of a tree of arrays [N, ...], as arrays [1, ...]."""
    return jax.tree.map(lambda array: lax.dynamic_index_in_dim(array, i), regions)


def divide(array: jax.Array, count: int) -> jax.Array:
    """array / count, rounded as the division that it is.

    XLA makes a product with the reciprocal of a divisor that it knows. The quotients differ in
    their last bit, which moves an edge wherever the exact one is a whole number.
    """
    return array / lax.optimization_barrier(jnp.full_like(array, count))


def loop(
    count: int | jax.Array, step: Callable[[jax.Array, jax.Array], jax.Array], init: jax.Array
) -> jax.Array:
    """fori_loop from 0, whose index is an int32 with 64-bit types, too."""
    return lax.fori_loop(jnp.int32(0), jnp.asarray(count, jnp.int32), step, init)
