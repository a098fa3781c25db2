"""What every loss demands of its arguments: shapes and dtypes, nothing of values."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def floating(**arrays: ArrayLike) -> list[jax.Array]:
    """Returns the arrays, of any equal shape, in the floating dtype they promote to.

    Booleans are taken as 0 and 1. Raises TypeError for other dtypes: integers are most often
    pixels in 0..255, for which every likelihood here would be silently wrong. Raises ValueError
    for unequal shapes.
    """
    values = {name: jnp.asarray(array) for name, array in arrays.items()}
    for name, value in values.items():
        if not (jnp.issubdtype(value.dtype, jnp.floating) or value.dtype == jnp.bool_):
            raise TypeError(f"{name} has dtype {value.dtype}, expected a floating dtype")
    if len({value.shape for value in values.values()}) > 1:
        given = ", ".join(f"{name} {value.shape}" for name, value in values.items())
        raise ValueError(f"got {given}, expected equal shapes")
    dtype = jnp.result_type(*values.values())
    if dtype == jnp.bool_:
        dtype = jnp.dtype(jnp.float32)
    return [value.astype(dtype) for value in values.values()]


def vectors(**arrays: ArrayLike) -> list[jax.Array]:
    """Returns the arrays [..., D] in float32 or wider: a loss is never summed up in bfloat16.

    Raises TypeError and ValueError as `floating` does, and ValueError for a scalar.
    """
    values = floating(**arrays)
    if values[0].ndim == 0:
        raise ValueError(f"got {' and '.join(arrays)} of shape (), expected [..., D]")
    return [value.astype(jnp.promote_types(value.dtype, jnp.float32)) for value in values]
