"""What a trained detector finds: on the canvas, over a set, in a user's image; and its pictures.

What may be added: another number that follows from detections, another picture of them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import _box_batches
from jaxstruct import data, figures, metrics, models, ops
from jaxstruct.data import Reader
from jaxstruct.models import Detected, FasterRCNN, Proposals
from jaxstruct.training import Batches, Run, State, make_prediction, merge

SHOWN = 0.5  # the score of a detection that is drawn
CURVES_OF = 200  # images of which precision and recall are drawn
TRUTH = ("scale", "boxes", "boxes_valid", "classes", "difficult")


class Detector(NamedTuple):
    """A network on its canvas: what its parts are called with, and what its classes mean."""

    model: FasterRCNN
    canvas: tuple[int, int]  # height and width
    proposals: int  # that are classified
    classes: tuple[str, ...]
    scored: tuple[str, ...]  # classes whose mean is the average precision


def variables_of(state: State) -> dict[str, Any]:
    """What the network is applied with: trained and frozen parameters, and statistics."""
    kept = state.model_state
    return {"params": merge(state.params, kept["frozen"]), **kept["stats"]}


def call(model: FasterRCNN, variables: Any, method: str, *given: Any, **options: Any) -> Any:
    """A method of the network."""
    return model.apply(variables, *given, method=method, **options)


def detect(
    detector: Detector, variables: Any, images: jax.Array, sizes: jax.Array
) -> tuple[Proposals, Detected]:
    """The proposals of images on the canvas and what is found among them."""
    apply = partial(call, detector.model, variables)
    maps = apply("maps", images, sizes)
    said = apply("propose_from", maps, images.shape[1:3])
    proposals = models.best_proposals(said, sizes, before=1000, after=detector.proposals)
    logits, deltas = apply("classify", maps, proposals.boxes)
    return proposals, models.best_detections(logits, deltas, proposals, sizes, score_threshold=0.01)


@lru_cache(maxsize=8)
def _swept(detector: Detector) -> Callable[[State, Batches], dict[str, np.ndarray]]:
    """What `detect` says of every example of batches, beside the truth: one program for all."""

    def predict(state: State, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        proposals, found = detect(detector, variables_of(state), batch["image"], batch["size"])
        return {
            "proposals": proposals.boxes,
            "proposals_valid": proposals.valid,
            **{f"found_{name}": x for name, x in found._asdict().items()},
            **{name: batch[name] for name in TRUTH},
        }

    return make_prediction(predict, compilations=_box_batches.shapes_of(detector.canvas))


def evaluated(detector: Detector, batches: Batches, state: State) -> dict[str, float]:
    """Average precision, in all and of each class, and the recall of the proposals."""
    return scores(detector, _swept(detector)(state, batches))


def _compared(rows: Mapping[str, np.ndarray]) -> tuple[metrics.Detections, metrics.Truth]:
    """What was found and what there is, in the pixels of the images."""
    scale = rows["scale"][:, None, None]
    found = metrics.Detections(
        rows["found_boxes"] / scale,
        rows["found_scores"],
        rows["found_classes"],
        rows["found_valid"],
    )
    there = rows["boxes"] / scale, rows["classes"], rows["boxes_valid"], rows["difficult"]
    return found, metrics.Truth(*there)


def scores(detector: Detector, rows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """VOC's AP50, its mean over the scored classes and each; COCO's AP of these; recall."""
    found, truth = _compared(rows)
    numbers = {name: detector.classes.index(name) + 1 for name in detector.classes}
    curves = metrics.voc_curves(found, truth, classes=list(numbers.values()))
    of_classes = {name: curves[c].area() for name, c in numbers.items() if c in curves}
    scored = [numbers[name] for name in detector.scored]
    coco, _ = metrics.coco_scores(found, truth, classes=scored)
    scale = rows["scale"][:, None, None]
    best = metrics.best_overlaps(rows["proposals"] / scale, rows["proposals_valid"], truth)
    means = [of_classes[name] for name in detector.scored if name in of_classes]
    return {
        **({"ap50": float(np.mean(means))} if means else {}),
        **{name: coco[name] for name in ("ap", "ap75") if name in coco},
        **{f"ap50/{name}": ap for name, ap in of_classes.items()},
        **({"recall50": float(np.mean(best >= 0.5))} if best.size else {}),
        **({"recall70": float(np.mean(best >= 0.7))} if best.size else {}),
    }


@partial(jax.jit, static_argnums=0)
def _detect(detector: Detector, variables: Any, images: Any, sizes: Any) -> Any:
    return detect(detector, variables, images, sizes)


def _on_canvas(detector: Detector, image: np.ndarray) -> tuple[np.ndarray, float, tuple[int, int]]:
    """An image on the canvas of its orientation, its scale and its size there."""
    return data.letter_box(
        image, _box_batches.turned(detector.canvas, image.shape[:2]), fill=_box_batches.GREY
    )


def in_image(
    detector: Detector, state: State, image: np.ndarray, least: float = SHOWN
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [n, 4] in the image's pixels, classes [n], scores [n] of at least `least`; proposals.

    `image` is uint8 [H, W, 3] of any size; the proposals [P, 4] are in its pixels, the best first.
    """
    canvas, scale, size = _on_canvas(detector, image)
    pixels = jnp.asarray(canvas[None], jnp.float32) / 255
    proposals, found = _detect(detector, variables_of(state), pixels, jnp.array([size]))
    boxes, scores, classes, valid = (np.asarray(x[0]) for x in found)
    kept = valid & (scores >= least)
    limit = np.array([*image.shape[1::-1]] * 2, np.float32)
    proposed = np.asarray(proposals.boxes[0])[np.asarray(proposals.valid[0])]
    inside = [np.minimum(x / scale, limit) for x in (boxes[kept], proposed)]
    return inside[0], classes[kept], scores[kept], inside[1]


