"""Non-maximum suppression: of boxes that overlap too much, the one with the best score is kept.

What may be added here: other ways of thinning out detections.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks


def nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    *,
    iou_threshold: float,
    max_outputs: int,
    score_threshold: float | None = None,
    valid: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Greedy non-maximum suppression: the same boxes in the same order as torchvision's.

    From the highest score down, a box is kept unless its IoU with a box kept before is above
    iou_threshold. Equal scores are taken in the order of their indices. Bit for bit torchvision's
    on a CPU: the IoU is inter / (area_i + area_j - inter) in the precision of the boxes, compared
    with the threshold as a double.

    A box with a NaN is never suppressed and suppresses none, nor does a box without area suppress
    another one. A score that is NaN counts as the highest, as in torch; a score_threshold drops it.

    On a CPU the work follows the number of boxes that are kept, and a batch or `vmap` runs one
    example after the other, so that none waits for the slowest; on accelerators larger tiles are
    compared at once, and all examples together. No gradient flows to boxes or scores.

    Args:
        boxes: [N, 4] or [B, N, 4]. bfloat16 is compared in float32.
        scores: [N] or [B, N].
        iou_threshold: in [0, 1].
        max_outputs: K, the number of slots of the result; it may be larger than N.
        score_threshold: scores have to be above it, if given.
        valid: boolean [N] or [B, N], the boxes that are not padding.

    Returns:
        (index, valid): int32 and bool, [K] or [B, K]. Scores fall along the valid slots, which come
        first; the index of the others is 0.

    Raises:
        ValueError: shapes other than these, or options outside their range. TypeError: boxes or
            scores are not floating, valid is not boolean, or an option is not a number.

    Source: Girshick et al. 2014 (R-CNN), section 2.2; Felzenszwalb et al. 2010, section 7.
    """
    return _nms(boxes, scores, None, iou_threshold, max_outputs, score_threshold, valid)


