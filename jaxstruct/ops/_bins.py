"""The bins of ROI pooling: rectangles of whole cells.

What may be added: another layout of the bins.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxstruct.ops import _regions

# Beyond it every region is far outside of any image; sums of four stay inside int32.
_FAR = 2.0**28


class Bins(NamedTuple):
    """N regions' bins, as cells: rows begin at y and x, and number ny and nx."""

    y: jax.Array  # [N, Ty], in units of cells: row * W, counted over all examples
    ny: jax.Array  # [N, Ty]
    x: jax.Array  # [N, Tx]
    nx: jax.Array  # [N, Tx]

    def across(self) -> jax.Array:
        """[N]: the cells across the widest bin, at least 1."""
        return jnp.maximum(jnp.max(self.nx, axis=1), 1)

    def cells(self) -> jax.Array:
        """[N]: how many cells a rectangle has that holds the largest bin."""
        return jnp.max(self.ny, axis=1) * jnp.max(self.nx, axis=1)

    def filled(self) -> jax.Array:
        """[N, Ty, Tx]: which bins have a cell."""
        return (self.ny > 0)[:, :, None] & (self.nx > 0)[:, None, :]

    def cell(self, k: jax.Array, width: int) -> jax.Array:
        """[U, N Ty Tx]: the index of the k-th cell of each bin, for k [U, N].

        k counts row by row through a rectangle that is `across` cells wide and holds the largest
        bin of its region. A smaller bin repeats its last row and column; the maximum is the same.
        """
        across = jnp.broadcast_to(self.across()[None], k.shape)
        down = jnp.minimum(lax.div(k, across)[:, :, None], jnp.maximum(self.ny - 1, 0)[None])
        right = jnp.minimum(lax.rem(k, across)[:, :, None], jnp.maximum(self.nx - 1, 0)[None])
        rows, columns = self.y[None] + width * down, self.x[None] + right
        return (rows[:, :, :, None] + columns[:, :, None, :]).reshape(k.shape[0], -1)


def bins_of(rois: jax.Array, first: jax.Array, shape: tuple[int, int], options: tuple) -> Bins:
    """The bins of rois [N, 4] whose example's cells begin at `first` [N]."""
    height, width, scale = options
    known = jnp.all(jnp.isfinite(rois), axis=1)
    x, nx = _edges(rois[:, 0], rois[:, 2], known, shape[1], width, scale)
    y, ny = _edges(rois[:, 1], rois[:, 3], known, shape[0], height, scale)
    return Bins(first[:, None] + shape[1] * y, ny, x, nx)


def _edges(
    low: jax.Array, high: jax.Array, known: jax.Array, size: int, count: int, scale: float
) -> tuple[jax.Array, jax.Array]:
    """First cell and number of cells of `count` bins between low and high [N], in 0..size."""

    def quantised(coordinate: jax.Array) -> jax.Array:
        cells = lax.round(coordinate * scale, lax.RoundingMethod.AWAY_FROM_ZERO)
        return jnp.where(known, jnp.clip(cells, -_FAR, _FAR), 0).astype(jnp.int32)

    start = quantised(low)
    length = jnp.maximum(quantised(high) - start + 1, 1).astype(low.dtype)
    bin_size = _regions.divide(length, count)[:, None]
    index = jnp.arange(count, dtype=low.dtype)[None]
    begin = jnp.floor(index * bin_size).astype(jnp.int32) + start[:, None]
    end = jnp.ceil((index + 1) * bin_size).astype(jnp.int32) + start[:, None]
    begin, end = jnp.clip(begin, 0, size), jnp.clip(end, 0, size)
    return jnp.minimum(begin, size - 1), jnp.where(known[:, None], jnp.maximum(end - begin, 0), 0)
