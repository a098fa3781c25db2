"""The suppression of one example: the loops over blocks and tiles of candidates.

What may be added: another way of settling a tile.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops._arrays import take, vary
from jaxstruct.ops._sorting import order as order_by

# Up to so many outputs it is cheaper to compare boxes across classes, in the order of their scores,
# because the loop ends when all outputs are found; class by class, every class has to be finished.
_BY_CLASS_ABOVE = 512


class Options(NamedTuple):
    """What the caller asks for; all of it static."""

    threshold: float
    size: int
    score_threshold: float | None


class Tiles(NamedTuple):
    """How the work is cut up for a kind of device."""

    block: int  # candidates that are compared with the boxes kept so far
    tile: int  # candidates of a block that are settled at once
    radix: bool  # whether to sort by digits


def suppress(
    options: Options,
    tiles: Tiles,
    boxes: jax.Array,
    words: Sequence[jax.Array],
    usable: jax.Array,
    labels: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """One example: sorts, suppresses and picks the best.

    Boxes are taken in ascending order of the words, unsigned integers [N] each, the first of which
    counts most; the order of equal ones is that of their indices.
    """
    count = usable.shape[0]
    size = min(options.size, count)
    if labels is None or size <= _BY_CLASS_ABOVE:
        order = order_by(words, tiles.radix)
        kept, found = _greedy(options, tiles, boxes, usable, labels, order, size, by_class=False)
    else:
        wide = labels if labels.dtype.itemsize > 4 else labels.astype(jnp.int32)
        class_words = lax.bitcast_convert_type(wide, jnp.uint32).reshape(count, -1)
        order = order_by([*class_words.T, *words], tiles.radix)
        kept, found = _greedy(options, tiles, boxes, usable, labels, order, count, by_class=True)
        kept = jnp.where(jnp.arange(count) < found, kept, count)
        kept = order_by([_last_but(kept, word) for word in words], tiles.radix)
    slot = jnp.arange(options.size, dtype=jnp.int32)
    valid = slot < found
    return jnp.where(valid, kept[jnp.minimum(slot, size - 1)], 0), valid


def _last_but(kept: jax.Array, word: jax.Array) -> jax.Array:
    """The words of what is kept, and the largest one of everything else."""
    last = np.array(np.iinfo(word.dtype).max, word.dtype)
    return jnp.full_like(word, last).at[kept].set(word[kept], mode="drop")


def _greedy(
    options: Options,
    tiles: Tiles,
    boxes: jax.Array,
    usable: jax.Array,
    labels: jax.Array | None,
    order: jax.Array,
    size: int,
    by_class: bool,
) -> tuple[jax.Array, jax.Array]:
    """The boxes that are kept of candidates in the given order, until there are `size` of them.

    A block of candidates is compared with all boxes kept before it. What survives is settled in
    tiles: each begins at the first survivor, so that there are never more tiles than boxes kept,
    and suppresses the rest of its block. With by_class the candidates are sorted by class, and a
    block is only compared with the boxes kept of the classes from its first one on.

    Returns (indices into boxes [size], how many of them are found).
    """
    count, tile = order.shape[0], tiles.tile
    block = min(tiles.block, -(-count // tile) * tile)
    # A box of NaN is what suppresses nothing: padding, and what is suppressed itself.
    padding = -count % block
    sorted_boxes = take(boxes, order)
    candidates = jnp.pad(
        jnp.concatenate([sorted_boxes.T, _area(sorted_boxes)[None]]),
        ((0, 0), (0, padding)),
        constant_values=np.nan,
    )
    candidate_labels = None if labels is None else jnp.pad(take(labels, order), (0, padding))
    waiting = jnp.pad(take(usable, order), (0, padding))
    overlaps = functools.partial(_overlaps, _floor(options.threshold, boxes.dtype))
    alike = functools.partial(jax.tree.map, lambda leaf: vary(leaf, order)[0])
    settled = _settled_by_bits if tile == 32 else _settled_by_rounds
    in_tile, in_block = np.arange(tile), np.arange(block, dtype=np.int32)

    def suppressed(by: _Boxes, these: _Boxes) -> jax.Array:
        return jnp.any(overlaps(by, these), axis=0)

    def settle(state: Any) -> Any:
        """One tile: finds which of it are kept, takes what they suppress out of the block."""
        these, waiting, first, kept, new = state
        start = jnp.minimum(first, block - tile)
        some = these.slice(start, tile)
        waits = lax.dynamic_slice(waiting, (start,), (tile,))
        before = overlaps(some, some) & (in_tile[:, None] < in_tile[None, :])
        keep = settled(before, waits)
        waiting &= ~suppressed(some.where(keep), these)
        waiting = lax.dynamic_update_slice(waiting, jnp.zeros_like(keep), (start,))
        keep_before = lax.dynamic_slice(kept, (start,), (tile,))
        kept = lax.dynamic_update_slice(kept, keep_before | keep, (start,))
        return these, waiting, survivor(waiting), kept, new + jnp.sum(keep, dtype=jnp.int32)

    def survivor(waiting: jax.Array) -> jax.Array:
        """The first of a block that waits, or `block`."""
        return jnp.min(jnp.where(waiting, in_block, block)).astype(jnp.int32)

    def advance(state: Any) -> Any:
        """One block: adds what is kept of it to the list of all that is kept."""
        first, found, own_class, kept, positions = state
        these = _Boxes(candidates, candidate_labels).slice(first, block)
        waits = lax.dynamic_slice(waiting, (first,), (block,))
        waits = lax.fori_loop(
            own_class // tile,
            (found + tile - 1) // tile,
            lambda i, waits: waits & ~suppressed(kept.slice(i * tile, tile), these),
            waits,
        )
        _, _, _, keep, new = lax.while_loop(
            lambda state: (state[2] < block) & (found + state[4] < size),
            settle,
            alike((these, waits, survivor(waits), jnp.zeros_like(waits), jnp.zeros_like(found))),
        )
        # Kept ones to the front: a sort of one int32, as in `order`.
        source = lax.sort(jnp.where(keep, in_block, in_block + block)) % block
        if by_class and these.labels is not None:
            last = these.labels[-1]
            before_last = found + jnp.sum(keep & (these.labels != last), dtype=jnp.int32)
            own_class = jnp.where(these.labels[0] == last, own_class, before_last)
        kept = kept.write(these.take(source).where(in_block < new), found)
        positions = lax.dynamic_update_slice(positions, first + source, (found,))
        return first + block, found + new, own_class, kept, positions

    total = jnp.sum(usable, dtype=jnp.int32)
    nothing = jnp.zeros_like(total)
    room = size + block + tile
    kept = _Boxes(
        jnp.full_like(candidates, np.nan, shape=(5, room)),
        None if labels is None else jnp.zeros_like(labels, shape=(room,)),
    )
    positions = jnp.zeros_like(order, shape=(room,))
    # Without classes what is usable is sorted to the front.
    end = jnp.full_like(total, count) if by_class else total
    state = alike((nothing, nothing, nothing, kept, positions))
    _, found, _, _, positions = lax.while_loop(
        lambda state: (state[0] < end) & (state[1] < size), advance, state
    )
    return order[jnp.minimum(positions[:size], count - 1)], jnp.minimum(found, size)


class _Boxes(NamedTuple):
    """Corners and area [5, n], and labels [n] where classes matter."""

    corners: jax.Array
    labels: jax.Array | None

    def slice(self, start: jax.Array, size: int) -> "_Boxes":
        return _Boxes(
            lax.dynamic_slice(self.corners, (np.int32(0), start), (5, size)),
            None if self.labels is None else lax.dynamic_slice(self.labels, (start,), (size,)),
        )

    def take(self, index: jax.Array) -> "_Boxes":
        return _Boxes(self.corners[:, index], None if self.labels is None else self.labels[index])

    def where(self, keep: ArrayLike) -> "_Boxes":
        return self._replace(corners=jnp.where(jnp.asarray(keep)[None], self.corners, np.nan))

    def write(self, other: "_Boxes", start: jax.Array) -> "_Boxes":
        labels = self.labels
        if labels is not None and other.labels is not None:
            labels = lax.dynamic_update_slice(labels, other.labels, (start,))
        return _Boxes(
            lax.dynamic_update_slice(self.corners, other.corners, (np.int32(0), start)), labels
        )


def _settled_by_bits(before: jax.Array, waits: jax.Array) -> jax.Array:
    """Which of 32 boxes are kept, if before[i, j] says that i suppresses j, which is after it.

    A box is one bit; the steps are a few scalar operations each and become one kernel.
    """
    bit = np.uint32(1) << np.arange(32, dtype=np.uint32)
    rows = jnp.sum(jnp.where(before, bit[None], np.uint32(0)), axis=1, dtype=jnp.uint32)
    gone = ~jnp.sum(jnp.where(waits, bit, np.uint32(0)), dtype=jnp.uint32)
    for i in range(32):
        gone |= jnp.where(gone & bit[i], np.uint32(0), rows[i])
    return (gone & bit) == 0


def _settled_by_rounds(before: jax.Array, waits: jax.Array) -> jax.Array:
    """The same for any number of boxes: a whole tile in each round, on an accelerator one launch.

    The first box is right from the start, and every round settles at least one more; in practice
    it takes two or three.
    """

    def again(state: Any) -> Any:
        keep, _ = state
        after = waits & ~jnp.any(before & keep[:, None], axis=0)
        return after, jnp.any(after != keep)

    unsettled = vary(jnp.array(True), waits)[0]
    keep, _ = lax.while_loop(lambda state: state[1], again, (waits, unsettled))
    return keep


def _overlaps(threshold: np.ndarray, a: _Boxes, b: _Boxes) -> jax.Array:
    """Whether the IoU of a_i and b_j is above the threshold, and the class the same: [n_a, n_b].

    Not `box_iou`: here every operation is the one of torchvision's loop, in its order, and a box
    without area or with a NaN gives a NaN, which is not above anything.
    """
    x1, y1, x2, y2, area = a.corners[:, :, None]
    u1, v1, u2, v2, other = b.corners[:, None, :]
    zero = np.zeros((), a.corners.dtype)
    width = _maximum(zero, _minimum(x2, u2) - _maximum(x1, u1))
    height = _maximum(zero, _minimum(y2, v2) - _maximum(y1, v1))
    intersection = width * height
    above = intersection / (area + other - intersection) > threshold
    if a.labels is None or b.labels is None:
        return above
    return above & (a.labels[:, None] == b.labels[None, :])


# One instruction of the processor each. jnp.maximum, which spreads NaN, takes six; here a NaN is in
# the area already.
def _maximum(a: ArrayLike, b: jax.Array) -> jax.Array:
    return jnp.where(a < b, b, a)


def _minimum(a: ArrayLike, b: jax.Array) -> jax.Array:
    return jnp.where(b < a, b, a)


def _area(boxes: jax.Array) -> jax.Array:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _floor(threshold: float, dtype: np.dtype) -> np.ndarray:
    """The largest number of a dtype that is not above the threshold.

    x > floor(threshold) is x > threshold as a double for every x of that dtype.
    """
    nearest = np.array(threshold, dtype)
    return np.nextafter(nearest, dtype.type(-np.inf)) if float(nearest) > threshold else nearest
