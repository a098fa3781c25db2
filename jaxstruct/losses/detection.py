"""What a detector is trained towards: which anchors and proposals count, and what they cost.

Functions of one example; `jax.vmap` takes a batch.

What may be added: another assignment of targets, another loss of one of the parts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxstruct import ops
from jaxstruct.losses.boxes import smooth_l1
from jaxstruct.ops.boxes import BOX_WEIGHTS


class Sampled(NamedTuple):
    """S rows of a mini-batch and what is expected of them.

    Attributes:
        rows: int32 [S], which anchors or proposals.
        label: int32 [S], 0 for background, 1 for an object, or its class from 1 on.
        target: [S, 4], as `encode_boxes` gives them; 0 where the label is 0.
        valid: bool [S], False for slots that nothing was found for.
    """

    rows: jax.Array
    label: jax.Array
    target: jax.Array
    valid: jax.Array


def sample_anchors(
    key: jax.Array,
    anchors: jax.Array,
    boxes: jax.Array,
    boxes_valid: jax.Array,
    *,
    usable: jax.Array | None = None,
    size: int = 256,
    positive_fraction: float = 0.5,
    high: float = 0.7,
    low: float = 0.3,
) -> Sampled:
    """The anchors that a region proposal network learns from in one image.

    Args:
        key: of the draw.
        anchors: [N, 4].
        boxes: [M, 4], the true ones.
        boxes_valid: bool [M].
        usable: bool [N], anchors that may be used, e.g. those within the image; all without it.
        size, positive_fraction: of the mini-batch, see `sample_balanced`.
        high, low: IoUs, see `match`.

    Raises:
        ValueError, TypeError: as `box_iou`, `match` and `sample_balanced`.

    Source: Ren et al. 2015 (Faster R-CNN), section 3.1.2 and 3.1.3.
    """
    nearest, label = ops.match(
        ops.box_iou(anchors, boxes), high=high, low=low, valid=boxes_valid, usable=usable
    )
    rows, valid = ops.sample_balanced(key, label, size=size, positive_fraction=positive_fraction)
    return sampled(rows, valid, anchors, nearest, label, boxes)


def sample_proposals(
    key: jax.Array,
    proposals: jax.Array,
    proposals_valid: jax.Array,
    boxes: jax.Array,
    boxes_valid: jax.Array,
    classes: jax.Array,
    *,
    size: int = 128,
    positive_fraction: float = 0.25,
    high: float = 0.5,
    low: float = 0.5,
    background: float = 0.0,
    weights: tuple[float, float, float, float] = BOX_WEIGHTS,
) -> tuple[jax.Array, Sampled]:
    """The regions that a detector's head learns from in one image, true boxes among them.

    Args:
        key: of the draw.
        proposals: [P, 4], to which the true boxes are appended.
        proposals_valid: bool [P].
        boxes: [M, 4], the true ones.
        boxes_valid: bool [M].
        classes: integers [M], from 1 on.
        size, positive_fraction: of the mini-batch, see `sample_balanced`.
        high, low, background: IoUs, see `match`.
        weights: of the targets, see `encode_boxes`.

    Returns:
        regions [S, 4], through which no gradient flows, and what is expected of them.

    Raises:
        ValueError, TypeError: as `box_iou`, `match`, `sample_balanced` and `encode_boxes`.

    Source: Girshick 2015 (Fast R-CNN), section 2.3; true boxes among the proposals are those of
    its code.
    """
    regions = lax.stop_gradient(jnp.concatenate([proposals, boxes.astype(proposals.dtype)]))
    usable = jnp.concatenate([proposals_valid, boxes_valid])
    nearest, label = ops.match(
        ops.box_iou(regions, boxes),
        high=high,
        low=low,
        background=background,
        force_best=False,
        valid=boxes_valid,
        usable=usable,
    )
    rows, valid = ops.sample_balanced(key, label, size=size, positive_fraction=positive_fraction)
    label = jnp.where(label > 0, classes[nearest].astype(jnp.int32), label)
    found = sampled(rows, valid, regions, nearest, label, boxes, weights=weights)
    return jnp.where(valid[:, None], regions[rows], 0), found


def sampled(
    rows: jax.Array,
    valid: jax.Array,
    regions: jax.Array,
    nearest: jax.Array,
    label: jax.Array,
    boxes: jax.Array,
    *,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Sampled:
    """What is expected of the sampled rows of regions.

    Args:
        rows: int32 [S], see `sample_balanced`.
        valid: bool [S], False for slots that nothing was found for.
        regions: [N, 4], anchors or proposals.
        nearest: int32 [N], the true box of each region, see `match`.
        label: int32 [N], see `match`, or the class of the true box.
        boxes: [M, 4], the true ones.
        weights: of the targets, see `encode_boxes`.

    Raises:
        ValueError, TypeError: as `encode_boxes`.
    """
    label = jnp.where(valid, label[rows], 0)
    positive = (label > 0)[:, None]
    unit = jnp.array([0.0, 0.0, 1.0, 1.0], regions.dtype)  # whose target is finite
    true, region = (jnp.where(positive, x, unit) for x in (boxes[nearest[rows]], regions[rows]))
    target = ops.encode_boxes(true, region, weights=weights)
    return Sampled(rows, label, jnp.where(positive, target, 0), valid)


def objectness_loss(logits: jax.Array, expected: Sampled) -> jax.Array:
    """Binary cross-entropy [S] of logits [N] at the sampled anchors; 0 of slots that are not valid.

    Source: Ren et al. 2015, eq. 1, the log loss over two classes.
    """
    chosen = logits[expected.rows].astype(jnp.float32)
    loss = optax.sigmoid_binary_cross_entropy(chosen, expected.label.astype(jnp.float32))
    return jnp.where(expected.valid, loss, 0)


def class_loss(logits: jax.Array, expected: Sampled) -> jax.Array:
    """Cross-entropy [S] of logits [S, C + 1], 0 of slots that are not valid.

    Source: Girshick 2015 (Fast R-CNN), eq. 1.
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), expected.label
    )
    return jnp.where(expected.valid, loss, 0)


def box_loss(deltas: jax.Array, expected: Sampled, *, beta: float) -> jax.Array:
    """Smooth L1 [S] of the regression of positives; 0 of all others.

    Args:
        deltas: [N, 4] of all anchors, or [S, C + 1, 4] of sampled regions, for each class.
        expected: what was sampled.
        beta: see `smooth_l1`.

    Raises:
        ValueError, TypeError: as `smooth_l1`.

    Source: Girshick 2015 (Fast R-CNN), eq. 2; Ren et al. 2015, eq. 1.
    """
    if deltas.ndim == 2:
        chosen = deltas[expected.rows]
    else:
        chosen = jnp.take_along_axis(deltas, expected.label[:, None, None], 1)[:, 0]
    positive = expected.valid & (expected.label > 0)
    chosen = jnp.where(positive[:, None], chosen.astype(jnp.float32), 0)
    return smooth_l1(chosen, jnp.where(positive[:, None], expected.target, 0), beta=beta)