def batched_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    iou_threshold: float,
    max_outputs: int,
    score_threshold: float | None = None,
    valid: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Non-maximum suppression within each class: boxes of different labels ignore each other.

    Equals the torchvision form that runs class by class (there for more than 1000 boxes on a CPU).
    For fewer, torchvision moves the classes apart by an offset that is added to the coordinates,
    whose rounding changes an IoU in its last digits; here the coordinates stay. No matrix of all
    pairs is built. For NaN, devices, batches and gradients see `nms`.

    Args:
        boxes: [N, 4] or [B, N, 4].
        scores: [N] or [B, N].
        labels: integers [N] or [B, N], any values.
        iou_threshold: in [0, 1].
        max_outputs: K, the number of slots of the result over all classes.
        score_threshold: scores have to be above it, if given.
        valid: boolean [N] or [B, N], the boxes that are not padding.

    Returns:
        (index, valid): int32 and bool, [K] or [B, K], the K best of all classes. Scores fall along
        the valid slots, which come first; the index of the others is 0.

    Raises:
        ValueError: shapes other than these, or options outside their range. TypeError: boxes or
            scores are not floating, labels not integers, valid not boolean, or an option is not a
            number.

    Source: as `nms`.
    """
    labels = _checks.array("labels", labels, "integer", "[N] or [B, N]", ranks=range(1, 3))
    return _nms(boxes, scores, labels, iou_threshold, max_outputs, score_threshold, valid)


def _nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    labels: jax.Array | None,
    iou_threshold: float,
    max_outputs: int,
    score_threshold: float | None,
    valid: ArrayLike | None,
) -> tuple[jax.Array, jax.Array]:
    expected = "[N, 4] or [B, N, 4]"
    boxes = _checks.array("boxes", boxes, "floating", expected, ranks=range(2, 4), last=4)
    expected = "[N] or [B, N]"
    scores = _checks.array("scores", scores, "floating", expected, ranks=range(1, 3))
    given = {"boxes without coordinates": boxes.shape[:-1], "scores": scores.shape}
    if labels is not None:
        given["labels"] = labels.shape
    if valid is not None:
        valid = _checks.array("valid", valid, "boolean", expected, ranks=range(1, 3))
        given["valid"] = valid.shape
    _checks.leading("one score (label, flag) for each box", **given)
    threshold = _checks.number("iou_threshold", iou_threshold, 0, 1)
    size = _checks.integer("max_outputs", max_outputs, least=1)
    least = None if score_threshold is None else _checks.number("score_threshold", score_threshold)
    if scores.shape[-1] == 0:
        shape = (*scores.shape[:-1], size)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
    # A tangent must not reach the loops, of which reverse mode knows nothing.
    boxes, scores = lax.stop_gradient((boxes, scores))
    return _jitted(boxes, scores, labels, valid, options=_Options(threshold, size, least))


class _Options(NamedTuple):
    threshold: float
    size: int
    score_threshold: float | None


class _Tiles(NamedTuple):
    block: int  # candidates that are compared with the boxes kept so far
    tile: int  # candidates of a block that are settled at once
    radix: bool  # whether to sort by digits


# LLVM unrolls a reduction over 32 and then runs along the block in vector registers; over 64 it
# does neither. XLA splits the comparison with a block of 256 among threads, for microseconds of
# work each; with one of 128 it does not, and fewer pairs are compared in vain.
_CPU = _Tiles(block=128, tile=32, radix=True)
# Every step of a loop is a handful of launches there, whatever its size: few, large steps.
_ACCELERATOR = _Tiles(block=4096, tile=256, radix=False)
# Up to so many outputs it is cheaper to compare boxes across classes, in the order of their scores,
# because the loop ends when all outputs are found; class by class, every class has to be finished.
_BY_CLASS_ABOVE = 512


@functools.partial(jax.jit, static_argnames="options")
def _jitted(
    boxes: jax.Array,
    scores: jax.Array,
    labels: jax.Array | None,
    valid: jax.Array | None,
    *,
    options: _Options,
) -> tuple[jax.Array, jax.Array]:
    boxes, scores = (v.astype(jnp.promote_types(v.dtype, jnp.float32)) for v in (boxes, scores))
    usable = jnp.ones(scores.shape, bool) if valid is None else valid
    if options.score_threshold is not None:
        usable &= scores > options.score_threshold
    given = (boxes, _descending(scores, usable), usable, labels)
    arguments = [None if value is None else _varying_as(value, *given) for value in given]
    core = _core(options)
    return core(*arguments) if scores.ndim == 1 else jax.vmap(core)(*arguments)


@functools.lru_cache(maxsize=64)
def _core(options: _Options) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The suppression of one example, which under vmap takes the examples one by one on a CPU."""
    on_cpu = functools.partial(_suppress, options, _CPU)
    elsewhere = functools.partial(_suppress, options, _ACCELERATOR)

    @jax.custom_batching.custom_vmap
    def core(*arguments: Any) -> Any:
        return lax.platform_dependent(*arguments, cpu=on_cpu, default=elsewhere)

    @core.def_vmap
    def _(size: int, batched: Sequence[bool], *arguments: Any) -> Any:
        full = [
            None if a is None else a if is_batched else jnp.broadcast_to(a, (size, *a.shape))
            for a, is_batched in zip(arguments, batched, strict=True)
        ]
        one_by_one = lambda *examples: lax.map(lambda example: core(*example), examples)
        result = lax.platform_dependent(*full, cpu=one_by_one, default=jax.vmap(elsewhere))
        return result, (True, True)

    return core


def _varying_as(value: jax.Array, *others: jax.Array | None) -> jax.Array:
    """Inside shard_map: the value, varying over the mesh axes that any of the others varies over.

    There a loop refuses to turn a constant into what differs from device to device.
    """
    axes = {name: None for other in others if other is not None for name in _varying(other)}
    missing = tuple(name for name in axes if name not in _varying(value))
    return lax.pcast(value, missing, to="varying") if missing else value


