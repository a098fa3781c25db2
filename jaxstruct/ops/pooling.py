"""Pooling over the windows of an image. What may be added: other functions of a window."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _bands, _checks


def max_pool(
    x: ArrayLike,
    window: int | tuple[int, int],
    *,
    stride: int | tuple[int, int],
    padding: str | int | tuple[int, int] = "VALID",
) -> jax.Array:
    """Max pooling: the largest value of each window.

        out[o] = max over t in 0 .. window - 1 of  x[stride o + t - low]

    along both axes; what is outside of the image counts as minus infinity. The gradient goes to the
    first of the largest values, row by row, as in PyTorch. Differentiable in both modes.

    A window with a NaN gives NaN, on a CPU with the gradient of its last one. A CPU compares values
    in pairs, because XLA's pooling has a gradient there that is ten times slower.

    Args:
        x: [H, W, C] or [B, H, W, C].
        window: an integer for both axes, or (down, across).
        stride: likewise.
        padding: `low`, an integer for both axes or (down, across), and as much at the end; "VALID"
            is 0; "SAME" is, for ceil(H / stride) rows, half of what they need, rounded down.

    Returns:
        [H', W', C] or [B, H', W', C], in the dtype of x.

    Raises:
        ValueError: another shape, a window that may see nothing of the image, or options out of
        their range. TypeError: x is not floating, or an option is of another type.

    Source: the equation above; which of equal values counts is torch.nn.functional.max_pool2d's.
    """
    x = _checks.images("x", x)
    size, step = _checks.pair("window", window), _checks.pair("stride", stride)
    images = x if x.ndim == 4 else x[None]
    down, across = _checks.padding(padding, images.shape[1:3], size, step)
    if any(max(ends) >= k for ends, k in zip((down, across), size, strict=True)):
        raise ValueError(f"padding is {padding!r}, expected less than the window of {window}")
    windows = _Windows(size, step, (down, across))
    if min(windows.number(images)) < 1:
        raise ValueError(
            f"got window {window} and padding {padding!r} for x {x.shape}: nothing is left of the "
            "result, expected a smaller window"
        )
    out = _form(windows)(images)
    return out if x.ndim == 4 else out[0]


def adaptive_mean_pool(x: ArrayLike, size: int | tuple[int, int]) -> jax.Array:
    """The mean of each cell of a grid that covers the image, whatever its size.

        out[i] = mean of x[floor(i H / size)] ... x[ceil((i + 1) H / size) - 1]

    along both axes. Cells overlap by one where size does not divide H, and repeat where size is
    larger.

    Args:
        x: [H, W, C] or [B, H, W, C]. A NaN or infinity reaches the means of its own cells alone.
        size: of the result, an integer for both axes or (down, across).

    Returns:
        [size, size, C] or [B, size, size, C], in the dtype of x.

    Raises:
        ValueError: another shape, or size is below 1. TypeError: x is not floating, or size no
        integer.

    Source: torch.nn.functional.adaptive_avg_pool2d, in front of the linear layers of torchvision's
    VGG.
    """
    x = _checks.images("x", x)
    means = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, number in enumerate(_checks.pair("size", size), x.ndim - 3):
        means = _bands.multiply(_cells(x.shape[axis], number), means, axis)
    return means.astype(x.dtype)


class _Windows(NamedTuple):
    size: tuple[int, int]
    stride: tuple[int, int]
    ends: tuple[tuple[int, int], tuple[int, int]]

    def number(self, images: jax.Array) -> list[int]:
        """How many there are along each axis."""
        axes = zip(images.shape[1:3], self.size, self.stride, self.ends, strict=True)
        return [(n + sum(ends) - k) // s + 1 for n, k, s, ends in axes]


_FEW_TAPS = 4  # of a window or a step, for which rows and columns apart take more memory


@functools.lru_cache(maxsize=256)
def _form(windows: _Windows) -> Callable[[jax.Array], jax.Array]:
    compared = functools.partial(_compared, windows)
    reduced = functools.partial(_reduced, windows)
    return jax.jit(lambda x: lax.platform_dependent(x, cpu=compared, default=reduced))


def _reduced(windows: _Windows, x: jax.Array) -> jax.Array:
    """XLA's own."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, *windows.size, 1),
        (1, *windows.stride, 1),
        ((0, 0), *windows.ends, (0, 0)),
    )


@functools.partial(jax.checkpoint, static_argnums=0, prevent_cse=False)
def _compared(windows: _Windows, x: jax.Array) -> jax.Array:
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


def _largest_tap(windows: _Windows, around: jax.Array, number: Sequence[int]) -> jax.Array:
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


def _cells(n: int, m: int) -> np.ndarray:
    """[m, n]: the weights of each of m means."""
    i, place = np.arange(m)[:, None], np.arange(n)
    inside = (place >= i * n // m) & (place < -(-(i + 1) * n // m))
    return inside / inside.sum(1, keepdims=True)
