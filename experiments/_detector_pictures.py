"""The pictures of a trained detector: detections, proposals, anchors, pooled regions, curves.

What may be added: another picture of what a detector does or finds.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments._backbones import variables_of
from experiments._detector_evaluation import (
    Detector,
    call,
    compared,
    in_image,
    labels_of,
    on_canvas,
    swept,
)
from experiments._spread import spread
from jaxstruct import figures, metrics, ops
from jaxstruct.data import Reader
from jaxstruct.models import FasterRCNN
from jaxstruct.training import Batches, Run, State

LOOKED_AT = 20  # images of which one shows its regions
CURVES_OF = 200  # images of which precision and recall are drawn


def pictures(detector: Detector, reader: Reader, batches: Batches, run: Run) -> dict[str, Figure]:
    """The paper's figures of a finished run: detections, proposals, anchors, regions, curves."""
    assert run.state is not None
    shown = spread(reader.size, 6)
    examples = reader(shown)
    images = [np.asarray(image) for image in examples["image"]]
    given = examples["proposals"] if detector.stored else [None] * len(images)
    found = [in_image(detector, run.state, *x) for x in zip(images, given, strict=True)]
    return {
        "detections": figures.box_panels(
            images,
            [boxes for boxes, *_ in found],
            classes=[classes - 1 for _, classes, *_ in found],
            labels=[labels_of(detector, classes, scores) for _, classes, scores, _ in found],
            truth=list(examples["boxes"]),
        ),
        "proposals": figures.box_panels(
            images[:3], [x[-1][:20] for x in found[:3]], truth=list(examples["boxes"])[:3]
        ),
        **_anchors(detector, images[0]),
        "region_pooling": _pooling(
            detector, run.state, images[0], found[0][-1], np.asarray(examples["boxes"][0])
        ),
        **_precision_recall(detector, batches, run.state),
        **_average_precision(run),
    }


def _average_precision(run: Run) -> dict[str, Figure]:
    """Over the steps, where it was measured more than once."""
    curves = {name: run.curve(name) for name in ("ap50", "ap", "ap75")}
    lines = {name: (steps, values) for name, (steps, values) in curves.items() if len(steps) > 1}
    if not lines:
        return {}
    figure = figures.curves(lines, x_label="steps", y_label="average precision")
    return {"average_precision": figure}


def _anchors(detector: Detector, image: np.ndarray) -> dict[str, Figure]:
    """The anchors of the cell in the middle, on the canvas, where there are any."""
    model = detector.model
    if not isinstance(model, FasterRCNN):
        return {}
    canvas, *_ = on_canvas(detector, image)
    (level,), (scales,) = model.levels, model.scales
    stride = model.backbone.strides()[level]
    sizes = [side // stride for side in canvas.shape[:2]]
    each = len(scales) * len(model.ratios)
    middle = ((sizes[0] // 2) * sizes[1] + sizes[1] // 2) * each
    anchors = ops.anchor_grid(*sizes, stride=stride, scales=scales, ratios=model.ratios)
    mine = np.asarray(anchors)[middle : middle + each]
    kinds = np.tile(np.arange(len(scales)), len(model.ratios))
    return {"anchors": figures.box_panels([canvas], [mine], classes=[kinds], columns=1)}


def stored_regions(detector: Detector, reader: Reader, state: State) -> Figure:
    """Stored proposals of an image as grids of cells, of one whose objects are large.

    See `_pooling`, which shows two of them.
    """
    some = reader(spread(reader.size, LOOKED_AT))
    boxes = [np.asarray(x) for x in some["boxes"]]
    smallest = [float(np.prod(x[:, 2:] - x[:, :2], axis=-1).min(initial=np.inf)) for x in boxes]
    best = max(range(len(boxes)), key=lambda i: (min(len(boxes[i]), 2), smallest[i]))
    proposals = some["proposals"][best][: detector.proposals]
    return _pooling(detector, state, np.asarray(some["image"][best]), proposals, boxes[best])


def _pooling(
    detector: Detector, state: State, image: np.ndarray, proposed: np.ndarray, truth: np.ndarray
) -> Figure:
    """The proposals that fit the largest and the smallest object best, as grids of cells.

    Of SPPnet, its own cells; where nothing is there or proposed, the first proposals.
    """
    canvas, scale, size = on_canvas(detector, image)
    pixels = jnp.asarray(canvas[None], jnp.float32) / 255
    model = detector.model
    maps = call(model, variables_of(state), "maps", pixels, jnp.array([size]))
    (level,) = model.levels
    stride = model.backbone.strides()[level]
    best = proposed[:30] * scale
    if len(proposed) and len(truth):
        best = proposed[np.argmax(ops.box_iou(proposed, truth.astype(np.float32)), axis=0)] * scale
    areas = np.prod(best[:, 2:] - best[:, :2], axis=-1)
    regions = best[[int(np.argmax(areas)), int(np.argmin(areas))]] if len(best) else best
    cells, grids = jnp.asarray(regions) / stride, [3, 4]
    if model.pooling == "pyramid":
        cells, grids = ops.window_cells(jnp.asarray(regions), stride=stride), [6, 3, 2, 1]
        regions = np.add(cells, [0, 0, 1, 1]) * stride  # whole cells
    pool: Any = ops.roi_pool
    if model.pooling == "align":
        pool = partial(ops.roi_align, sampling_ratio=model.sampling_ratio)
    pooled = [pool(maps[level][0], cells, output_size=t) for t in grids]
    return figures.region_pooling(canvas, maps[level][0], regions, pooled, stride=stride)


def _precision_recall(detector: Detector, batches: Batches, state: State) -> dict[str, Figure]:
    """Of each scored class that the first images of the test set show."""
    limit = -(-CURVES_OF // batches.size)
    some = batches.indices

    def indices(step: int) -> np.ndarray:
        return some(step) if step < limit else np.zeros(0, np.int32)

    rows = swept(detector)(variables_of(state), dataclasses.replace(batches, indices=indices))
    found, truth = compared(rows)
    numbers = [detector.classes.index(name) + 1 for name in detector.scored]
    curves = metrics.voc_curves(found, truth, classes=numbers)
    lines = {
        f"{detector.classes[c - 1]} ({curve.area():.2f})": (curve.recall, curve.precision)
        for c, curve in curves.items()
    }
    if not lines:
        return {}
    figure = figures.curves(
        lines,
        x_label="recall",
        y_label="precision",
        title=f"IoU 0.5, {len(rows['scale'])} test images",
        y_limits=(0.0, 1.02),
    )
    return {"precision_recall": figure}
