"""What an array is inside shard_map, and picking from one: the ground that the ops share.

What may be added: another rule about arrays that says nothing of what they hold.
"""

from typing import Any

import jax
from jax import lax


def vary(*arrays: Any) -> Any:
    """Inside shard_map: the arrays, varying over every mesh axis that one of them varies over.

    A tuple of what is given, in which None stays None.

    There a loop refuses to turn a constant into what differs from device to device. A hand-written
    backward gives the gradient of one device; the cast's own transpose adds those of an operand
    that the devices share.
    """
    leaves, structure = jax.tree.flatten(arrays)
    types: list[Any] = [jax.typeof(leaf) for leaf in leaves]
    varying = [kind.manual_axis_type.varying for kind in types]
    missing = [tuple(frozenset[Any]().union(*varying) - axes) for axes in varying]
    cast = [
        lax.pcast(leaf, axes, to="varying") if axes else leaf
        for leaf, axes in zip(leaves, missing, strict=True)
    ]
    return jax.tree.unflatten(structure, cast)


def take(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[index] for integers [n], none of them negative or too large: nothing is checked."""
    return values.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
