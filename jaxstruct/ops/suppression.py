"""Non-maximum suppression: of boxes that overlap too much, the one with the best score is kept.

What may be added here: other ways of thinning out detections.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks
from jaxstruct.ops._arrays import one_by_one, vary
from jaxstruct.ops._greedy import Options, Tiles, suppress
from jaxstruct.ops._sorting import descending


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
    whose rounding changes an IoU in its last digits; here the coordinates stay. Equal scores of
    different classes are in no order there, here in that of their indices. No matrix of all pairs
    is built. For NaN, devices, batches and gradients see `nms`.

    Args:
        boxes: [N, 4] or [B, N, 4].
        scores: [N] or [B, N].
        labels: integers [N] or [B, N], any values. JAX's jit takes 32 bits of a NumPy array
            of 64, unless it has x64; outside of jit all of them count.
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
    labels = _checks.array("labels", _narrow(labels), "integer", "[N] or [B, N]", ranks=range(1, 3))
    return _nms(boxes, scores, labels, iou_threshold, max_outputs, score_threshold, valid)


def _narrow(labels: ArrayLike) -> ArrayLike:
    """Labels for JAX, which keeps 32 bits: the ranks of those that NumPy has more of."""
    if not isinstance(labels, np.ndarray) or labels.dtype not in (np.int64, np.uint64):
        return labels
    if not labels.size or -(2**31) <= labels.min() <= labels.max() < 2**31:
        return labels
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


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
    return _jitted(boxes, scores, labels, valid, options=Options(threshold, size, least))


# LLVM unrolls a reduction over 32 and then runs along the block in vector registers; over 64 it
# does neither. XLA splits the comparison with a block of 256 among threads, for microseconds of
# work each; with one of 128 it does not, and fewer pairs are compared in vain.
_CPU = Tiles(block=128, tile=32, radix=True)
# Every step of a loop is a handful of launches there, whatever its size: few, large steps.
_ACCELERATOR = Tiles(block=4096, tile=256, radix=False)


@functools.partial(jax.jit, static_argnames="options")
def _jitted(
    boxes: jax.Array,
    scores: jax.Array,
    labels: jax.Array | None,
    valid: jax.Array | None,
    *,
    options: Options,
) -> tuple[jax.Array, jax.Array]:
    boxes, scores = (v.astype(jnp.promote_types(v.dtype, jnp.float32)) for v in (boxes, scores))
    usable = jnp.ones(scores.shape, bool) if valid is None else valid
    if options.score_threshold is not None:
        usable &= scores > options.score_threshold
    # Boxes are taken by these words. The score is the only one, so equal scores keep the order of
    # their indices; a second word, of the areas, say, would decide among them.
    words = (descending(scores, usable),)
    arguments = vary(boxes, words, usable, labels)
    core = _core(options)
    return core(*arguments) if scores.ndim == 1 else jax.vmap(core)(*arguments)


@functools.lru_cache(maxsize=64)
def _core(options: Options) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The suppression of one example, which under vmap takes the examples one by one on a CPU."""
    on_cpu = functools.partial(suppress, options, _CPU)
    elsewhere = functools.partial(suppress, options, _ACCELERATOR)

    @one_by_one
    def core(*arguments: Any) -> Any:
        return lax.platform_dependent(*arguments, cpu=on_cpu, default=elsewhere)

    return core
