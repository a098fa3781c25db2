"""High-dimensional Gaussian filtering on the permutohedral lattice.

What may be added: another way to splat, with its speed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _checks
from jaxstruct.ops._arrays import one_by_one, vary

_WINDOW = 8  # entries that are added up at once
_FEW = 8  # features whose sums the program has one by one
_RANGE = 2**15  # of a vertex's coordinates, two of which make a word of 32 bits


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
    where points are dense. A gradient by the values is the same filter with its axes in reverse
    (reverse mode only); the features get none: what is computed is piecewise smooth in them. A NaN
    or infinity among the values reaches the points whose vertices are at most one step along each
    axis away from its own, weights of 0 included.

    `build` makes one. All fields are arrays, so it passes through jit and vmap as an argument.

    Attributes:
        vertices: [D + 1, N], the rows of each point's vertices.
        weights: [D + 1, N], barycentric.
        neighbors: [D + 1, 2, V], each vertex's next ones along each axis. The last row is an empty
            vertex: what has no neighbour has that one.
        points, shares: [8, M], points that one vertex sums up, and their weights.
        owners: [M], the vertex of each of these sums, or V where there is none.
        used: how many vertices of one remainder there are at most; if there is no room for them,
            V < (D + 1) used + 1, every result is NaN.

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
        found = None if isinstance(wide, jax.core.Tracer) else _find(wide)
        if found is None or isinstance(found.used, jax.core.Tracer):
            room = count if capacity is None else _checks.integer("capacity", capacity, least=1)
            return one_by_one(functools.partial(_build, capacity=room))(wide)
        if not found.inside:
            raise ValueError(
                f"features reach from {wide.min()} to {wide.max()}, expected finite numbers of at "
                f"most about {_RANGE // 2}: take a larger standard deviation"
            )
        used = int(found.used)
        room = _rounded(used) if capacity is None else capacity
        if _checks.integer("capacity", room, least=1) < used:
            raise ValueError(f"capacity is {room}, expected {used} at least for these features")
        ordered = _order(found, room)
        return _connect(found, ordered, room, _rounded(int(ordered.windows)))

    def splat(self, values: jax.Array) -> jax.Array:
        """[N, C] to [V, C]: of each vertex the sum of its points' values, weighted."""
        terms = [
            _rows(values, index) * share[:, None]
            for index, share in zip(self.points, self.shares, strict=True)
        ]
        sums = _arrays.barrier(functools.reduce(jnp.add, terms))
        empty = jnp.zeros((self.neighbors.shape[2], values.shape[1]), values.dtype)
        return empty.at[self.owners].add(sums, mode="drop")

    def blur(self, grid: jax.Array, *, reverse: bool = False) -> jax.Array:
        """[V, C] to [V, C]: [1/2, 1, 1/2] along each axis, from the first to the last."""

        def along(grid: jax.Array, next_ones: jax.Array) -> tuple[jax.Array, None]:
            before, after = next_ones
            # Or XLA computes the rows of an axis anew for each of the next one's.
            return _arrays.barrier(grid + 0.5 * (_rows(grid, before) + _rows(grid, after))), None

        blurred: jax.Array = _over(along, grid, self.neighbors, reverse=reverse)
        return blurred

    def slice(self, grid: jax.Array) -> jax.Array:
        """[V, C] to [N, C]: of each point the weighted sum of its vertices, and the scale."""

        def add(total: jax.Array, pair: Any) -> tuple[jax.Array, None]:
            return total + share(*pair), None

        share = lambda index, weight: _rows(grid, index) * weight[:, None]
        first = share(self.vertices[0], self.weights[0])
        total: jax.Array = _over(add, first, (self.vertices[1:], self.weights[1:]))
        return total * _scale(len(self.vertices) - 1)

    def weighted(self, factors: jax.Array) -> PermutohedralLattice:
        """The lattice that filters values times factors [N], and multiplies the results by them."""
        return dataclasses.replace(
            self,
            weights=self.weights * factors[None],
            shares=self.shares * _take(factors, self.points),
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


class _Found(NamedTuple):
    """Vertices, of the entries [D + 1, N]: entry [k, n] is point n's vertex of remainder k."""

    vertices: jax.Array  # [D + 1, N], numbered for each remainder by itself, as they appear
    weights: jax.Array  # [D + 1, N]
    keys: jax.Array  # [words, (D + 1) N]
    table: jax.Array  # [(D + 1) T], hashed: an entry of the vertex, the first one
    first: jax.Array  # [D + 1, N], whether an entry is the first of its vertex
    numbers: jax.Array  # [D + 1, N] of the vertex, if it is
    used: jax.Array
    inside: jax.Array  # whether all coordinates are in their range


@jax.jit
def _find(features: jax.Array) -> _Found:
    count, depth = features.shape
    kinds = depth + 1
    if depth <= _FEW:
        corners, ranks, weights = _simplices(features)
        keys, farthest = _keys(corners, ranks), jnp.stack([jnp.abs(c).max() for c in corners])
    else:
        many_corners, many_ranks, weights = _many_simplices(features)
        keys, farthest = _many_keys(many_corners, many_ranks), jnp.abs(many_corners)
    inside = (farthest.max() < _RANGE - 2) & jnp.isfinite(features).all()
    # An empty slot in each row at least, or a search would never end.
    size = 1 << max(count.bit_length(), 4)
    rows = jnp.repeat(jnp.arange(kinds, dtype=jnp.int32) * size, count)
    table = jnp.full(kinds * size, keys.shape[1], jnp.int32)
    table, slots = _search(keys, table, keys, rows, size, claim=True)
    entry = _take(table, slots).reshape(kinds, count)
    first = entry == jnp.arange(entry.size, dtype=jnp.int32).reshape(entry.shape)
    numbers = jnp.cumsum(first, axis=1, dtype=jnp.int32) - 1
    vertices = _take(numbers.reshape(-1), entry)
    used = numbers[:, -1].max() + 1
    return _Found(vertices, weights, keys, table, first, numbers, used, inside)


_Columns = list[jax.Array]


def _simplices(features: jax.Array) -> tuple[_Columns, _Columns, jax.Array]:
    """Of each point the corner of remainder 0 over D + 1, its coordinates' ranks, the weights."""
    depth = features.shape[1]
    kinds = depth + 1
    unit = math.sqrt(2 / 3) * kinds
    columns = [features[:, i] * (unit / math.sqrt((i + 1) * (i + 2))) for i in range(depth)]
    elevated: _Columns = []
    total = jnp.zeros_like(columns[0])
    for i in range(depth, 0, -1):
        elevated.insert(0, (total - i * columns[i - 1]) / kinds)
        total += columns[i - 1]
    elevated.insert(0, total / kinds)
    # The barriers keep XLA from computing all that came before again for each of what follows.
    elevated = _arrays.barrier(elevated)
    near = [jnp.round(e) for e in elevated]
    rest = [e - n for e, n in zip(elevated, near, strict=True)]
    ranks = [jnp.zeros(len(features), jnp.int32)] * kinds
    for i in range(kinds):
        for j in range(i + 1, kinds):
            less = (rest[i] < rest[j]).astype(jnp.int32)
            ranks[i] = ranks[i] + less
            ranks[j] = ranks[j] + 1 - less
    excess = functools.reduce(jnp.add, near).astype(jnp.int32)
    ranks, excess = _arrays.barrier((ranks, excess))
    moved = [r + excess for r in ranks]
    shifts = [(m < 0).astype(jnp.int32) - (m > depth).astype(jnp.int32) for m in moved]
    corners = [n.astype(jnp.int32) + s for n, s in zip(near, shifts, strict=True)]
    ranks = [m + kinds * s for m, s in zip(moved, shifts, strict=True)]
    rest = [r - s.astype(r.dtype) for r, s in zip(rest, shifts, strict=True)]
    corners, ranks, rest = _arrays.barrier((corners, ranks, rest))
    falling = [
        functools.reduce(
            jnp.add, [jnp.where(r == k, x, 0) for r, x in zip(ranks, rest, strict=True)]
        )
        for k in range(kinds)
    ]
    falling = _arrays.barrier(falling)
    weights = [1 + falling[depth] - falling[0]]
    weights += [falling[depth - k] - falling[depth - k + 1] for k in range(1, kinds)]
    return corners, ranks, jnp.stack(weights)


def _many_simplices(features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`_simplices`, each an array [D + 1, N]: its program does not grow with D."""
    depth = features.shape[1]
    kinds = depth + 1
    axis = np.arange(depth)
    basis = np.triu(np.ones((kinds, depth))) - np.diag(axis + 1.0, -1)[:, :depth]
    basis *= math.sqrt(2 / 3) / np.sqrt((axis + 1) * (axis + 2))
    elevated = jnp.dot(basis.astype(features.dtype), features.T, precision="highest")
    near = jnp.round(elevated)
    rest = elevated - near
    place = np.arange(kinds)
    first = (place[:, None] < place)[..., None]  # of two equal coordinates the later one
    less, more = rest[:, None] < rest[None], rest[:, None] > rest[None]
    ranks = jnp.where(first, less, ~more & (place[:, None] > place)[..., None])
    ranks = ranks.sum(1, dtype=jnp.int32) + near.sum(0).astype(jnp.int32)[None]
    shifts = (ranks < 0).astype(jnp.int32) - (ranks > depth).astype(jnp.int32)
    corners, ranks = near.astype(jnp.int32) + shifts, ranks + kinds * shifts
    rest = rest - shifts.astype(rest.dtype)
    at_rank = ranks[None] == place[:, None, None]
    falling = jnp.where(at_rank, rest[None], 0).sum(1)[::-1]
    weights = falling - jnp.roll(falling, 1, 0)
    return corners, ranks, weights.at[0].add(1)


def _keys(corners: _Columns, ranks: _Columns) -> jax.Array:
    """[words, (D + 1) N]: of the vertex of remainder k the coordinates

        (D + 1) (corner - [rank > D - k]) + k

    but for the last one, which follows from the others and k.
    """
    depth = len(corners) - 1
    kinds = [
        _packed(
            [
                c - (r > depth - k).astype(jnp.int32)
                for c, r in zip(corners[:-1], ranks, strict=False)
            ]
        )
        for k in range(depth + 1)
    ]
    return jnp.stack([jnp.concatenate(words) for words in zip(*kinds, strict=True)])


def _many_keys(corners: jax.Array, ranks: jax.Array) -> jax.Array:
    """`_keys` of arrays [D + 1, N]."""
    kinds, count = corners.shape
    limit = np.arange(kinds)[::-1, None, None]
    moved = corners[None, :-1] - (ranks[None, :-1] > limit).astype(jnp.int32)  # [D + 1, D, N]
    ends = ((0, 0), (0, (kinds - 1) % 2), (0, 0))
    pairs = jnp.pad((moved + _RANGE).astype(jnp.uint32), ends).reshape(kinds, -1, 2, count)
    words = pairs[:, :, 0] | pairs[:, :, 1] << 16
    return words.transpose(1, 0, 2).reshape(-1, kinds * count)


def _packed(coordinates: Sequence[jax.Array]) -> _Columns:
    """Two coordinates a word."""
    shifted = [(c + _RANGE).astype(jnp.uint32) << 16 * (i % 2) for i, c in enumerate(coordinates)]
    return [functools.reduce(jnp.bitwise_or, shifted[i : i + 2]) for i in range(0, len(shifted), 2)]


def _hashed(keys: jax.Array) -> jax.Array:
    def mix(mixed: jax.Array, word: jax.Array) -> tuple[jax.Array, None]:
        mixed = (mixed ^ word) * jnp.uint32(0x85EBCA6B)
        return mixed ^ (mixed >> 15), None

    mixed, _ = vary(jnp.full(keys.shape[1:], 0x9E3779B9, jnp.uint32), keys)
    mixed = _over(mix, mixed, keys)
    mixed *= jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)


def _search(
    keys: jax.Array,
    table: jax.Array,
    wanted: jax.Array,
    rows: jax.Array,
    size: int,
    *,
    claim: bool,
    known: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Looks up keys in a hash table: the table, and for each wanted key its slot, or -1.

    Args:
        keys: [words, n], the keys that the table may hold.
        table: indices into keys; an empty slot holds n.
        wanted: [words, m], the keys that are looked up.
        rows: [m], where the row of the table begins that is searched for each wanted key.
        size: slots of a row, a power of two; a row has an empty slot.
        claim: whether a key that is not found takes the empty slot at which its search ends;
            then wanted is keys, and of keys that reach one slot together the first takes it.
        known: [m], wanted keys that are not looked up.
    """
    none, number = keys.shape[1], wanted.shape[1]

    def probe(turn: Any, table: Any, slots: Any, done: Any, index: Any, *query: Any) -> Any:
        words, hashed, row = query
        offset = (turn * (turn + 1) // 2).astype(jnp.uint32)
        slot = row + ((hashed + offset) & (size - 1)).astype(jnp.int32)
        if claim:
            free = (_take(table, slot) == none) & ~done
            table = table.at[jnp.where(free, slot, len(table))].min(index, mode="drop")
        entry = _take(table, slot)
        there = jnp.minimum(entry, none - 1)
        alike = [_all_words(w == _take(k, there)) for w, k in zip(words, known_words, strict=True)]
        same = functools.reduce(jnp.logical_and, alike, (entry < none) & ~done)
        done |= same if claim else same | (entry == none)
        return turn + 1, table, jnp.where(same, slot, slots), done

    # Few words are compared one after the other, many of them as one array [words, n].
    known_words, wanted_words = (
        list(words) if len(words) <= _FEW else [words] for words in (keys, wanted)
    )
    index = jnp.arange(number, dtype=jnp.int32)
    query = (index, wanted_words, _hashed(wanted), rows)
    unknown = jnp.full(number, -1, jnp.int32)
    done = jnp.zeros(number, bool) if known is None else known
    state: Any = probe(jnp.int32(0), table, unknown, done, *query)
    # After one or two turns few keys are left, which are gathered into a shorter array.
    few = -(-number // 8)
    state = lax.while_loop(lambda s: (~s[3]).sum() > few, lambda s: probe(*s, *query), state)
    turn, table, slots, done = state
    place = jnp.where(done, few, jnp.cumsum(~done, dtype=jnp.int32) - 1)
    left = jnp.full(few, number, jnp.int32).at[place].set(index, mode="drop")
    rest = jax.tree.map(lambda part: _take(part, jnp.minimum(left, number - 1)), query)
    state = (turn, table, jnp.full(few, -1, jnp.int32), left == number)
    _, table, found, _ = lax.while_loop(lambda s: ~s[3].all(), lambda s: probe(*s, *rest), state)
    return table, slots.at[left].set(found, mode="drop")


def _all_words(alike: jax.Array) -> jax.Array:
    return alike if alike.ndim == 1 else alike.all(0)


class _Ordered(NamedTuple):
    """Entries by vertex, for each remainder, of one chunk of points after the other."""

    vertex: jax.Array  # [D + 1, chunks, n], rows of the lattice; V - 1 for what fills a chunk
    point: jax.Array  # [D + 1, chunks, n]
    windows: jax.Array  # how many will be needed


@functools.partial(jax.jit, static_argnames="capacity")
def _order(found: _Found, capacity: int) -> _Ordered:
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
    return _Ordered(row, point, _begins(row).sum(dtype=jnp.int32))


def _begins(vertex: jax.Array) -> jax.Array:
    """Whether an ordered entry is the first of its vertex in its window."""
    flat = vertex.reshape(-1)
    before = jnp.concatenate([jnp.full(1, -1, jnp.int32), flat[:-1]])
    return (flat != before) | (jnp.arange(flat.size) % _WINDOW == 0)


def _most_windows(ordered: _Ordered, capacity: int) -> int:
    kinds, chunks, size = ordered.vertex.shape
    entries = kinds * chunks * size
    return min(entries // _WINDOW + kinds * chunks * (capacity + 1), entries)


def _rounded(number: int) -> int:
    """Up to the next of 8, 9 ... 16, 18 ... 32, 36 ...: few programs for many images."""
    step = max(1 << number.bit_length() >> 4, 1)
    return -(-number // step) * step


@functools.partial(jax.jit, static_argnames=("capacity", "windows"))
def _connect(found: _Found, ordered: _Ordered, capacity: int, windows: int) -> PermutohedralLattice:
    kinds = len(found.vertices)
    start = jnp.arange(kinds, dtype=jnp.int32)[:, None] * capacity
    vertices = jnp.minimum(found.vertices, capacity - 1) + start
    valid = found.inside & (found.used <= capacity)
    weights = jnp.where(valid, found.weights, jnp.nan)
    neighbors = _neighbors(found, capacity)
    windowed = _windows(found.weights, ordered, kinds * capacity, windows)
    return PermutohedralLattice(vertices, weights, neighbors, *windowed, found.used)


def _build(features: jax.Array, capacity: int) -> PermutohedralLattice:
    """With room for so many vertices of a remainder, be they more or fewer."""
    found = _find(features)
    ordered = _order(found, capacity)
    return _connect(found, ordered, capacity, _most_windows(ordered, capacity))


def _windows(
    weights: jax.Array, ordered: _Ordered, empty: int, windows: int
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
    owner = jnp.where(start < total, _take(vertex, inner), empty)
    entry = inner[None] // _WINDOW * _WINDOW + jnp.arange(_WINDOW, dtype=jnp.int32)[:, None]
    shared = (_take(vertex, entry) == owner[None]) & (owner < empty)[None]
    # A point of another vertex is not read: 0 times NaN is NaN.
    entry = jnp.where(shared, entry, inner[None])
    shares = jnp.where(shared, _take(weight, entry), 0)
    return _take(point, entry), shares, jnp.where(owner < empty, owner, empty + 1)


def _of_points(weights: jax.Array, points: jax.Array) -> jax.Array:
    """weights[k, points[k, m]], [D + 1, M]."""
    if len(weights) > _FEW + 1:
        return jnp.take_along_axis(weights, points, 1, mode="promise_in_bounds")
    return jnp.stack([_take(w, p) for w, p in zip(weights, points, strict=True)])


def _neighbors(found: _Found, capacity: int) -> jax.Array:
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
    slots = _search(
        found.keys,
        found.table,
        wanted.reshape(words, -1),
        flat(remainder * size),
        size,
        claim=False,
        known=flat(entry == kinds * count),
    )[1]
    there = jnp.minimum(_take(found.table, jnp.maximum(slots, 0)), kinds * count - 1)
    number = _take(found.numbers.reshape(-1), there)
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


def _over(step: Any, init: Any, rows: Any, *, reverse: bool = False) -> Any:
    """lax.scan's carry over rows of arrays, a program of its steps where these are few."""
    number = len(jax.tree.leaves(rows)[0])
    if number > _FEW + 1:
        return lax.scan(step, init, rows, reverse=reverse)[0]
    for i in reversed(range(number)) if reverse else range(number):
        init, _ = step(init, jax.tree.map(lambda array: array[i], rows))  # noqa: B023
    return init


def _take(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[..., index] of [..., n], which are in bounds."""
    return jnp.asarray(values).at[..., index].get(mode="promise_in_bounds")


def _rows(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[index] of [n, ...], which are in bounds."""
    return jnp.asarray(values).at[index].get(mode="promise_in_bounds")
