"""What a trained detector finds: on the canvas, over a set, in a user's image.

What may be added: another number that follows from detections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import _canvases, _checks
from experiments._backbones import variables_of
from experiments._timing import median_seconds
from jaxstruct import data, figures, metrics, models
from jaxstruct.data import Reader
from jaxstruct.models import Detected, FasterRCNN, FastRCNN, Proposals
from jaxstruct.training import Batches, State, make_prediction

SHOWN = 0.5  # the score of a detection that is drawn
Sweep = Callable[[Any], Batches]  # a sweep through a split, given the variables of the network
TRUTH = ("scale", "boxes", "boxes_valid", "classes", "difficult")


class Detector(NamedTuple):
    """A network on its canvas: what its parts are called with, and what its classes mean."""

    model: FastRCNN  # a FasterRCNN proposes its regions itself
    canvas: tuple[int, int]  # height and width
    proposals: int  # that are classified
    classes: tuple[str, ...]
    scored: tuple[str, ...]  # classes whose mean is the average precision
    stored: str = ""  # the kind of the proposals, where the network has none of its own
    svm: bool = False  # whether the layer of classes holds SVMs


def call(model: FastRCNN, variables: Any, method: str, *given: Any, **options: Any) -> Any:
    """A method of the network."""
    return model.apply(variables, *given, method=method, **options)


def maps_of(model: FastRCNN, variables: Any, batch: Any) -> dict[str, jax.Array]:
    """The maps of the images of a batch, or the map that it holds in place of them."""
    if "map" in batch:
        return {model.levels[0]: batch["map"]}
    return call(model, variables, "maps", batch["image"], batch["size"])


def stored_proposals(batch: Any) -> Proposals:
    """The proposals that a batch holds, all of one score."""
    valid = batch["proposals_valid"]
    return Proposals(batch["proposals"], valid.astype(jnp.float32), valid)


def proposed(
    detector: Detector, variables: Any, maps: Any, batch: Any, before: int = 1000
) -> Proposals:
    """The regions that are classified: the network's own, or those that the batch holds.

    `before` of a network's own enter non-maximum suppression.
    """
    if not isinstance(detector.model, FasterRCNN):
        return stored_proposals(batch)
    canvas = batch["image"].shape[1:3]
    said = call(detector.model, variables, "propose_from", maps, canvas)
    return models.best_proposals(said, batch["size"], before=before, after=detector.proposals)


def detect(detector: Detector, variables: Any, batch: Any) -> tuple[Proposals, Detected]:
    """The proposals of images on the canvas and what is found among them."""
    maps = maps_of(detector.model, variables, batch)
    proposals = proposed(detector, variables, maps, batch)
    logits, deltas = call(detector.model, variables, "classify", maps, proposals.boxes)
    return proposals, models.best_detections(
        logits,
        deltas,
        proposals,
        batch["size"],
        # A margin says little of how sure it is, so none is too small.
        score_threshold=0.0 if detector.svm else 0.01,
        one_against_rest=detector.svm,
    )


@lru_cache(maxsize=8)
def swept(
    detector: Detector, classify: bool = True
) -> Callable[[Any, Batches], dict[str, np.ndarray]]:
    """What `detect` says of every example of batches, beside the truth: one program for all.

    Without `classify`, the proposals alone. It is a function of variables, which are alike after
    all stages, and of batches.
    """

    def predict(variables: Any, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        if classify:
            proposals, detected = detect(detector, variables, batch)
            found = {f"found_{name}": x for name, x in detected._asdict().items()}
        else:
            maps, found = maps_of(detector.model, variables, batch), {}
            proposals = proposed(detector, variables, maps, batch)
        return {
            "proposals": proposals.boxes,
            "proposals_valid": proposals.valid,
            **found,
            **{name: batch[name] for name in TRUTH},
        }

    return make_prediction(predict, compilations=_canvases.shapes_of(detector.canvas))


def evaluated(detector: Detector, sweep: Sweep, state: State) -> dict[str, float]:
    """Average precision, in all and of each class, and the recall of the proposals."""
    variables = variables_of(state)
    return scores(detector, swept(detector)(variables, sweep(variables)))


def recalled(detector: Detector, sweep: Sweep, state: State) -> dict[str, float]:
    """The recall of the proposals alone."""
    variables = variables_of(state)
    return recalls(swept(detector, classify=False)(variables, sweep(variables)))


def truth_of(rows: Mapping[str, np.ndarray]) -> metrics.Truth:
    """What there is, in the pixels of the images."""
    boxes = rows["boxes"] / rows["scale"][:, None, None]
    return metrics.Truth(boxes, rows["classes"], rows["boxes_valid"], rows["difficult"])


def compared(rows: Mapping[str, np.ndarray]) -> tuple[metrics.Detections, metrics.Truth]:
    """What was found and what there is, in the pixels of the images."""
    boxes = rows["found_boxes"] / rows["scale"][:, None, None]
    found = rows["found_scores"], rows["found_classes"], rows["found_valid"]
    return metrics.Detections(boxes, *found), truth_of(rows)


def recalls(rows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The share of the true boxes that proposals reach at an IoU of 0.5 and of 0.7."""
    proposals = rows["proposals"] / rows["scale"][:, None, None]
    best = metrics.best_overlaps(proposals, rows["proposals_valid"], truth_of(rows))
    if not best.size:
        return {}
    return {f"recall{round(100 * iou)}": float(np.mean(best >= iou)) for iou in (0.5, 0.7)}


