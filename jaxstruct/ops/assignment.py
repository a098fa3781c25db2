"""Which proposal is trained towards which true box, and which of them enter the loss.

What may be added here: other assignments, and other samplers of fixed size with a mask.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _checks


def match(
    iou: ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    background: float = 0.0,
    force_best: bool = True,
    valid: ArrayLike | None = None,
    usable: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Assigns to each proposal the true box it overlaps most, and a label.

        index_n = argmax_m IoU(n, m),   best_n = max_m IoU(n, m)
        label_n = 1 where best_n >= high,  0 where background <= best_n < low,  else -1 (ignored)

    With force_best a proposal is also 1 if no other overlaps some true box more (all of them,
    where several share that IoU); its index stays its own best true box, as in torchvision. A true
    box that no proposal overlaps forces nothing (in torchvision it makes every proposal positive
    that does not touch it). A NaN counts as no overlap. Without any true box all labels are 0, or
    -1 with a background above 0. Of true boxes with equal IoU the first is taken.

    Args:
        iou: [N, M] or [B, N, M], of N proposals or anchors with M true boxes.
        high: the least IoU of a positive.
        low: the least IoU that is not negative; at most high. Fast R-CNN's second stage: both 0.5.
        background: the least IoU of a negative; at most low. Fast R-CNN's hard negatives: 0.1.
        force_best: Faster R-CNN's rule that gives every true box a positive.
        valid: boolean [M] or [B, M], the columns that are true boxes and not padding.
        usable: boolean [N] or [B, N], the rows that may be used: not padding, nor anchors across
            the border of the image. The others force nothing, and their label is -1.

    Returns:
        (index, label): int32 [N] or [B, N]. The index is that of the best true box for every label,
        and 0 where there is none.

    Raises:
        ValueError: shapes other than these, or not 0 <= background <= low <= high <= 1. TypeError:
            iou is not floating, valid or usable not boolean, or an option not a number.

    Source: Ren et al. 2015 (Faster R-CNN), section 3.1.2; Girshick 2015 (Fast R-CNN), section 2.3.
    """
    iou = _checks.array("iou", iou, "floating", "[N, M] or [B, N, M]", ranks=range(2, 4))
    high = _checks.number("high", high, 0, 1)
    low = _checks.number("low", low, 0, 1)
    background = _checks.number("background", background, 0, 1)
    if not background <= low <= high:
        raise ValueError(
            f"got background {background}, low {low} and high {high}, expected "
            "background <= low <= high"
        )
    _checks.boolean("force_best", force_best)
    columns = iou.shape[:-2] + iou.shape[-1:]
    if valid is None:
        valid = jnp.ones(columns, bool)
    expected = "[M] for iou [N, M], [B, M] for [B, N, M]"
    valid = _checks.array("valid", valid, "boolean", expected, ranks=range(1, 3))
    _checks.leading("valid without the axis of proposals", valid=valid.shape, iou=columns)
    if usable is not None:
        expected = "[N] for iou [N, M], [B, N] for [B, N, M]"
        usable = _checks.array("usable", usable, "boolean", expected, ranks=range(1, 3))
        _checks.leading(
            "usable without the axis of true boxes", usable=usable.shape, iou=iou.shape[:-1]
        )
    if iou.shape[-1] == 0:
        nothing = jnp.zeros(iou.shape[:-1], jnp.int32)
        label = nothing if background == 0 else nothing - 1
        return nothing, label if usable is None else jnp.where(usable, label, -1)

    # Of bfloat16 no precision is lost here; thresholds are rounded to float32 as torch does.
    iou = iou.astype(jnp.promote_types(iou.dtype, jnp.float32))
    counted = valid[..., None, :] & ~jnp.isnan(iou)
    if usable is not None:
        counted &= usable[..., None]
    iou = jnp.where(counted, iou, -1)
    index = jnp.argmax(iou, axis=-1).astype(jnp.int32)
    best = jnp.max(iou, axis=-1)
    label = jnp.where(best >= high, 1, jnp.where(best < low, 0, -1))
    if background > 0:
        label = jnp.where(best < background, -1, label)
    if force_best and iou.shape[-2]:
        of_truth = jnp.max(iou, axis=-2, keepdims=True)
        forced = jnp.any((iou == of_truth) & (of_truth > 0), axis=-1)
        label = jnp.where(forced, 1, label)
    if usable is not None:
        label = jnp.where(usable, label, -1)
    return index, label.astype(jnp.int32)


def sample_balanced(
    key: jax.Array, label: ArrayLike, *, size: int, positive_fraction: float
) -> tuple[jax.Array, jax.Array]:
    """Draws positives and negatives of a mini-batch, uniformly and without replacement.

    At most floor(size * positive_fraction) positives; negatives fill the rest, as far as there are.

    Args:
        key: one key for label [N]; [B] keys for label [B, N].
        label: integers [N] or [B, N]: positive (1, or a class) above 0, negative 0, ignored below.
        size: how many are drawn at most.
        positive_fraction: the largest share of positives, in [0, 1].

    Returns:
        (index, valid): int32 and bool, [size] or [B, size]. Positives come first, then negatives,
        then slots that are not valid, whose index is 0. N may be smaller than size.

    Raises:
        ValueError: shapes other than these, size below 1, or a fraction outside [0, 1].
        TypeError: label is not of integers, or an option not a number.

    Source: Girshick 2015 (Fast R-CNN), section 2.3; Ren et al. 2015 (Faster R-CNN), section 3.1.3.
    """
    label = _checks.array("label", label, "integer", "[N] or [B, N]", ranks=range(1, 3))
    size = _checks.integer("size", size, least=1)
    fraction = _checks.number("positive_fraction", positive_fraction, 0, 1)
    key = jnp.asarray(key) if not isinstance(key, jax.Array) else key
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    keys = key.shape if typed else key.shape[:-1]
    _checks.leading("one key for label [N], [B] keys for [B, N]", key=keys, label=label.shape[:-1])
    if label.shape[-1] == 0:
        shape = (*label.shape[:-1], size)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)

    def one(key: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        # 31 random bits, so that -1 is below them all; ties are too rare to bias a draw.
        bits = lax.bitcast_convert_type(
            jax.random.bits(key, label.shape, jnp.uint32) >> 1, jnp.int32
        )
        most = min(size, label.shape[0])
        _, positive = lax.top_k(jnp.where(label > 0, bits, -1), most)
        _, negative = lax.top_k(jnp.where(label == 0, bits, -1), most)
        positives = jnp.minimum(jnp.sum(label > 0), int(size * fraction)).astype(jnp.int32)
        negatives = jnp.minimum(jnp.sum(label == 0), size - positives).astype(jnp.int32)
        slot = jnp.arange(size, dtype=jnp.int32)
        valid = slot < positives + negatives
        index = jnp.where(
            slot < positives,
            positive[jnp.minimum(slot, most - 1)],
            negative[jnp.clip(slot - positives, 0, most - 1)],
        )
        return jnp.where(valid, index, 0).astype(jnp.int32), valid

    return one(key, label) if label.ndim == 1 else jax.vmap(one)(key, label)
