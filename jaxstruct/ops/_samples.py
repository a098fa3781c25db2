"""The samples of ROIAlign: where they are, and the cells around them with their weights.

What may be added: another layout of the samples.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxstruct.ops import _regions


class Options(NamedTuple):
    height: int
    width: int
    scale: float
    ratio: int
    aligned: bool


class _Axis(NamedTuple):
    """N regions' samples along one axis: begin[j] + (i + 1/2) * bin / divisor in bin j of T."""

    begin: jax.Array  # [N, T]
    bin: jax.Array  # [N]
    samples: jax.Array  # [N], int32
    divisor: jax.Array  # [N], the samples again, at least 1
    known: jax.Array  # [N]
    near: jax.Array  # [N, T], where a sample of the bin is that interpolates cells, if there is one
    some: jax.Array  # [N, T], whether there is

    def at(self, i: jax.Array) -> jax.Array:
        """[U, N, T]: where the samples i [U, N, T or 1] of each bin are."""
        within = (i.astype(self.bin.dtype) + 0.5) * self.bin[None, :, None]
        within /= self.divisor[None, :, None]
        # Or the cell and its weight might be those of two positions that differ in the last bit.
        within = _rounded(within, jnp.broadcast_to(self.known[None, :, None], within.shape))
        return self.begin[None] + within


class Samples(NamedTuple):
    first: jax.Array  # [N]: where the region's example begins among all cells
    y: _Axis
    x: _Axis

    def number(self) -> jax.Array:
        """[N]: the samples of a bin."""
        return self.y.samples * self.x.samples

    def filled(self) -> jax.Array:
        """[N Ty Tx, 1]: which bins have a cell."""
        return (self.y.some[:, :, None] & self.x.some[:, None, :]).reshape(-1, 1)


def _axis(
    low: jax.Array, high: jax.Array, known: jax.Array, size: int, count: int, options: Options
) -> _Axis:
    offset = 0.5 if options.aligned else 0.0

    def place(coordinate: jax.Array) -> jax.Array:
        return jnp.where(known, _rounded(coordinate * options.scale, known) - offset, 0)

    start = place(low)
    length = place(high) - start
    if not options.aligned:
        length = jnp.maximum(length, 1)
    bin_size = _regions.divide(length, count)
    if options.ratio:
        samples = jnp.full_like(low, options.ratio)
    else:
        samples = jnp.clip(jnp.ceil(bin_size), 0, 4 * size)
    samples = jnp.where(known, samples, 0)
    index = jnp.arange(count, dtype=low.dtype)[None]
    begin = start[:, None] + _rounded(
        index * bin_size[:, None], jnp.broadcast_to(known[:, None], (known.shape[0], count))
    )
    divisor = lax.optimization_barrier(jnp.maximum(samples, 1))
    axis = _Axis(begin, bin_size, samples.astype(jnp.int32), divisor, known, begin, begin)
    return _with_a_sample(axis, size)


def _with_a_sample(axis: _Axis, size: int) -> _Axis:
    """The axis with `near` and `some`: the first sample that is not beyond the features."""
    bin_size, divisor, last = (a[:, None] for a in (axis.bin, axis.divisor, axis.samples - 1))
    side = jnp.where(bin_size < 0, size, -1) - axis.begin
    first = jnp.ceil(side * divisor / jnp.where(bin_size == 0, 1, bin_size) - 0.5)
    # Rounding errors have it, or one beside it.
    first = jnp.clip(first, -2, (last + 2).astype(first.dtype)).astype(jnp.int32)
    i = jnp.clip(jnp.stack([first - 1, first, first + 1]), 0, jnp.maximum(last, 0)[None])
    at = axis.at(i)
    inside = _inside(at, size) & (last >= 0)[None]
    near = jnp.max(jnp.where(inside, at, -1), axis=0)
    return axis._replace(near=near, some=jnp.any(inside, axis=0))


def _inside(at: jax.Array, size: int) -> jax.Array:
    return (at >= -1) & (at <= size)


def _rounded(product: jax.Array, known: jax.Array) -> jax.Array:
    """The product, where known; keeps it from being added to without being rounded first.

    A fused multiply-add would put what lies on a limit, of one cell outside or of one more
    sample, on the limit's other side. No compiler looks through an integer that it cannot know.
    """
    integer = jnp.int64 if product.dtype == jnp.float64 else jnp.int32
    bits = lax.bitcast_convert_type(product, integer) + (~known).astype(integer)
    return lax.bitcast_convert_type(bits, product.dtype)


def samples_of(
    rois: jax.Array, first: jax.Array, shape: tuple[int, int], options: Options
) -> Samples:
    """The samples of rois [N, 4] whose example's cells begin at `first` [N]."""
    known = jnp.all(jnp.isfinite(rois), axis=1)
    y = _axis(rois[:, 1], rois[:, 3], known, shape[0], options.height, options)
    x = _axis(rois[:, 0], rois[:, 2], known, shape[1], options.width, options)
    return Samples(first, y, x)


def _taps(
    axis: _Axis, i: jax.Array, size: int
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """(cell, weight), each [U, N, T], before and after the samples i [U, N] of each bin.

    Where the weight is 0, the cell is one that has a weight in the bin, if any has: that of another
    could be NaN, and 0 times NaN is NaN.
    """
    at = axis.at(i[:, :, None])
    inside = _inside(at, size)
    at = jnp.clip(jnp.where(inside, at, axis.near[None]), 0, size - 1)
    low = jnp.floor(at)
    after = at - low
    cell = low.astype(jnp.int32)
    return (
        (cell, jnp.where(inside, 1 - after, 0)),
        (jnp.where(after > 0, cell + 1, cell), jnp.where(inside, after, 0)),
    )


def corners_of(
    samples: Samples, i: jax.Array, unroll: int, shape: tuple[int, int]
) -> list[tuple[jax.Array, jax.Array]]:
    """(cell, weight), each [N Ty Tx], of the four around every sample of each bin in step i."""
    k = jnp.broadcast_to(
        (i * unroll + jnp.arange(unroll, dtype=jnp.int32))[:, None],
        (unroll, samples.first.shape[0]),
    )
    across = jnp.broadcast_to(jnp.maximum(samples.x.samples, 1)[None], k.shape)
    number = samples.number()[None]
    one = jnp.minimum(k, jnp.maximum(number - 1, 0))  # the last one again where there is no more
    rows = _taps(samples.y, lax.div(one, across), shape[0])
    columns = _taps(samples.x, lax.rem(one, across), shape[1])
    share = 1 / (samples.y.divisor * samples.x.divisor)[None]
    share = jnp.where(k < number, share, 0)[:, :, None, None]
    corners: list[tuple[jax.Array, jax.Array]] = []
    for row, row_weight in rows:
        row = samples.first[None, :, None] + row * shape[1]
        for column, column_weight in columns:
            cell = row[:, :, :, None] + column[:, :, None, :]
            weight = row_weight[:, :, :, None] * column_weight[:, :, None, :]
            weight = weight * share
            corners += zip(cell.reshape(unroll, -1), weight.reshape(unroll, -1), strict=True)
    return corners
