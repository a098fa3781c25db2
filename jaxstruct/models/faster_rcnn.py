"""Faster R-CNN (Ren et al., NeurIPS 2015): regions proposed on the maps that the head reads, too.

What may be added: another head, another way from the maps to the regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jax import lax

from jaxstruct import ops
from jaxstruct.models.layers import Conv

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of its pixels
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the head's regression


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


class Proposals(NamedTuple):
    """The best boxes [B, P, 4], their scores [B, P] in [0, 1], falling, and which there are."""

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


class Detected(NamedTuple):
    """Boxes [B, K, 4], scores [B, K], falling, classes int32 [B, K] from 1 on, which there are."""

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    valid: jax.Array


class FasterRCNN(nn.Module):
    """A backbone, a region proposal network and a head on pooled regions.

    Called with images [B, H, W, 3] in [0, 1] on a canvas, and their sizes [B, 2] (height, width)
    on it, it detects: see `detect`. A training step calls the parts: `maps`, `propose_from`,
    `classify`. What lies on the canvas beyond an image is 0 to the network.

    Attributes:
        classes: C, without the background.
        backbone: a module that returns maps by name and has their `strides()`.
        levels: the names of the maps that are used, the finest first.
        head: a module from regions [R, T, T, D] to features [R, 1, 1, F], `VGGHead` say.
        neck: a module between backbone and all else, `FPN` say; a map that it adds behind the
            `levels` gives proposals, and no regions.
        scales: of each level's anchors, square roots of areas in pixels.
        ratios: height / width of anchors.
        rounded: whether anchors' corners are whole pixels.
        rpn_features: channels of the proposal network's 3x3 convolution.
        pooling: "align" (`roi_align`) or "pool" (`roi_pool`).
        cells: T, of a region's side.
        sampling_ratio: of `roi_align`.
        normal: mean and deviation of the colours that the backbone was trained with.
        dtype: the compute dtype of the parts that this module makes.

    Raises:
        ValueError: when called, for anything else.

    Source: Ren et al. 2015; with a neck Lin et al. 2017, section 4.
    """

    classes: int
    backbone: nn.Module = field(kw_only=True)
    levels: tuple[str, ...] = field(kw_only=True)
    head: nn.Module = field(kw_only=True)
    neck: nn.Module | None = field(default=None, kw_only=True)
    scales: tuple[tuple[float, ...], ...] = field(default=((128.0, 256.0, 512.0),), kw_only=True)
    ratios: tuple[float, ...] = field(default=(0.5, 1.0, 2.0), kw_only=True)
    rounded: bool = field(default=True, kw_only=True)
    rpn_features: int = field(default=512, kw_only=True)
    pooling: Literal["align", "pool"] = field(default="pool", kw_only=True)
    cells: int = field(default=7, kw_only=True)
    sampling_ratio: int = field(default=2, kw_only=True)
    normal: tuple[tuple[float, ...], tuple[float, ...]] = field(default=IMAGENET, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def setup(self) -> None:
        """Makes the parts that have parameters of this module's own."""
        if self.pooling not in ("align", "pool"):
            raise ValueError(f"got pooling {self.pooling!r}, expected align or pool")
        if len({len(scales) for scales in self.scales}) != 1:
            raise ValueError(f"got scales {self.scales}, expected as many on each level")
        near_zero = nn.initializers.normal(0.01)
        anchors = len(self.scales[0]) * len(self.ratios)
        conv = lambda features, size, name: Conv(
            features,
            (size, size),
            padding=size // 2,
            kernel_init=near_zero,
            dtype=self.dtype,
            name=name,
        )
        self.rpn_conv = conv(self.rpn_features, 3, None)
        self.rpn_logits = conv(anchors, 1, None)
        self.rpn_deltas = conv(4 * anchors, 1, None)
        self.class_logits = nn.Dense(self.classes + 1, kernel_init=near_zero, dtype=self.dtype)
        smaller = nn.initializers.normal(0.001)
        self.class_deltas = nn.Dense(4 * (self.classes + 1), kernel_init=smaller, dtype=self.dtype)

    def __call__(self, images: jax.Array, sizes: jax.Array) -> Detected:
        """What `detect` finds by its defaults."""
        return self.detect(images, sizes)

    def maps(
        self, images: jax.Array, sizes: jax.Array, *, train: bool = False
    ) -> dict[str, jax.Array]:
        """The maps [B, h, w, D] by name, the finest first; with train, the backbone trains."""
        mean, deviation = (jnp.array(x, images.dtype)[None, None, None] for x in self.normal)
        height, width = (sizes[:, axis, None, None] for axis in (0, 1))
        rows = jnp.arange(images.shape[1])[None, :, None]
        columns = jnp.arange(images.shape[2])[None, None, :]
        inside = (rows < height) & (columns < width)
        images = jnp.where(inside[..., None], (images - mean) / deviation, 0)
        # Of the backbones, those with batch norm alone have another form in training.
        found = self.backbone(images, train=True) if train else self.backbone(images)
        missing = [name for name in self.levels if name not in found]
        if missing or not self.levels:
            raise ValueError(f"got levels {self.levels}, expected some of {', '.join(found)}")
        found = {name: found[name] for name in self.levels}
        return found if self.neck is None else self.neck(found)

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

    def classify(
        self, maps: Mapping[str, jax.Array], regions: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Class logits [B, R, C + 1], 0 the background, and deltas [B, R, C + 1, 4] of regions.

        `regions` are [B, R, 4] in pixels of the canvas; with train, units of the head are dropped.
        """
        pooled = self.pooled(maps, regions)
        flat = pooled.reshape(-1, *pooled.shape[2:])
        hidden = self.head(flat, train=True) if train else self.head(flat)
        hidden = hidden.reshape(len(flat), -1)
        shape = *regions.shape[:2], self.classes + 1
        logits = self.class_logits(hidden).reshape(shape).astype(jnp.float32)
        deltas = self.class_deltas(hidden).reshape(*shape, 4).astype(jnp.float32)
        return logits, deltas

    def pooled(self, maps: Mapping[str, jax.Array], regions: jax.Array) -> jax.Array:
        """The regions [B, R, 4] as [B, R, T, T, D], each from the level of its size."""
        strides = self.backbone.strides()
        level = None
        if len(self.levels) > 1:
            lowest, highest = (strides[self.levels[i]].bit_length() - 1 for i in (0, -1))
            level = ops.pyramid_level(regions, lowest=lowest, highest=highest)
        total: jax.Array | None = None
        for name in self.levels:
            # A region that is not finite costs nothing: it is 0 everywhere.
            here = regions
            if level is not None:
                mine = level == strides[name].bit_length() - 1
                here = jnp.where(mine[..., None], regions, jnp.nan)
            scale = 1 / strides[name]
            if self.pooling == "pool":
                found = ops.roi_pool(maps[name], here, output_size=self.cells, spatial_scale=scale)
            else:
                found = ops.roi_align(
                    maps[name],
                    here,
                    output_size=self.cells,
                    spatial_scale=scale,
                    sampling_ratio=self.sampling_ratio,
                )
            total = found if total is None else total + found
        assert total is not None
        return total

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

    def detect(
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
        valid=_wide_enough(boxes, least_side),
    )
    boxes = jnp.take_along_axis(boxes, chosen[..., None], 1)
    scores = jnp.take_along_axis(scores, chosen, 1)
    return Proposals(jnp.where(valid[..., None], boxes, 0), jnp.where(valid, scores, 0), valid)


def best_detections(
    logits: jax.Array,
    deltas: jax.Array,
    proposals: Proposals,
    sizes: jax.Array,
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    most: int = 100,
    least_side: float = 1e-2,
    weights: tuple[float, float, float, float] = BOX_WEIGHTS,
) -> Detected:
    """The detections that are left of what the head says of proposals.

    Args:
        logits: [B, P, C + 1], 0 the background.
        deltas: [B, P, C + 1, 4].
        proposals: P in each image.
        sizes: [B, 2], height and width of the images on the canvas, to which boxes are clipped.
        score_threshold: probabilities have to be above it.
        iou_threshold: of the suppression, within a class.
        most: K, how many of all classes are left.
        least_side: boxes that are narrower or lower, in pixels, are left out.
        weights: of the deltas, see `decode_boxes`.

    Source: Girshick 2015 (Fast R-CNN), section 2.4; the limits are torchvision's.
    """
    scores = jax.nn.softmax(logits, axis=-1)[..., 1:]
    boxes = ops.decode_boxes(deltas[..., 1:, :], proposals.boxes[..., None, :], weights=weights)
    batch, number, classes = scores.shape
    boxes = ops.clip_boxes(boxes.reshape(batch, -1, 4), sizes[:, 0], sizes[:, 1])
    usable = jnp.repeat(proposals.valid, classes, axis=1) & _wide_enough(boxes, least_side)
    labels = jnp.broadcast_to(jnp.arange(1, classes + 1), (batch, number, classes))
    labels, scores = labels.reshape(batch, -1), scores.reshape(batch, -1)
    index, valid = ops.batched_nms(
        boxes,
        scores,
        labels,
        iou_threshold=iou_threshold,
        max_outputs=most,
        score_threshold=score_threshold,
        valid=usable,
    )
    boxes = jnp.take_along_axis(boxes, index[..., None], 1)
    scores, labels = (jnp.take_along_axis(x, index, 1) for x in (scores, labels))
    return Detected(
        jnp.where(valid[..., None], boxes, 0),
        jnp.where(valid, scores, 0),
        jnp.where(valid, labels, 0).astype(jnp.int32),
        valid,
    )


def _wide_enough(boxes: jax.Array, side: float) -> jax.Array:
    return jnp.all(boxes[..., 2:] - boxes[..., :2] >= side, axis=-1)


def anchor_scales(smallest: float, levels: int) -> tuple[tuple[float, ...], ...]:
    """One anchor scale on each level, doubled from level to level, as pyramids have it."""
    return tuple((smallest * 2**i,) for i in range(levels))
