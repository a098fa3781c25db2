"""Operations on arrays that several ops need: casts in shard_map, gathers, barriers, slices.

What may be added: another operation that does not depend on the meaning of an array.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def vary(*arrays: Any) -> Any:
    """The arrays, each cast to vary over all mesh axes of shard_map that any of them varies over.

    Returns a tuple of the given trees; None stays None. Outside shard_map nothing is cast.

    Inside shard_map a loop needs the cast of a carry that begins as a constant and then differs
    between devices. A hand-written backward pass needs it because its gradient is one device's: the
    transpose of the cast sums over devices.
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


def one_by_one(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f; vmap of it runs the examples in turn on a CPU, all together elsewhere.

    Plain vmap would run every loop until the slowest example ends, and gather from the arrays of
    all examples at once. Arguments and results are pytrees. The result has no derivative: a
    custom rule for forward or reverse mode has to wrap it.
    """

    @jax.custom_batching.custom_vmap
    def each(*arguments: Any) -> Any:
        return f(*arguments)

    @each.def_vmap
    def _(size: int, batched: Any, *arguments: Any) -> Any:
        leaves, structure = jax.tree.flatten(arguments)
        mapped = jax.tree.leaves(batched)

        def example(function: Callable[..., Any], mine: Sequence[jax.Array]) -> Any:
            rest = iter(mine)
            own = [next(rest) if m else x for x, m in zip(leaves, mapped, strict=True)]
            return function(*jax.tree.unflatten(structure, own))

        result = lax.platform_dependent(
            *(x for x, m in zip(leaves, mapped, strict=True) if m),
            cpu=lambda *many: lax.map(lambda mine: example(each, mine), many),
            default=lambda *many: jax.vmap(lambda *mine: example(f, mine))(*many),
        )
        return result, jax.tree.map(lambda _: True, result)

    return each


def traced(value: Any) -> bool:
    """Whether a number of the value, a pytree, is not known yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def take(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[index] for integers [n], none of them negative or too large: nothing is checked."""
    return values.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def barrier(arrays: Any) -> Any:
    """The arrays of a pytree, each computed once, however often it is used.

    XLA computes a cheap expression, such as the sum of many slices, again for each use: for each
    pass of a softmax, for each slice of the sum. `lax.optimization_barrier` forbids that, but for
    CPUs XLA of jax 0.10.2 drops the barrier before it decides what to compute again. On a CPU the
    barrier therefore stands in a call that may not be inlined: XLA computes the arguments of a
    call first.
    """
    one = lambda x: lax.platform_dependent(x, cpu=_called, default=lax.optimization_barrier)
    return jax.tree.map(one, arrays)


def cpu_barrier(arrays: Any) -> Any:
    """`barrier` for a program that only a CPU runs; this one takes less time to trace."""
    return jax.tree.map(_called, arrays)


def _called(array: jax.Array) -> Any:
    # One call for each array: a call of several has a tangent for all of them if one has.
    with set_xla_metadata(inlineable="false"):
        return _barrier(array)


_barrier = jax.jit(lax.optimization_barrier)


def pad(
    images: jax.Array, ends: Sequence[tuple[int, int]], size: Sequence[int], value: float = 0.0
) -> jax.Array:
    """[B, H, W, C] padded by ends[axis][0] at the start, then cut or padded to `size`."""
    axes = zip(images.shape[1:3], ends, size, strict=True)
    around = [(low, whole - n - low, 0) for n, (low, _), whole in axes]
    filling = jnp.array(value, images.dtype)
    return lax.pad(images, filling, [(0, 0, 0), *around, (0, 0, 0)])


def phases(x: jax.Array, step: int, axis: int, number: int | None = None) -> list[jax.Array]:
    """The slices x[i::step] of an axis, for i = 0 ... step - 1; step divides the axis's length.

    With a number only the first so many. The gradient of a strided slice scatters into an array of
    zeros; the gradient of these slices is a concatenation.
    """
    if step == 1:
        return [x]
    before, length, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    cells = x.reshape(*before, length // step, step, *after)
    number = step if number is None else min(number, step)
    parts = lax.split(
        lax.slice_in_dim(cells, 0, number, axis=axis + 1), (1,) * number, axis=axis + 1
    )
    return [part.reshape(*before, length // step, *after) for part in parts]