def _varying(array: jax.Array) -> frozenset[Any]:
    kind: Any = jax.typeof(array)
    # Before jax 0.10 the axes stood in the type itself.
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def _descending(scores: jax.Array, usable: jax.Array) -> jax.Array:
    """Unsigned integers that ascend as the scores descend: NaN first, what is not usable last."""
    bits = 8 * scores.dtype.itemsize
    unsigned = jnp.dtype(f"uint{bits}")
    # The two zeros are equal.
    word = lax.bitcast_convert_type(jnp.where(scores == 0, 0, scores), unsigned)
    sign = np.array(1 << (bits - 1), unsigned)
    ascending = jnp.where(word >= sign, ~word, word | sign)
    descending = jnp.where(jnp.isnan(scores), 0, ~ascending)
    return jnp.where(usable, descending, np.array(np.iinfo(unsigned).max, unsigned))


def _order(words: Sequence[jax.Array], radix: bool) -> jax.Array:
    """The stable permutation that sorts by the words, the first of which counts most."""
    count = words[0].shape[0]
    iota = jnp.arange(count, dtype=jnp.int32)
    if not radix or any(word.dtype != jnp.uint32 for word in words):
        return lax.sort((*words, iota), num_keys=len(words), is_stable=True)[-1]
    # XLA sorts a single int32 on the CPU five times faster than a key with an index beside it. So a
    # digit stands above the position in one int32, and passes go from the lowest digit to the top.
    low = max(1, (count - 1).bit_length())
    digits = 32 - low
    order = _varying_as(iota, words[0])
    for place, word in enumerate(reversed(words)):
        for shift in range(0, 32, digits):
            digit = (word >> shift) & np.uint32(2 ** min(digits, 32 - shift) - 1)

            def step(order: jax.Array, digit: jax.Array) -> jax.Array:
                packed = (_take(digit, order) << low) | iota.astype(jnp.uint32)
                ascending = lax.bitcast_convert_type(packed ^ np.uint32(1 << 31), jnp.int32)
                return _take(order, lax.sort(ascending) & np.int32(2**low - 1))

            # Of labels most digits are the same for all; of scores they are not, and in a set so
            # small that it is sorted in microseconds, asking costs as much.
            if place:
                same = jnp.all(digit == digit[:1])
                order = lax.cond(same, lambda order, _: order, step, order, digit)
            else:
                order = step(order, digit)
    return order


def _take(values: jax.Array, index: jax.Array) -> jax.Array:
    """values[index] without the checks of an index that is negative or too large."""
    return values.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _suppress(
    options: _Options,
    tiles: _Tiles,
    boxes: jax.Array,
    word: jax.Array,
    usable: jax.Array,
    labels: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """One example: sorts, suppresses and picks the best."""
    count = word.shape[0]
    size = min(options.size, count)
    if labels is None or size <= _BY_CLASS_ABOVE:
        order = _order([word], tiles.radix)
        kept, found = _greedy(options, tiles, boxes, usable, labels, order, size, by_class=False)
    else:
        class_word = lax.bitcast_convert_type(labels.astype(jnp.int32), jnp.uint32)
        order = _order([class_word, word], tiles.radix)
        kept, found = _greedy(options, tiles, boxes, usable, labels, order, count, by_class=True)
        kept = jnp.where(jnp.arange(count) < found, kept, count)
        last = np.array(np.iinfo(word.dtype).max, word.dtype)
        kept = _order(
            [jnp.full_like(word, last).at[kept].set(word[kept], mode="drop")], tiles.radix
        )
    slot = jnp.arange(options.size, dtype=jnp.int32)
    valid = slot < found
    return jnp.where(valid, kept[jnp.minimum(slot, size - 1)], 0), valid


def _greedy(
    options: _Options,
    tiles: _Tiles,
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
    sorted_boxes = _take(boxes, order)
    candidates = jnp.pad(
        jnp.concatenate([sorted_boxes.T, _area(sorted_boxes)[None]]),
        ((0, 0), (0, padding)),
        constant_values=np.nan,
    )
    candidate_labels = None if labels is None else jnp.pad(_take(labels, order), (0, padding))
    waiting = jnp.pad(_take(usable, order), (0, padding))
    overlaps = functools.partial(_overlaps, _floor(options.threshold, boxes.dtype))
    alike = functools.partial(jax.tree.map, lambda leaf: _varying_as(leaf, order))
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
        # Kept ones to the front: a sort of one int32, as in _order.
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

    unsettled = _varying_as(jnp.array(True), waits)
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
