"""High-dimensional Gaussian filtering on the permutohedral lattice.

What may be added: another operation of the lattice. Its vertices are in _lattice, sums in _splat.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _checks
from jaxstruct.ops._arrays import one_by_one
from jaxstruct.ops._lattice import RANGE, Found, find, over, search, take_last, take_rows
from jaxstruct.ops._splat import Ordered, most_windows, order, points_by_window


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["vertices", "weights", "neighbors", "points", "shares", "owners", "used"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class PermutohedralLattice:
    """The lattice around N points of D features, built once for any number of values there.

    A point lies in a simplex of D + 1 vertices and has a barycentric weight for each of them.
    Filtering is linear and has three steps: `splat` the points' values to the vertices, `blur`
    along the D + 1 axes of the lattice by [1/2, 1, 1/2], and `slice` at the points. Called, it does
    all of them: about sum over j of exp(-|f_i - f_j|^2 / 2) v_j, scaled so that the sum is right
    where points are dense. The gradient by the values is the same filter with its axes in reverse
    order (reverse mode only). Features get no gradient: the result is only piecewise smooth in
    them. A NaN or infinity among the values reaches the points whose vertices are at most one step
    along each axis away from its own, weights of 0 included.

    `build` makes one. All fields are arrays, so it passes through jit and vmap as an argument.

    Attributes:
        vertices: [D + 1, N], the indices of each point's vertices, among V.
        weights: [D + 1, N], barycentric.
        neighbors: [D + 1, 2, V], each vertex's next ones along each axis. The last vertex is an
            empty one, and stands where there is no neighbour.
        points, shares: [8, M], points that one vertex sums up, and their weights.
        owners: [M], the vertex of each of these sums, or V where there is none.
        used: the largest number of vertices of one remainder. Beyond the capacity, where V is less
            than (D + 1) used + 1, every result is NaN.

    Source: Adams, Baek & Davis 2010, Fast high-dimensional filtering using the permutohedral
    lattice, sections 3 and 4.
    """

    vertices: jax.Array
    weights: jax.Array
    neighbors: jax.Array
    points: jax.Array
    shares: jax.Array
    owners: jax.Array
    used: jax.Array

    @classmethod
    def build(cls, features: ArrayLike, *, capacity: int | None = None) -> PermutohedralLattice:
        """The lattice around these points.

        Args:
            features: [N, D], in standard deviations of the Gaussian.
            capacity: for how many vertices of one remainder there is room; there are D + 1
                remainders, with about as many vertices each. By default as many as are needed,
                rounded up by at most an eighth; while tracing, as many as there can be, N.

        Raises:
            ValueError: another shape, or, outside of a trace, features that are not finite or
                farther than about 2^14 from 0 (while tracing: NaN from every filter), or too small
                a capacity. TypeError: features are not floating.
        """
        given = _checks.array("features", features, "floating", "[N, D]", ranks=range(2, 3))
        count, depth = given.shape
        if count < 1 or depth < 1:
            raise _checks.shape("features", given.shape, "[N, D] with N, D above 0")
        wide = lax.stop_gradient(given.astype(jnp.promote_types(given.dtype, jnp.float32)))
        found = None if isinstance(wide, jax.core.Tracer) else find(wide)
        if found is None or isinstance(found.used, jax.core.Tracer):
            room = count if capacity is None else _checks.integer("capacity", capacity, least=1)
            return one_by_one(functools.partial(_build, capacity=room))(wide)
        if not found.inside:
            raise ValueError(
                f"features reach from {wide.min()} to {wide.max()}, expected finite numbers of at "
                f"most about {RANGE // 2}: take a larger standard deviation"
            )
        used = int(found.used)
        room = rounded(used) if capacity is None else capacity
        if _checks.integer("capacity", room, least=1) < used:
            raise ValueError(f"capacity is {room}, expected {used} at least for these features")
        ordered = order(found, room)
        return _connect(found, ordered, room, rounded(int(ordered.windows)))

    def splat(self, values: jax.Array) -> jax.Array:
        """[N, C] to [V, C]: of each vertex the sum of its points' values, weighted."""
        terms = [
            take_rows(values, index) * share[:, None]
            for index, share in zip(self.points, self.shares, strict=True)
        ]
        sums = _arrays.barrier(functools.reduce(jnp.add, terms))
        empty = jnp.zeros((self.neighbors.shape[2], values.shape[1]), values.dtype)
        return empty.at[self.owners].add(sums, mode="drop")

    def blur(self, grid: jax.Array, *, reverse: bool = False) -> jax.Array:
        """[V, C] to [V, C]: [1/2, 1, 1/2] along each axis, from the first to the last."""

        def along(grid: jax.Array, next_ones: jax.Array) -> Any:
            before, after = next_ones
            # Or XLA computes the rows of an axis anew for each of the next one's.
            return _arrays.barrier(grid + 0.5 * (take_rows(grid, before) + take_rows(grid, after)))

        blurred: jax.Array = over(along, grid, self.neighbors, reverse=reverse)
        return blurred

    def slice(self, grid: jax.Array) -> jax.Array:
        """[V, C] to [N, C]: of each point the weighted sum of its vertices, and the scale."""

        share = lambda index, weight: take_rows(grid, index) * weight[:, None]
        add = lambda total, pair: total + share(*pair)
        first = share(self.vertices[0], self.weights[0])
        total: jax.Array = over(add, first, (self.vertices[1:], self.weights[1:]))
        return total * _scale(len(self.vertices) - 1)

    def weighted(self, factors: jax.Array) -> PermutohedralLattice:
        """The lattice that filters values times factors [N], and multiplies the results by them."""
        return dataclasses.replace(
            self,
            weights=self.weights * factors[None],
            shares=self.shares * take_last(factors, self.points),
        )

    def __call__(self, values: jax.Array) -> jax.Array:
        """[..., C], of N points altogether, filtered."""
        flat = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])
        return _filtered(self, False, flat).reshape(values.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _filtered(lattice: PermutohedralLattice, reverse: bool, values: jax.Array) -> jax.Array:
    return (_backwards if reverse else _forwards)(lattice, values)


@one_by_one
def _forwards(lattice: PermutohedralLattice, values: jax.Array) -> jax.Array:
    return lattice.slice(lattice.blur(lattice.splat(values)))


@one_by_one
def _backwards(lattice: PermutohedralLattice, values: jax.Array) -> jax.Array:
    return lattice.slice(lattice.blur(lattice.splat(values), reverse=True))


def _forward(lattice: PermutohedralLattice, reverse: bool, values: jax.Array) -> Any:
    return _filtered(lattice, reverse, values), lattice


def _backward(reverse: bool, lattice: PermutohedralLattice, gradient: jax.Array) -> Any:
    return None, _filtered(lattice, not reverse, gradient)


_filtered.defvjp(_forward, _backward)


def _scale(depth: int) -> float:
    """What makes a point of density 1 give the integral of the Gaussian.

    A vertex has the space of the lattice's cell, 1 / sqrt(D + 1) in units of A*_D, whose scale is
    sqrt(3/2) of a standard deviation; each of the D + 1 axes doubles what is there.
    """
    cell = 1.5 ** (depth / 2) / math.sqrt(depth + 1)
    return (2 * math.pi) ** (depth / 2) / (cell * 2 ** (depth + 1))


def rounded(number: int) -> int:
    """Up to the next of 8, 9 ... 16, 18 ... 32, 36 ...: few programs for many images."""
    step = max(1 << number.bit_length() >> 4, 1)
    return -(-number // step) * step


@functools.partial(jax.jit, static_argnames=("capacity", "windows"))
def _connect(found: Found, ordered: Ordered, capacity: int, windows: int) -> PermutohedralLattice:
    kinds = len(found.vertices)
    start = jnp.arange(kinds, dtype=jnp.int32)[:, None] * capacity
    vertices = jnp.minimum(found.vertices, capacity - 1) + start
    valid = found.inside & (found.used <= capacity)
    weights = jnp.where(valid, found.weights, jnp.nan)
    neighbors = _neighbors(found, capacity)
    windowed = points_by_window(found.weights, ordered, kinds * capacity, windows)
    return PermutohedralLattice(vertices, weights, neighbors, *windowed, found.used)


def _build(features: jax.Array, capacity: int) -> PermutohedralLattice:
    """With room for so many vertices of a remainder, be they more or fewer."""
    found = find(features)
    ordered = order(found, capacity)
    return _connect(found, ordered, capacity, most_windows(ordered, capacity))


def _neighbors(found: Found, capacity: int) -> jax.Array:
    """[D + 1, 2, V]. A step along axis j takes 1 from every coordinate and adds D + 1 to that one.

    So the remainder k becomes k - 1, and of the quotients by D + 1 the j-th one grows by 1; from
    k = 0 it becomes D, and all others shrink by 1.
    """
    kinds, count = found.vertices.shape
    words, depth = len(found.keys), kinds - 1
    units = np.zeros((kinds, words), np.int64)
    for axis in range(depth):
        units[axis, axis // 2] = 1 << 16 * (axis % 2)
    steps = np.repeat(units[:, None], kinds, 1)  # [axis, remainder, words]
    steps[:, 0] -= units.sum(0)
    entries = jnp.arange(kinds * count, dtype=jnp.int32).reshape(kinds, count)
    place = jnp.where(found.first & (found.numbers < capacity), found.numbers, capacity)
    entry = jnp.full((kinds, capacity), kinds * count, jnp.int32)
    entry = entry.at[jnp.arange(kinds)[:, None], place].set(entries, mode="drop")
    own = found.keys.at[:, jnp.minimum(entry, kinds * count - 1)].get(mode="promise_in_bounds")
    wanted = own[:, None] + (steps % 2**32).astype(np.uint32).transpose(2, 0, 1)[..., None]
    shape = wanted.shape[1:]  # [axis, remainder, capacity]
    remainder = np.array([depth, *range(depth)], np.int32)[:, None]
    flat = functools.partial(_flat, shape)
    size = len(found.table) // kinds
    slots = search(
        found.keys,
        found.table,
        wanted.reshape(words, -1),
        flat(remainder * size),
        size,
        claim=False,
        known=flat(entry == kinds * count),
    )[1]
    there = jnp.minimum(take_last(found.table, jnp.maximum(slots, 0)), kinds * count - 1)
    number = take_last(found.numbers.reshape(-1), there)
    rows = kinds * capacity
    after = jnp.where((slots < 0) | (number >= capacity), rows, flat(remainder * capacity) + number)
    after = after.reshape(kinds, rows)
    # What is after a vertex has it before.
    before = jnp.full((kinds, rows + 1), rows, jnp.int32)
    before = before.at[jnp.arange(kinds)[:, None], after].set(jnp.arange(rows, dtype=jnp.int32))
    before = before.at[:, rows].set(rows)
    return jnp.stack([jnp.pad(after, ((0, 0), (0, 1)), constant_values=rows), before], 1)


def _flat(shape: tuple[int, ...], array: ArrayLike) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(array), shape).reshape(-1)
