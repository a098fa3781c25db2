"""Max pooling by comparisons of shifted images.

What may be added: another order of the comparisons.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstruct.ops import _arrays
from jaxstruct.ops._settings import Windows

_FEW_TAPS = 4  # of a window or a step, for which rows and columns apart take more memory


@functools.partial(jax.checkpoint, static_argnums=0, prevent_cse=False)
def compared(windows: Windows, x: jax.Array) -> jax.Array:
    """Comparisons of shifted images.

    The gradient compares again, which is cheaper than to keep the comparisons.
    """
    number = windows.number(x)
    axes = list(zip((1, 2), windows.size, windows.stride, number, strict=True))
    size = [(n + (window - 1) // step) * step for _, window, step, n in axes]
    around = _arrays.pad(x, windows.ends, size, -jnp.inf)
    if math.prod(map(max, windows.size, windows.stride)) <= _FEW_TAPS:
        return _largest_tap(windows, around, number)
    for axis, window, step, n in reversed(axes):
        around = _largest_along(around, axis, window, step, n)
    return around


def _largest_tap(windows: Windows, around: jax.Array, number: Sequence[int]) -> jax.Array:
    """The first values of all windows, then all second ones where they are larger, and so on."""
    (s, t), (high, wide) = windows.stride, number
    phases = [_arrays.phases(row, t, 2) for row in _arrays.phases(around, s, 1)]
    taps = [
        phases[i % s][j % t][:, i // s : i // s + high, j // t : j // t + wide]
        for i, j in np.ndindex(windows.size)
    ]
    return functools.reduce(_larger, taps)


def _largest_along(x: jax.Array, axis: int, window: int, stride: int, number: int) -> jax.Array:
    """The largest value of each of `number` windows along an axis, whose length the stride divides.

    A window is a row of whole strides and a part of the next one. The comparisons are as many as
    the logarithms of the row's length and of the stride.
    """
    whole, part = divmod(window, stride)
    before, length, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    strides = x.reshape(*before, length // stride, stride, *after)
    found = []
    if whole:
        found.append(_largest_of_row(_largest_of_axis(strides, axis + 1), axis, whole, number))
    if part:
        last = lax.slice_in_dim(strides, whole, whole + number, axis=axis)
        last = lax.slice_in_dim(last, 0, part, axis=axis + 1)
        found.append(_largest_of_axis(last, axis + 1))
    return functools.reduce(_larger, found)


def _largest_of_axis(x: jax.Array, axis: int) -> jax.Array:
    """[..., n, ...] to [..., ...]: compares neighbours until one value is left."""
    while x.shape[axis] > 1:
        if x.shape[axis] % 2:
            ends = [(0, int(i == axis), 0) for i in range(x.ndim)]
            x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ends)
        x = _larger(*_arrays.phases(x, 2, axis))
    return x.reshape(*x.shape[:axis], *x.shape[axis + 1 :])


def _largest_of_row(x: jax.Array, axis: int, size: int, number: int) -> jax.Array:
    """The largest of x[o] ... x[o + size - 1], o below `number`; each step doubles the row."""
    reach = 1
    while reach < size:
        step = min(reach, size - reach)
        n = x.shape[axis] - step
        first, second = (lax.slice_in_dim(x, low, low + n, axis=axis) for low in (0, step))
        x = _larger(first, second)
        reach += step
    return lax.slice_in_dim(x, 0, number, axis=axis)


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    """The first one of two equal values, the second one if it is NaN, and so their gradients."""
    return jnp.where((second > first) | jnp.isnan(second), second, first)
