"""Fast R-CNN (Girshick, ICCV 2015): given regions, pooled from one map of the image and classified.

What may be added: another pooling of regions, another head.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from jaxstruct import ops
from jaxstruct.ops.boxes import BOX_WEIGHTS

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of its pixels
PYRAMID_NORM = 20.0  # of a region's pyramid where boxes are regressed from it, as R-CNN's features


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


class FastRCNN(nn.Module):
    """A backbone and a head on the regions that it is given, pooled from the backbone's maps.

    Called with images [B, H, W, 3] in [0, 1] on a canvas, their sizes [B, 2] (height, width) on it
    and proposals of P regions each, it detects: see `detect`. A training step calls the parts:
    `maps`, `classify`. What lies on the canvas beyond an image is 0 to the network.

    With pooling "pyramid" it is SPPnet's detector: a region is the cells whose centres it holds
    (`window_cells`), pooled to 50 vectors by `spatial_pyramid_pool`. Its deltas are a linear
    function of these vectors, scaled to the norm 20 together, and not of the head's features.

    Attributes:
        classes: C, without the background.
        backbone: a module that returns maps by name and has their `strides()`.
        levels: the names of the maps that are used, the finest first.
        head: a module from regions [R, T, T, D] to features [R, 1, 1, F], `VGGHead` say; of a
            pyramid, from [R, 1, 1, 50 D].
        neck: a module between backbone and all else, `FPN` say; a map that it adds behind the
            `levels` gives no regions.
        pooling: "align" (`roi_align`), "pool" (`roi_pool`) or "pyramid", of one level alone.
        cells: T, of a region's side; of no use to a pyramid.
        sampling_ratio: of `roi_align`.
        normal: mean and deviation of the colours that the backbone was trained with.
        dtype: the compute dtype of the parts that this module makes.

    Raises:
        ValueError: when called, for anything else.

    Source: Girshick 2015, section 2; He et al. 2014, section 4, for the pyramid.
    """

    classes: int
    backbone: nn.Module = field(kw_only=True)
    levels: tuple[str, ...] = field(kw_only=True)
    head: nn.Module = field(kw_only=True)
    neck: nn.Module | None = field(default=None, kw_only=True)
    pooling: Literal["align", "pool", "pyramid"] = field(default="pool", kw_only=True)
    cells: int = field(default=7, kw_only=True)
    sampling_ratio: int = field(default=2, kw_only=True)
    normal: tuple[tuple[float, ...], tuple[float, ...]] = field(default=IMAGENET, kw_only=True)
    dtype: Dtype | None = field(default=None, kw_only=True)

    def setup(self) -> None:
        """Makes the parts that have parameters of this module's own."""
        if self.pooling not in ("align", "pool", "pyramid"):
            raise ValueError(f"got pooling {self.pooling!r}, expected align, pool or pyramid")
        if self.pooling == "pyramid" and len(self.levels) > 1:
            raise ValueError(f"got levels {self.levels} of pooling 'pyramid', expected one")
        normal = nn.initializers.normal
        outputs = lambda each, deviation: nn.Dense(
            each * (self.classes + 1), kernel_init=normal(deviation), dtype=self.dtype
        )
        self.class_logits, self.class_deltas = outputs(1, 0.01), outputs(4, 0.001)

    def __call__(self, images: jax.Array, sizes: jax.Array, proposals: Proposals) -> Detected:
        """What `detect` finds by its defaults."""
        return self.detect(images, sizes, proposals)

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

    def classify(
        self, maps: Mapping[str, jax.Array], regions: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Class logits [B, R, C + 1], 0 the background, and deltas [B, R, C + 1, 4] of regions.

        `regions` are [B, R, 4] in pixels of the canvas; with train, units of the head are dropped.
        """
        pooled = self.pooled(maps, regions)
        hidden = of_boxes = self._features(pooled, train)
        if self.pooling == "pyramid":
            of_boxes = pooled.reshape(len(hidden), -1)
            # Without a root, whose gradient is infinite for a region where the map is 0.
            squares = jnp.sum(of_boxes**2, axis=-1, keepdims=True)
            of_boxes = of_boxes * (PYRAMID_NORM * jax.lax.rsqrt(jnp.maximum(squares, 1e-12)))
        shape = *regions.shape[:2], self.classes + 1
        logits = self.class_logits(hidden).reshape(shape).astype(jnp.float32)
        deltas = self.class_deltas(of_boxes).reshape(*shape, 4).astype(jnp.float32)
        return logits, deltas

    def features(
        self, maps: Mapping[str, jax.Array], regions: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """What the head makes of regions [B, R, 4] before they are classified: [B R, F]."""
        return self._features(self.pooled(maps, regions), train)

    def _features(self, pooled: jax.Array, train: bool) -> jax.Array:
        flat = pooled.reshape(-1, *pooled.shape[2:])
        hidden = self.head(flat, train=True) if train else self.head(flat)
        return hidden.reshape(len(flat), -1)

    def pooled(self, maps: Mapping[str, jax.Array], regions: jax.Array) -> jax.Array:
        """The regions [B, R, 4] as [B, R, T, T, D], each from the level of its size.

        With pooling "pyramid" they are [B, R, 1, 1, 50 D].
        """
        strides = self.backbone.strides()
        if self.pooling == "pyramid":
            (name,) = self.levels
            cells = ops.window_cells(regions, stride=strides[name])
            return ops.spatial_pyramid_pool(maps[name], cells)[..., None, None, :]
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

    def detect(
        self,
        images: jax.Array,
        sizes: jax.Array,
        proposals: Proposals,
        *,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        most: int = 100,
    ) -> Detected:
        """What there is among the proposals of images [B, H, W, 3] of sizes [B, 2].

        See `best_detections` for the options.
        """
        logits, deltas = self.classify(self.maps(images, sizes), proposals.boxes)
        return best_detections(
            logits,
            deltas,
            proposals,
            sizes,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            most=most,
        )


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
    one_against_rest: bool = False,
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
        one_against_rest: the logits are margins of each class against the rest, an SVM's; scores
            are their sigmoids, in place of a softmax.

    Source: Girshick 2015 (Fast R-CNN), section 2.4; the limits are torchvision's.
    """
    scores = jax.nn.sigmoid(logits) if one_against_rest else jax.nn.softmax(logits, axis=-1)
    scores = scores[..., 1:]
    boxes = ops.decode_boxes(deltas[..., 1:, :], proposals.boxes[..., None, :], weights=weights)
    batch, number, classes = scores.shape
    boxes = ops.clip_boxes(boxes.reshape(batch, -1, 4), sizes[:, 0], sizes[:, 1])
    usable = jnp.repeat(proposals.valid, classes, axis=1) & wide_enough(boxes, least_side)
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


def wide_enough(boxes: jax.Array, side: float) -> jax.Array:
    """Which boxes [..., 4] have sides of at least `side` pixels."""
    return jnp.all(boxes[..., 2:] - boxes[..., :2] >= side, axis=-1)