def _labels(detector: Detector, classes: np.ndarray, scores: np.ndarray) -> list[str]:
    pairs = zip(classes, scores, strict=True)
    return [f"{detector.classes[c - 1]} {score:.2f}" for c, score in pairs]


def predict(
    detector: Detector, key: Any, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """What there is in a user's image; see `Experiment.predict`."""
    if image is None:
        raise ValueError("a detector draws no samples; name images with --images")
    assert state is not None
    in_image(detector, state, image)  # compiles
    since = time.perf_counter()
    boxes, classes, scores, _ = in_image(detector, state, image)
    print(f"{len(boxes)} objects in {time.perf_counter() - since:.2f} s")
    record = {
        "size": list(image.shape[:2]),
        "objects": [
            {
                "class": detector.classes[c - 1],
                "category_id": int(c),
                "score": round(float(score), 4),
                "box": [round(float(x), 2) for x in box],
            }
            for box, c, score in zip(boxes, classes, scores, strict=True)
        ],
    }
    labels = [_labels(detector, classes, scores)]
    return record, figures.box_panels([image], [boxes], classes=[classes - 1], labels=labels)


def coco_results(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One file of all images, as COCO's evaluation reads it; boxes as x, y, width, height."""
    rows = []
    for number, record in enumerate(records):
        for thing in record["objects"]:
            x1, y1, x2, y2 = thing["box"]
            about = {"image_id": number, "file_name": record["image"]}
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            named = {key: thing[key] for key in ("category_id", "score")}
            rows.append({**about, **named, "bbox": box})
    return {"coco_results.json": rows}


def pictures(detector: Detector, reader: Reader, batches: Batches, run: Run) -> dict[str, Figure]:
    """The paper's figures of a finished run: detections, proposals, anchors, regions, curves."""
    assert run.state is not None
    shown = np.linspace(0, reader.size - 1, min(6, reader.size)).round().astype(int)
    examples = reader(shown)
    images = [np.asarray(image) for image in examples["image"]]
    found = [in_image(detector, run.state, image) for image in images]
    names = [name for name in ("ap50", "ap", "ap75") if len(run.curve(name)[0])]
    return {
        "detections": figures.box_panels(
            images,
            [boxes for boxes, *_ in found],
            classes=[classes - 1 for _, classes, *_ in found],
            labels=[_labels(detector, classes, scores) for _, classes, scores, _ in found],
            truth=list(examples["boxes"]),
        ),
        "proposals": figures.box_panels(
            images[:3], [x[-1][:20] for x in found[:3]], truth=list(examples["boxes"])[:3]
        ),
        "anchors": _anchors(detector, images[0]),
        "region_pooling": _pooling(detector, run.state, images[0], found[0][-1]),
        "precision_recall": _precision_recall(detector, batches, run.state),
        "average_precision": figures.curves(
            {name: run.curve(name) for name in names}, x_label="steps", y_label="average precision"
        ),
    }


def _anchors(detector: Detector, image: np.ndarray) -> Figure:
    """The anchors of the cell in the middle, on the canvas."""
    canvas, *_ = _on_canvas(detector, image)
    model = detector.model
    (level,), (scales,) = model.levels, model.scales
    stride = model.backbone.strides()[level]
    sizes = [side // stride for side in canvas.shape[:2]]
    each = len(scales) * len(model.ratios)
    middle = ((sizes[0] // 2) * sizes[1] + sizes[1] // 2) * each
    anchors = ops.anchor_grid(*sizes, stride=stride, scales=scales, ratios=model.ratios)
    mine = np.asarray(anchors)[middle : middle + each]
    kinds = np.tile(np.arange(len(scales)), len(model.ratios))
    return figures.box_panels([canvas], [mine], classes=[kinds], columns=1)


def _pooling(detector: Detector, state: State, image: np.ndarray, proposed: np.ndarray) -> Figure:
    """The largest and the smallest of the best proposals, as grids of 3x3 and 4x4 cells."""
    canvas, scale, size = _on_canvas(detector, image)
    pixels = jnp.asarray(canvas[None], jnp.float32) / 255
    model = detector.model
    maps = call(model, variables_of(state), "maps", pixels, jnp.array([size]))
    (level,) = model.levels
    stride = model.backbone.strides()[level]
    best = proposed[:30] * scale
    areas = np.prod(best[:, 2:] - best[:, :2], axis=-1)
    regions = best[[int(np.argmax(areas)), int(np.argmin(areas))]] if len(best) else best
    pooled = [
        ops.roi_pool(maps[level][0], jnp.asarray(regions), output_size=t, spatial_scale=1 / stride)
        for t in (3, 4)
    ]
    return figures.region_pooling(canvas, maps[level][0], regions, pooled, stride=stride)


def _precision_recall(detector: Detector, batches: Batches, state: State) -> Figure:
    """Of each scored class, over the first images of the test set."""
    limit = -(-CURVES_OF // batches.size)
    some = batches.indices

    def indices(step: int) -> np.ndarray:
        return some(step) if step < limit else np.zeros(0, np.int32)

    rows = _swept(detector)(state, dataclasses.replace(batches, indices=indices))
    found, truth = _compared(rows)
    numbers = [detector.classes.index(name) + 1 for name in detector.scored]
    curves = metrics.voc_curves(found, truth, classes=numbers)
    lines = {
        f"{detector.classes[c - 1]} ({curve.area():.2f})": (curve.recall, curve.precision)
        for c, curve in curves.items()
    }
    count = len(rows["scale"])
    return figures.curves(
        lines,
        x_label="recall",
        y_label="precision",
        title=f"IoU 0.5, {count} test images",
        y_limits=(0.0, 1.02),
    )
