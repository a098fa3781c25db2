"""Forms of convolution: products of matrices, and sums of shifted images.

What may be added: another form of the same sum, and where it is the fastest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxstruct.ops import _arrays
from jaxstruct.ops._cpu.winograd import best_tile, winograd
from jaxstruct.ops._settings import Pair, Setting

Form = Callable[[Setting, jax.Array, jax.Array], jax.Array]

_LARGEST = 2**26  # numbers of the unrolled images: 256 MiB of float32
_MOST_TAPS = 49  # of a kernel, or pixels of a step it sees, that the program has one by one
_BANDS = 8  # of rows, whose gradients are added up
_FEWEST_CHANNELS = 32  # of a kernel that is moved into the channels


def choose(setting: Setting, x: tuple[int, ...], kernel: tuple[int, ...]) -> Form | None:
    """The fastest form forward and backward together, None for XLA's convolution.

    benchmarks/results/conv.md has the timings of the forms that lose.
    """
    batch, (high, wide) = x[0], setting.number(x, kernel)
    reach = ((k - 1) * d + 1 for k, d in zip(kernel[:2], setting.dilation, strict=True))
    few_taps = math.prod(map(max, kernel[:2], map(min, setting.stride, reach))) <= _MOST_TAPS
    if setting.groups > 1:
        depthwise = kernel[2] == 1 and kernel[3] == setting.groups
        return by_tap if depthwise and few_taps else None
    if kernel[:2] == (1, 1):
        return cut_apart
    if setting.stride == (1, 1):
        down, across = setting.dilation
        number = -(-high // down), -(-wide // across)
        tile, products = best_tile(batch * down * across, number, kernel, setting.precision)
        within = math.prod(sum(b - a for a, b, _ in axis) for axis in _within(setting, x, kernel))
        if tile and few_taps and batch * within < products:
            return moved
        if tile:
            return functools.partial(by_batch, tile)
    elif setting.dilation == (1, 1) and all(
        k >= 2 * s for k, s in zip(kernel[:2], setting.stride, strict=True)
    ):
        # A smaller kernel would be filled up with too many zeros.
        down, across = _taps(setting.stride, kernel)
        taps = (down, across, kernel[2] * math.prod(setting.stride), kernel[3])
        tile, _ = best_tile(batch, (high, wide), taps, setting.precision)
        if tile and kernel[2] >= _FEWEST_CHANNELS:
            return functools.partial(by_depth, tile)
    apart = all(k <= s for k, s in zip(kernel[:2], setting.stride, strict=True))
    if apart and setting.dilation == (1, 1) and math.prod(setting.stride) > _MOST_TAPS:
        return cut_apart
    unrolled = batch * high * wide * math.prod(kernel[:3])
    return gathered if few_taps and unrolled <= _LARGEST else None


def _taps(stride: Pair, kernel: tuple[int, ...]) -> Pair:
    """What the kernel's size becomes where a step is one pixel."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _seen(setting: Setting, x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    """[B, H', W', C]: the pixels that each tap of the kernel sees, row by row."""
    high, wide = setting.number(x.shape, kernel.shape)
    return [
        phase[:, down : down + high, across : across + wide]
        for phase, (down, across) in _phases(setting, x, kernel)
    ]


