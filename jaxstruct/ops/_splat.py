"""What a vertex of a permutohedral lattice sums up: its points, in windows of eight.

What may be added: another way to splat, with its speed.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxstruct.ops._lattice import MOST_UNROLLED, Found, take_last

_WINDOW = 8  # entries that are added up at once


class Ordered(NamedTuple):
    """Entries by vertex, for each remainder, of one chunk of points after the other."""

    vertex: jax.Array  # [D + 1, chunks, n], rows of the lattice; V - 1 for what fills a chunk
    point: jax.Array  # [D + 1, chunks, n]
    windows: jax.Array  # how many will be needed


@functools.partial(jax.jit, static_argnames="capacity")
def order(found: Found, capacity: int) -> Ordered:
    """Sorts single numbers, of a vertex and a point, which is faster than sorting pairs."""
    kinds, count = found.vertices.shape
    bits = 32 - capacity.bit_length()
    chunks = -(-count // 2**bits)
    size = -(-count // (chunks * _WINDOW)) * _WINDOW
    more = ((0, 0), (0, chunks * size - count))
    vertex = jnp.pad(jnp.minimum(found.vertices, capacity), more, constant_values=capacity)
    keys = vertex.astype(jnp.uint32).reshape(kinds, chunks, size) << bits
    # Half the time of an unstable sort on a CPU: points that follow each other are in order.
    keys = lax.sort(keys | jnp.arange(size, dtype=jnp.uint32)[None, None], is_stable=True)
    vertex = (keys >> bits).astype(jnp.int32)
    start = jnp.arange(kinds, dtype=jnp.int32)[:, None, None] * capacity
    row = jnp.where(vertex < capacity, vertex + start, kinds * capacity)
    first = jnp.arange(chunks, dtype=jnp.int32)[None, :, None] * size
    point = jnp.minimum((keys & (2**bits - 1)).astype(jnp.int32) + first, count - 1)
    return Ordered(row, point, _begins(row).sum(dtype=jnp.int32))


def _begins(vertex: jax.Array) -> jax.Array:
    """Whether an ordered entry is the first of its vertex in its window."""
    flat = vertex.reshape(-1)
    before = jnp.concatenate([jnp.full(1, -1, jnp.int32), flat[:-1]])
    return (flat != before) | (jnp.arange(flat.size) % _WINDOW == 0)


def most_windows(ordered: Ordered, capacity: int) -> int:
    kinds, chunks, size = ordered.vertex.shape
    entries = kinds * chunks * size
    return min(entries // _WINDOW + kinds * chunks * (capacity + 1), entries)


def points_by_window(
    weights: jax.Array, ordered: Ordered, empty: int, windows: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each window of ordered entries, once for every vertex in it: points, shares, owner.

    The entries of other vertices in the window get no share.
    """
    vertex, point = ordered.vertex.reshape(-1), ordered.point.reshape(-1)
    total = len(point)
    weight = _of_points(weights, point.reshape(len(weights), -1)).reshape(-1)
    begins = _begins(vertex)
    place = jnp.where(begins, jnp.cumsum(begins, dtype=jnp.int32) - 1, windows)
    start = jnp.full(windows, total, jnp.int32)
    start = start.at[place].set(jnp.arange(total, dtype=jnp.int32), mode="drop")
    inner = jnp.minimum(start, total - 1)
    owner = jnp.where(start < total, take_last(vertex, inner), empty)
    entry = inner[None] // _WINDOW * _WINDOW + jnp.arange(_WINDOW, dtype=jnp.int32)[:, None]
    shared = (take_last(vertex, entry) == owner[None]) & (owner < empty)[None]
    # A point of another vertex is not read: 0 times NaN is NaN.
    entry = jnp.where(shared, entry, inner[None])
    shares = jnp.where(shared, take_last(weight, entry), 0)
    return take_last(point, entry), shares, jnp.where(owner < empty, owner, empty + 1)


def _of_points(weights: jax.Array, points: jax.Array) -> jax.Array:
    """weights[k, points[k, m]], [D + 1, M]."""
    if len(weights) > MOST_UNROLLED + 1:
        return jnp.take_along_axis(weights, points, 1, mode="promise_in_bounds")
    return jnp.stack([take_last(w, p) for w, p in zip(weights, points, strict=True)])