def scores(detector: Detector, rows: Mapping[str, np.ndarray]) -> dict[str, float]:
    """VOC's AP50, its mean over the scored classes and each; COCO's AP of these; recall.

    "ap50_11" is the mean of VOC's measure until 2009, which papers on VOC 2007 name.
    """
    found, truth = compared(rows)
    numbers = {name: detector.classes.index(name) + 1 for name in detector.classes}
    curves = metrics.voc_curves(found, truth, classes=list(numbers.values()))
    of_classes = {name: curves[c].area() for name, c in numbers.items() if c in curves}
    scored = [numbers[name] for name in detector.scored]
    coco, _ = metrics.coco_scores(found, truth, classes=scored)
    means = [curves[c] for c in scored if c in curves]
    return {
        **({"ap50": float(np.mean([x.area() for x in means]))} if means else {}),
        **({"ap50_11": float(np.mean([x.eleven_points() for x in means]))} if means else {}),
        **{name: coco[name] for name in ("ap", "ap75") if name in coco},
        **{f"ap50/{name}": ap for name, ap in of_classes.items()},
        **recalls(rows),
    }


@partial(jax.jit, static_argnums=0)
def _detect(detector: Detector, variables: Any, batch: Any) -> Any:
    return detect(detector, variables, batch)


def on_canvas(detector: Detector, image: np.ndarray) -> tuple[np.ndarray, float, tuple[int, int]]:
    """An image on the canvas of its orientation, its scale and its size there."""
    return data.letter_box(
        image, _canvases.turned(detector.canvas, image.shape[:2]), fill=_canvases.GREY
    )


def batch_of(
    detector: Detector, image: np.ndarray, given: np.ndarray | None = None
) -> tuple[dict[str, jax.Array], float]:
    """A batch of one image on its canvas, with the proposals that are given; and its scale."""
    canvas, scale, size = on_canvas(detector, image)
    batch = {"image": jnp.asarray(canvas[None], jnp.float32) / 255, "size": jnp.array([size])}
    if given is not None:
        first = given[: detector.proposals] * np.float32(scale)
        boxes, valid = data.padded(first, detector.proposals)
        batch |= {
            "proposals": jnp.asarray(boxes[None]),
            "proposals_valid": jnp.asarray(valid[None]),
        }
    return batch, scale


def in_image(
    detector: Detector, state: State, image: np.ndarray, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [n, 4] in the image's pixels, classes [n], scores [n] of at least SHOWN; proposals.

    `image` is uint8 [H, W, 3] of any size; the proposals [P, 4] are in its pixels, the best first.
    They are the network's own, or those `given`.
    """
    batch, scale = batch_of(detector, image, given)
    proposals, found = _detect(detector, variables_of(state), batch)
    boxes, scores, classes, valid = (np.asarray(x[0]) for x in found)
    kept = valid & (scores >= SHOWN)
    limit = np.array([*image.shape[1::-1]] * 2, np.float32)
    proposed = np.asarray(proposals.boxes[0])[np.asarray(proposals.valid[0])]
    inside = [np.minimum(x / scale, limit) for x in (boxes[kept], proposed)]
    return inside[0], classes[kept], scores[kept], inside[1]


def seconds(detector: Detector, state: State, reader: Reader) -> dict[str, float]:
    """The median time of the first image of a set, from pixels to boxes: `seconds`.

    With stored proposals, `search_seconds` are part of it. Where these are a user's own, nobody
    knows what they took, and there are `network_seconds` alone.
    """
    example = reader(np.array([0]))
    image, given = np.asarray(example["image"][0]), example.get("proposals", [None])[0]
    network = median_seconds(lambda: in_image(detector, state, image, given))
    if not isinstance(reader, data.ReaderWithProposals):
        return {"seconds": network}
    if reader.seconds is None:
        return {"network_seconds": network}
    return {"seconds": network + reader.seconds, "search_seconds": reader.seconds}


def labels_of(detector: Detector, classes: np.ndarray, scores: np.ndarray) -> list[str]:
    """What is written at boxes: names and scores."""
    pairs = zip(classes, scores, strict=True)
    return [f"{detector.classes[c - 1]} {score:.2f}" for c, score in pairs]


def predict(
    detector: Detector, key: Any, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """What there is in a user's image; see `Experiment.predict`."""
    _checks.check_image(image, "a detector")
    assert state is not None
    since, given, searching = time.perf_counter(), None, ""
    if detector.stored:
        given = data.searched(detector.stored, image)
        searching = f" after {time.perf_counter() - since:.2f} s of {detector.stored}"
    in_image(detector, state, image, given)  # compiles
    since = time.perf_counter()
    boxes, classes, scores, _ = in_image(detector, state, image, given)
    print(f"{len(boxes)} objects in {time.perf_counter() - since:.2f} s{searching}")
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
    labels = [labels_of(detector, classes, scores)]
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