def _phases(
    setting: Setting, x: jax.Array, kernel: jax.Array
) -> list[tuple[jax.Array, tuple[int, int]]]:
    """For each tap, row by row: the pixels a step apart that it sees, and where it begins there."""
    (high, wide), (s, t) = setting.number(x.shape, kernel.shape), setting.stride
    down, across = (
        [i * d for i in range(k)] for k, d in zip(kernel.shape[:2], setting.dilation, strict=True)
    )
    size = (high + down[-1] // s) * s, (wide + across[-1] // t) * t
    whole = _arrays.pad(x, setting.ends, size)
    rows = _arrays.phases(whole, s, 1, down[-1] + 1)
    phases = {i: _arrays.phases(rows[i], t, 2, across[-1] + 1) for i in {i % s for i in down}}
    return [(phases[i % s][j % t], (i // s, j // t)) for i in down for j in across]


def gathered(setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """All pixels that a result sees side by side, and one product with the kernel."""
    seen = jnp.concatenate(_seen(setting, x, kernel), -1)
    rows = seen.reshape(-1, math.prod(kernel.shape[:3]))
    out = jnp.dot(rows, kernel.reshape(rows.shape[1], -1), precision=setting.precision)
    return out.reshape(*seen.shape[:3], kernel.shape[3])


def _within(
    setting: Setting, x: tuple[int, ...], kernel: tuple[int, ...]
) -> list[list[tuple[int, int, int]]]:
    """Of each axis, for each tap: the first result that sees the image, the end, and how far off.

    With a stride of 1. A tap that sees none of it has no results, from 0 to 0.
    """
    found = []
    for axis, number in enumerate(setting.number(x, kernel)):
        offs = [tap * setting.dilation[axis] - setting.ends[axis][0] for tap in range(kernel[axis])]
        size = x[1 + axis]
        spans = [(max(0, -off), min(number, size - off), off) for off in offs]
        found.append([(a, b, off) if a < b else (0, 0, off) for a, b, off in spans])
    return found


def moved(setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A product for each tap, of the part of the image that it sees, moved to where it is seen.

    Taps that are as far apart as the image is wide see little of it; the rest would be zeros.
    """
    high, wide = setting.number(x.shape, kernel.shape)
    rows, columns = _within(setting, x.shape, kernel.shape)
    total = jnp.zeros((x.shape[0], high, wide, kernel.shape[3]), x.dtype)
    for i, (top, bottom, down) in enumerate(rows):
        for j, (left, right, across) in enumerate(columns):
            seen = x[:, top + down : bottom + down, left + across : right + across]
            if not seen.size:
                continue
            out = jnp.dot(seen, kernel[i, j], precision=setting.precision)
            around = ((0, 0), (top, high - bottom), (left, wide - right), (0, 0))
            total = total + jnp.pad(out, around)
    return total


def cut_apart(setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Windows that share no pixel: the image cut into them, and one product with the kernel."""
    (high, wide), (s, t) = setting.number(x.shape, kernel.shape), setting.stride
    whole = _arrays.pad(x, setting.ends, (high * s, wide * t))
    cells = whole.reshape(x.shape[0], high, s, wide, t, x.shape[3])
    seen = cells[:, :, : kernel.shape[0], :, : kernel.shape[1]].transpose(0, 1, 3, 2, 4, 5)
    rows = seen.reshape(-1, math.prod(kernel.shape[:3]))
    out = jnp.dot(rows, kernel.reshape(rows.shape[1], -1), precision=setting.precision)
    return out.reshape(x.shape[0], high, wide, kernel.shape[3])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def by_tap(setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depthwise: a sum of shifted images, since no channel sees another to be multiplied with."""
    return _weighted(_seen(setting, x, kernel), _taps_of(kernel))


@functools.partial(by_tap.defjvp, symbolic_zeros=True)
def _(
    setting: Setting, primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]
) -> tuple[jax.Array, Any]:
    (x, kernel), (dx, change) = primals, tangents
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(_spread(setting, dx, kernel))
    if not isinstance(change, SymbolicZero):
        seen = _seen(setting, x, kernel)
        parts.append(_weighted(seen, [_in_bands(tap, seen[0].shape) for tap in _taps_of(change)]))
    return by_tap(setting, x, kernel), functools.reduce(jnp.add, parts)


def _taps_of(kernel: jax.Array) -> jax.Array:
    """A depthwise kernel [kh, kw, 1, C] as [kh kw, 1, 1, 1, C]."""
    return kernel.reshape(-1, 1, 1, 1, kernel.shape[3])


def _weighted(seen: Sequence[jax.Array], taps: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, map(jnp.multiply, seen, taps))


def _spread(setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`by_tap` of x, with every weighted pixel moved to where it is seen, in one larger image.

    The gradient of x then is a sum of parts of one padded image, as `by_tap` is: about three times
    as fast as the gradient of `by_tap`'s own sum, whose parts are padded one by one.
    """
    high, wide = setting.number(x.shape, kernel.shape)
    seen = _phases(setting, x, kernel)
    rows, columns = seen[-1][1]  # how far on the last tap begins
    sums: dict[tuple[int, int], jax.Array] = {}
    for (phase, start), tap in zip(seen, _taps_of(kernel), strict=True):
        weighted = phase * tap
        sums[start] = sums[start] + weighted if start in sums else weighted
    zero = jnp.zeros((), x.dtype)
    moved = []
    for (down, across), total in sums.items():
        ends = (0, 0, 0), (rows - down, down, 0), (columns - across, across, 0), (0, 0, 0)
        moved.append(lax.pad(total, zero, ends))
    return functools.reduce(jnp.add, moved)[:, rows : rows + high, columns : columns + wide]


def _in_bands(tap: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[1, 1, 1, C] as [B, H, W, C], put together of bands of rows that are all the same.

    The gradient by the tap adds the bands up before it sums over what is left: additions of images,
    where a sum over the whole image runs along the channels again for each pixel, and takes about
    ten times as long.
    """
    batch, high, wide, channels = shape
    rows = -(-high // _BANDS)
    band = _arrays.cpu_barrier(jnp.broadcast_to(tap, (batch, rows, wide, channels)))
    bands = [band[:, : min(rows, high - start)] for start in range(0, high, rows)]
    return jnp.concatenate(bands, 1)


def by_batch(tile: int, setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Winograd's. With a dilation, the pixels that see each other become an image of their own."""
    if setting.dilation == (1, 1):
        return winograd(tile, x, kernel, setting.ends, setting.precision)
    (high, wide), (down, across) = setting.number(x.shape, kernel.shape), setting.dilation
    rows, columns = (
        -(-n // d) + k - 1
        for n, d, k in ((high, down, kernel.shape[0]), (wide, across, kernel.shape[1]))
    )
    whole = _arrays.pad(x, setting.ends, (rows * down, columns * across))
    apart = whole.reshape(x.shape[0], rows, down, columns, across, x.shape[3])
    apart = apart.transpose(0, 2, 4, 1, 3, 5).reshape(-1, rows, columns, x.shape[3])
    out = winograd(tile, apart, kernel, ((0, 0), (0, 0)), setting.precision)
    _, rows, columns, depth = out.shape
    out = out.reshape(-1, down, across, rows, columns, depth).transpose(0, 3, 1, 4, 2, 5)
    return out.reshape(-1, rows * down, columns * across, depth)[:, :high, :wide]


def by_depth(tile: int, setting: Setting, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Winograd's after a stride: the pixels of a step become channels of one."""
    (high, wide), channels = setting.number(x.shape, kernel.shape), x.shape[3]
    (s, t), (down, across) = setting.stride, _taps(setting.stride, kernel.shape)
    rows, columns = high + down - 1, wide + across - 1
    whole = _arrays.pad(x, setting.ends, (rows * s, columns * t))
    deep = whole.reshape(-1, rows, s, columns, t, channels).transpose(0, 1, 3, 2, 4, 5)
    more = (down * s - kernel.shape[0], across * t - kernel.shape[1])
    taps = jnp.pad(kernel, [(0, more[0]), (0, more[1]), (0, 0), (0, 0)])
    taps = taps.reshape(down, s, across, t, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    taps = taps.reshape(down, across, s * t * channels, -1)
    deep = deep.reshape(-1, rows, columns, s * t * channels)
    return winograd(tile, deep, taps, ((0, 0), (0, 0)), setting.precision)
