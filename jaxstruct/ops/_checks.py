"""Checks of the ops' arguments: dtypes, shapes and options. No check reads the values of an array.

An error names the argument, what was given and what was expected: "NAME has dtype D, expected a
KIND dtype" (TypeError), "NAME has shape S, expected T", "NAME is V, expected ..." for an option,
and "got A S and B T, expected ..." where several arguments do not fit together.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]

_KINDS: dict[str, Any] = {"floating": jnp.floating, "integer": jnp.integer, "boolean": jnp.bool_}


def shape(name: str, given: Sequence[int], expected: str) -> ValueError:
    """The error that an array has another shape than `expected`, which is as documented."""
    return ValueError(f"{name} has shape {tuple(given)}, expected {expected}")


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
        raise shape(name, result.shape, expected)
    return result


def images(name: str, value: ArrayLike) -> jax.Array:
    """Returns images [H, W, C] or [B, H, W, C], floating, with a row and a column at least."""
    result = floating(name, value)
    if result.ndim not in (3, 4) or 0 in result.shape[-3:-1]:
        raise shape(name, result.shape, "[H, W, C] or [B, H, W, C], with H, W above 0")
    return result


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Raises ValueError unless the value is one of those that are known."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, known))}")


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


def floating(name: str, array: ArrayLike) -> jax.Array:
    """Returns the array; raises TypeError unless its dtype is a floating one."""
    value = jnp.asarray(array)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {value.dtype}, expected a floating dtype")
    return value


def positive(name: str, value: Any) -> float:
    """Returns a finite Python number above 0 as a float."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} is a traced array, expected a number that is known when tracing")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number above 0")
    return number


def integer(name: str, value: Any, *, least: int) -> int:
    """Returns a Python integer that is at least `least`."""
    if not _is_integer(value):
        raise TypeError(f"{name} is {value!r}, expected an integer that is known when tracing")
    if value < least:
        raise ValueError(f"{name} is {value!r}, expected an integer of at least {least}")
    return int(value)


def pair(name: str, value: Any, *, least: int = 1) -> tuple[int, int]:
    """Returns (height, width) of an integer, which stands for both, or of a pair."""
    both = (value, value) if _is_integer(value) else value
    if not isinstance(both, (tuple, list)) or not all(_is_integer(v) for v in both):
        raise TypeError(f"{name} is {value!r}, expected an integer or a pair of integers")
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"{name} is {value!r}, expected one or two integers, {least} at least")
    return int(both[0]), int(both[1])


def padding(
    value: Any, size: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> list[tuple[int, int]]:
    """How much is put before and after each axis.

    "SAME", "VALID", an integer, a pair of them, or a pair of (before, after).
    """
    if isinstance(value, str):
        padding_name(value)
        return lax.padtype_to_pads(size, window, stride, value)
    if isinstance(value, tuple | list) and any(isinstance(v, tuple | list) for v in value):
        if len(value) != 2:
            raise ValueError(f"padding is {value!r}, expected (before, after) of two axes")
        return [pair("padding", v, least=0) for v in value]
    return [(p, p) for p in pair("padding", value, least=0)]


def padding_name(value: str) -> None:
    """Raises ValueError unless the value is "SAME" or "VALID"."""
    if value not in ("SAME", "VALID"):
        raise ValueError(f"padding is {value!r}, expected 'SAME', 'VALID' or integers")


def positive_numbers(name: str, values: Any, count: int | None = None) -> list[float]:
    """Returns finite numbers above 0, so many of them, or at least one."""
    found = [number(f"one of {name}", value) for value in values]
    right = len(found) == count if count else found
    if not right or not all(0 < value < math.inf for value in found):
        expected = f"{count} positive numbers" if count else "at least one, and positive"
        raise ValueError(f"{name} are {values!r}, expected {expected}")
    return found


def boolean(name: str, value: Any) -> bool:
    """Returns True or False, and takes nothing else for them."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return value


def image_and_kernel(
    x: ArrayLike, kernel: ArrayLike, groups: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Returns images [H, W, C] or [B, H, W, C] and [kh, kw, C / groups, D] in one dtype."""
    x, kernel = floating("x", x), floating("kernel", kernel)
    if (
        x.ndim not in (3, 4)
        or kernel.ndim != 4
        or x.shape[-1] != kernel.shape[2] * groups
        or kernel.shape[3] % groups
        or 0 in (*x.shape[-3:], *kernel.shape)
    ):
        raise ValueError(
            f"got x {x.shape} and kernel {kernel.shape}, expected [H, W, C] or [B, H, W, C] "
            f"and [kh, kw, C{f' / {groups}' if groups > 1 else ''}, D], none of them empty"
            f"{f', and D a multiple of {groups}' if groups > 1 else ''}"
        )
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return x.astype(dtype), kernel.astype(dtype)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
