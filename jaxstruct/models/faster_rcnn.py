"""Faster R-CNN (Ren et al., NeurIPS 2015): regions proposed on the maps that the head reads, too.

What may be added: another way from the maps to the regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxstruct import ops
from jaxstruct.models.fast_rcnn import (
    Detected,
    FastRCNN,
    Proposals,
    best_detections,
    wide_enough,
)
from jaxstruct.models.layers import Conv


class Proposed(NamedTuple):
    """What a region proposal network says of N anchors, level after level.

    Attributes:
        logits: [B, N], whether there is an object.
        deltas: [B, N, 4], from the anchors to the boxes.
        anchors: [N, 4].
        levels: how many of the anchors each level has.
    """

    logits: jax.Array
    deltas: jax.Array
    anchors: jax.Array
    levels: tuple[int, ...]


class FasterRCNN(FastRCNN):
    """Fast R-CNN whose regions a network proposes that reads the same maps.

    Called with images [B, H, W, 3] in [0, 1] on a canvas, and their sizes [B, 2] (height, width)
    on it, it detects: see `detect`. A training step calls the parts: `maps`, `propose_from`,
    `classify`.

    Attributes:
        scales: of each map's anchors, square roots of areas in pixels; a map that the `neck` adds
            behind the `levels` gives proposals, too.
        ratios: height / width of anchors.
        rounded: whether anchors' corners are whole pixels.
        rpn_features: channels of the proposal network's 3x3 convolution.

    The other attributes are those of `FastRCNN`.

    Raises:
        ValueError: when called, for anything else.

    Source: Ren et al. 2015; with a neck Lin et al. 2017, section 4.
    """

    scales: tuple[tuple[float, ...], ...] = field(default=((128.0, 256.0, 512.0),), kw_only=True)
    ratios: tuple[float, ...] = field(default=(0.5, 1.0, 2.0), kw_only=True)
    rounded: bool = field(default=True, kw_only=True)
    rpn_features: int = field(default=512, kw_only=True)

    def setup(self) -> None:
        """Makes the parts that have parameters of this module's own."""
        super().setup()
        if len({len(scales) for scales in self.scales}) != 1:
            raise ValueError(f"got scales {self.scales}, expected as many on each level")
        anchors = len(self.scales[0]) * len(self.ratios)
        conv = lambda features, size: Conv(
            features,
            (size, size),
            padding=size // 2,
            kernel_init=nn.initializers.normal(0.01),
            dtype=self.dtype,
        )
        self.rpn_conv = conv(self.rpn_features, 3)
        self.rpn_logits = conv(anchors, 1)
        self.rpn_deltas = conv(4 * anchors, 1)

    def __call__(self, images: jax.Array, sizes: jax.Array) -> Detected:  # type: ignore[override]
        """What `detect` finds by its defaults."""
        return self.detect(images, sizes)

    def propose_from(self, maps: Mapping[str, jax.Array], canvas: Sequence[int]) -> Proposed:
        """What the proposal network says, of the maps of a canvas (height, width)."""
        if len(maps) != len(self.scales):
            raise ValueError(
                f"got scales for {len(self.scales)} levels, expected some for each of the "
                f"{len(maps)} maps {', '.join(maps)}"
            )
        logits, deltas, anchors = [], [], []
        for x, scales in zip(maps.values(), self.scales, strict=True):
            hidden = nn.relu(self.rpn_conv(x))
            batch, height, width = x.shape[:3]
            logits.append(self.rpn_logits(hidden).reshape(batch, -1))
            deltas.append(self.rpn_deltas(hidden).reshape(batch, -1, 4))
            stride = canvas[0] // height, canvas[1] // width
            anchors.append(
                ops.anchor_grid(
                    height,
                    width,
                    stride=stride,
                    scales=scales,
                    ratios=self.ratios,
                    rounded=self.rounded,
                )
            )
        return Proposed(
            jnp.concatenate(logits, 1).astype(jnp.float32),
            jnp.concatenate(deltas, 1).astype(jnp.float32),
            jnp.concatenate(anchors),
            tuple(len(x) for x in anchors),
        )

    def propose(
        self,
        images: jax.Array,
        sizes: jax.Array,
        *,
        before: int = 1000,
        after: int = 1000,
        iou_threshold: float = 0.7,
    ) -> Proposals:
        """The proposals of images; see `best_proposals` for the options."""
        found = self.propose_from(self.maps(images, sizes), images.shape[1:3])
        return best_proposals(found, sizes, before=before, after=after, iou_threshold=iou_threshold)

    def detect(  # type: ignore[override]
        self,
        images: jax.Array,
        sizes: jax.Array,
        *,
        before: int = 1000,
        after: int = 1000,
        proposal_iou: float = 0.7,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        most: int = 100,
    ) -> Detected:
        """What there is in images [B, H, W, 3] of sizes [B, 2] on their canvas.

        See `best_proposals` for before, after and proposal_iou, and `best_detections` for the
        others.
        """
        maps = self.maps(images, sizes)
        proposals = best_proposals(
            self.propose_from(maps, images.shape[1:3]),
            sizes,
            before=before,
            after=after,
            iou_threshold=proposal_iou,
        )
        logits, deltas = self.classify(maps, proposals.boxes)
        return best_detections(
            logits,
            deltas,
            proposals,
            sizes,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            most=most,
        )


def best_proposals(
    found: Proposed,
    sizes: jax.Array,
    *,
    before: int = 1000,
    after: int = 1000,
    iou_threshold: float = 0.7,
    least_side: float = 1e-3,
) -> Proposals:
    """The proposals that are left of what a proposal network says, through which no gradient flows.

    Args:
        found: of the network.
        sizes: [B, 2], height and width of the images on the canvas, to which boxes are clipped.
        before: how many of each level enter non-maximum suppression, the best ones.
        after: P, how many of all levels are left.
        iou_threshold: of the suppression, within a level.
        least_side: boxes that are narrower or lower, in pixels, are left out.

    Source: Ren et al. 2015, section 3.3; by levels as in torchvision.
    """
    found = Proposed(*lax.stop_gradient(found[:3]), found.levels)
    begin, kept, level = 0, [], []
    for i, count in enumerate(found.levels):
        most = min(before, count)
        _, index = lax.top_k(found.logits[:, begin : begin + count], most)
        kept.append(begin + index)
        level.append(jnp.full(most, i, jnp.int32))
        begin += count
    index = jnp.concatenate(kept, 1)
    logits = jnp.take_along_axis(found.logits, index, 1)
    deltas = jnp.take_along_axis(found.deltas, index[..., None], 1)
    boxes = ops.decode_boxes(deltas, found.anchors[index])
    boxes = ops.clip_boxes(boxes, sizes[:, 0], sizes[:, 1])
    scores = jax.nn.sigmoid(logits)
    labels = jnp.broadcast_to(jnp.concatenate(level), index.shape)
    chosen, valid = ops.batched_nms(
        boxes,
        scores,
        labels,
        iou_threshold=iou_threshold,
        max_outputs=after,
        valid=wide_enough(boxes, least_side),
    )
    boxes = jnp.take_along_axis(boxes, chosen[..., None], 1)
    scores = jnp.take_along_axis(scores, chosen, 1)
    return Proposals(jnp.where(valid[..., None], boxes, 0), jnp.where(valid, scores, 0), valid)


def anchor_scales(smallest: float, levels: int) -> tuple[tuple[float, ...], ...]:
    """One anchor scale on each level, doubled from level to level, as pyramids have it."""
    return tuple((smallest * 2**i,) for i in range(levels))
