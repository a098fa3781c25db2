"""What ops demand of their arguments: kind of dtype, rank, last dimension, and static options."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_KINDS: dict[str, Any] = {"floating": jnp.floating, "integer": jnp.integer, "boolean": jnp.bool_}


def array(
    name: str, value: ArrayLike, kind: str, expected: str, *, ranks: range, last: int | None = None
) -> jax.Array:
    """Returns the value as an array: of a kind ("floating", "integer", "boolean") and a rank.

    Raises TypeError for another kind, ValueError for another shape; `expected` is the shape as the
    documentation writes it.
    """
    result = jnp.asarray(value)
    if not jnp.issubdtype(result.dtype, _KINDS[kind]):
        article = "an" if kind == "integer" else "a"
        raise TypeError(f"{name} has dtype {result.dtype}, expected {article} {kind} dtype")
    if result.ndim not in ranks or (last is not None and result.shape[-1] != last):
        raise ValueError(f"{name} has shape {result.shape}, expected {expected}")
    return result


def leading(expected: str, **shapes: tuple[int, ...]) -> None:
    """Raises ValueError unless the shapes are equal; `expected` names what the arguments share."""
    if len(set(shapes.values())) > 1:
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"got {given}, expected {expected}")


def number(name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """Returns a static number in [low, high]. Raises TypeError for an array, ValueError outside."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} is {value!r}, expected a number that is known when tracing")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, expected a number in [{low}, {high}]")
    return float(value)


def whole(name: str, value: Any, low: int) -> int:
    """Returns a static integer of at least `low`. Raises TypeError and ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}, expected an integer that is known when tracing")
    if value < low:
        raise ValueError(f"{name} is {value!r}, expected an integer of at least {low}")
    return int(value)
