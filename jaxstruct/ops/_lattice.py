"""The vertices of a permutohedral lattice: where they are, and a hash table of them.

What may be added: another way to find a vertex.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstruct.ops import _arrays
from jaxstruct.ops._arrays import vary

MOST_UNROLLED = 8  # features, or words of a key, that the program has one by one
RANGE = 2**15  # of a vertex's coordinates, two of which make a word of 32 bits


class Found(NamedTuple):
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
def find(features: jax.Array) -> Found:
    count, depth = features.shape
    kinds = depth + 1
    if depth <= MOST_UNROLLED:
        corners, ranks, weights = _simplices(features)
        keys, farthest = _keys(corners, ranks), jnp.stack([jnp.abs(c).max() for c in corners])
    else:
        many_corners, many_ranks, weights = _many_simplices(features)
        keys, farthest = _many_keys(many_corners, many_ranks), jnp.abs(many_corners)
    inside = (farthest.max() < RANGE - 2) & jnp.isfinite(features).all()
    # An empty slot in each row at least, or a search would never end.
    size = 1 << max(count.bit_length(), 4)
    rows = jnp.repeat(jnp.arange(kinds, dtype=jnp.int32) * size, count)
    table = jnp.full(kinds * size, keys.shape[1], jnp.int32)
    table, slots = search(keys, table, keys, rows, size, claim=True)
    entry = take_last(table, slots).reshape(kinds, count)
    first = entry == jnp.arange(entry.size, dtype=jnp.int32).reshape(entry.shape)
    numbers = jnp.cumsum(first, axis=1, dtype=jnp.int32) - 1
    vertices = take_last(numbers.reshape(-1), entry)
    used = numbers[:, -1].max() + 1
    return Found(vertices, weights, keys, table, first, numbers, used, inside)


_Columns = list[jax.Array]


def _simplices(features: jax.Array) -> tuple[_Columns, _Columns, jax.Array]:
    """Of each point the corner of remainder 0 over D + 1, its coordinates' ranks, the weights."""
    depth = features.shape[1]
    kinds = depth + 1
    unit = math.sqrt(2 / 3) * kinds
    scales = np.array([unit / math.sqrt(i * (i + 1)) for i in range(1, kinds)], features.dtype)
    # Where a product and a sum become one operation, a point may round to another simplex. The
    # barriers leave that to no compiler.
    scaled = _arrays.barrier(features.T * scales[:, None])
    lengths = _arrays.barrier(scaled * np.arange(1, kinds, dtype=features.dtype)[:, None])
    elevated: _Columns = []
    total = jnp.zeros_like(scaled[0])
    for i in reversed(range(depth)):
        elevated.insert(0, (total - lengths[i]) / kinds)
        total += scaled[i]
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
    pairs = jnp.pad((moved + RANGE).astype(jnp.uint32), ends).reshape(kinds, -1, 2, count)
    words = pairs[:, :, 0] | pairs[:, :, 1] << 16
    return words.transpose(1, 0, 2).reshape(-1, kinds * count)


def _packed(coordinates: Sequence[jax.Array]) -> _Columns:
    """Two coordinates a word."""
    shifted = [(c + RANGE).astype(jnp.uint32) << 16 * (i % 2) for i, c in enumerate(coordinates)]
    return [functools.reduce(jnp.bitwise_or, shifted[i : i + 2]) for i in range(0, len(shifted), 2)]


def _hashed(keys: jax.Array) -> jax.Array:
    def mix(mixed: jax.Array, word: jax.Array) -> jax.Array:
        mixed = (mixed ^ word) * jnp.uint32(0x85EBCA6B)
        return mixed ^ (mixed >> 15)

    mixed, _ = vary(jnp.full(keys.shape[1:], 0x9E3779B9, jnp.uint32), keys)
    mixed = over(mix, mixed, keys)
    mixed *= jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)


def search(
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
            free = (take_last(table, slot) == none) & ~done
            table = table.at[jnp.where(free, slot, len(table))].min(index, mode="drop")
        entry = take_last(table, slot)
        there = jnp.minimum(entry, none - 1)
        alike = [
            _all_words(w == take_last(k, there)) for w, k in zip(words, known_words, strict=True)
        ]
        same = functools.reduce(jnp.logical_and, alike, (entry < none) & ~done)
        done |= same if claim else same | (entry == none)
        return turn + 1, table, jnp.where(same, slot, slots), done

    # Few words are compared one after the other, many of them as one array [words, n].
    known_words, wanted_words = (
        list(words) if len(words) <= MOST_UNROLLED else [words] for words in (keys, wanted)
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
    rest = jax.tree.map(lambda part: take_last(part, jnp.minimum(left, number - 1)), query)
    state = (turn, table, jnp.full(few, -1, jnp.int32), left == number)
    _, table, found, _ = lax.while_loop(lambda s: ~s[3].all(), lambda s: probe(*s, *rest), state)
    return table, slots.at[left].set(found, mode="drop")


def _all_words(alike: jax.Array) -> jax.Array:
    return alike if alike.ndim == 1 else alike.all(0)


def over(step: Any, init: Any, rows: Any, *, reverse: bool = False) -> Any:
    """step(... step(step(init, row), next row)), in one loop or, of few rows, one by one."""
    number = len(jax.tree.leaves(rows)[0])
    if number > MOST_UNROLLED + 1:
        each = lambda carry, row: (step(carry, row), None)
        return lax.scan(each, init, rows, reverse=reverse)[0]
    for i in reversed(range(number)) if reverse else range(number):
        init = step(init, jax.tree.map(lambda array: array[i], rows))  # noqa: B023
    return init


def take_last(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[..., index] of [..., n], which are in bounds."""
    return jnp.asarray(values).at[..., index].get(mode="promise_in_bounds")


def take_rows(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[index] of [n, ...], which are in bounds."""
    return jnp.asarray(values).at[index].get(mode="promise_in_bounds")
