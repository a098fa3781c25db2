"""What detectors share: canvases, the joint loss of Faster R-CNN, average precision, pictures.

What may be added: another backbone, and what all detectors can be configured with.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments._checks import at_least
from jaxstruct import data, figures, losses, metrics, models
from jaxstruct.data import Reader
from jaxstruct.metrics import Mean
from jaxstruct.models import Detected, FasterRCNN, Proposals
from jaxstruct.training import (
    AXIS,
    Batches,
    Claim,
    Experiment,
    Run,
    Stage,
    State,
    augment_each,
    make_collection,
    make_step,
    merge,
    partition,
    reads_in_order,
    shuffled_reads,
)

Backbone = Literal["resnet18", "resnet50", "vgg16", "efficientnet_lite0"]
GREY = 124, 116, 104  # the mean colour of ImageNet, where the canvas shows no image
RPN_BETA, HEAD_BETA = 1 / 9, 1.0  # of smooth L1, as in the authors' code


@dataclass(frozen=True)
class Config:
    """What every detector can be configured with."""

    train: str = "train"  # split that is trained on
    validation: str = "val"  # split whose average precision chooses the checkpoint
    test: str = "test"  # split that is scored once
    backbone: Backbone = "resnet18"  # up to its map of stride 16; of resnet18, stride 8
    weights: str = ""  # a file of its ImageNet weights, .pth or .safetensors; none: from scratch
    frozen: int = 0  # blocks of VGG, or stages of a ResNet, whose weights stay
    height: int = 240  # of the canvas that images are scaled onto, in pixels
    width: int = 320  # of the canvas
    scales: tuple[float, ...] = (24.0, 48.0, 96.0)  # of anchors: sides of squares, in pixels
    pooling: Literal["align", "pool"] = "align"  # of regions: ROIAlign or the paper's ROI pooling
    hidden: int = 256  # units of the head's two layers
    rpn_features: int = 256  # channels of the proposal network
    proposals: int = 300  # regions that the head classifies
    regions: int = 64  # regions of an image that the head learns from
    batch_size: int = 2  # images a step
    epochs: float = 40  # passes through the training images
    learning_rate: float = 5e-4  # of Adam, which rises over 100 steps and falls as a cosine
    flip: float = 0.5  # the share of images that are mirrored
    resize: float = 0.25  # images are scaled by factors from 1 - resize to 1 + resize
    color: float = 0.2  # strength of changes of brightness, contrast and saturation
    most: int = 64  # boxes of an image at most
    evaluations: int = 10  # how often the average precision is measured during training
    seed: int = 0  # of initialisation, order, augmentation and samples


def network(config: Config, classes: int) -> FasterRCNN:
    """The detector of so many classes."""
    at_least(
        config, height=32, width=32, hidden=1, proposals=1, regions=2, batch_size=1, evaluations=1
    )
    normal = models.faster_rcnn.IMAGENET
    if config.backbone == "vgg16":
        backbone: Any = models.VGG(16, last="conv5_3")
        level = "conv5_3"
    elif config.backbone == "efficientnet_lite0":
        backbone, level = models.EfficientNetLite0(last="blocks_10"), "blocks_10"
        normal = ((127 / 255,) * 3, (128 / 255,) * 3)
    elif config.backbone in ("resnet18", "resnet50"):
        depth = int(config.backbone.removeprefix("resnet"))
        level = "conv3" if depth == 18 else "conv4"
        norm: Any = "frozen" if config.weights else "batch"
        backbone = models.ResNet(depth, last=level, norm=norm, axis_name=AXIS)
    else:
        raise ValueError(
            f"backbone is {config.backbone!r}, expected resnet18, resnet50, vgg16 or "
            "efficientnet_lite0"
        )
    return FasterRCNN(
        classes,
        backbone=backbone,
        levels=(level,),
        head=models.VGGHead(config.hidden, dropout=0.0),
        scales=(config.scales,),
        rpn_features=config.rpn_features,
        pooling=config.pooling,
        normal=normal,
    )


def _example(config: Config, draw: Any, example: dict[str, Any]) -> dict[str, Any]:
    """One image on the canvas with its boxes; moved by chance where there is a `draw`."""
    canvas = config.height, config.width
    image = example["image"]
    size = image.shape[:2]
    if draw is None:
        affine = data.Affine.letter_box(size, canvas)
    else:
        limits = 1 - config.resize, 1 + config.resize
        affine = data.draw_affine(draw, size, canvas, flip=config.flip, scale=limits)
        image = data.jitter_color(draw, image, config.color)
    names = ("boxes", "classes", "difficult")
    given: dict[str, Any] = {key: example[key] for key in names if key in example}
    keep = 0.4 if draw is not None else 0.0
    moved = data.move({"image": image, **given}, affine, canvas, fill=GREY, keep=keep)
    boxes, valid = data.padded(moved["boxes"], config.most)
    classes, _ = data.padded(np.asarray(moved["classes"], np.int32) + 1, config.most)
    difficult = np.asarray(moved.get("difficult", np.zeros(len(moved["boxes"]))), bool)
    scale = abs(float(affine.matrix[0, 0]))
    seen = canvas if draw is not None else [round(side * scale) for side in size]
    return {
        "image": moved["image"],
        "size": np.array(seen, np.int32),
        "scale": np.float32(scale),
        "boxes": boxes,
        "boxes_valid": valid,
        "classes": classes,
        "difficult": data.padded(difficult, config.most)[0],
    }


def batches_of(config: Config, reader: Reader, *, train: bool) -> Batches:
    """The batches of a split, whose images are moved by chance in training."""

    def augment(draws: Any, batch: dict) -> dict:
        one = lambda draw, example: _example(config, draw if train else None, example)
        return augment_each(one)(draws, batch)

    like = {
        "image": np.zeros((1, 8, 8, 3), np.uint8),
        "boxes": np.zeros((1, 1, 4), np.float32),
        "classes": np.zeros((1, 1), np.int64),
    }
    make = shuffled_reads if train else reads_in_order
    size = config.batch_size if train else max(config.batch_size, 4)
    return make(reader, reader.size, size, like=like, seed=config.seed, augment=augment)


def _variables(state: State) -> dict[str, Any]:
    kept = state.model_state
    return {"params": merge(state.params, kept["frozen"]), **kept["stats"]}


def _call(model: FasterRCNN, variables: Any, method: str, *given: Any, **options: Any) -> Any:
    return model.apply(variables, *given, method=method, **options)


def loss_of(config: Config, model: FasterRCNN) -> Any:
    """The four terms of a step: class and box, of the proposal network and of the head."""
    learns_statistics = getattr(model.backbone, "norm", None) == "batch"

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        variables = {"params": merge(params, model_state["frozen"]), **model_state["stats"]}
        stats = model_state["stats"]
        if learns_statistics:
            maps, stats = _call(
                model, variables, "maps", batch["image"], batch["size"], train=True,
                mutable=list(stats),
            )  # fmt: skip
        else:
            maps = _call(model, variables, "maps", batch["image"], batch["size"])
        said = _call(model, variables, "propose_from", maps, batch["image"].shape[1:3])
        proposals = models.best_proposals(said, batch["size"], before=2000, after=config.proposals)
        # What is difficult is neither learnt nor unlearnt as a box of its own.
        usable = batch["boxes_valid"] & ~batch["difficult"]
        draws = jax.vmap(partial(jax.random.split, num=2))(keys)
        anchors = jax.vmap(partial(losses.sample_anchors), (0, None, 0, 0))(
            draws[:, 0], said.anchors, batch["boxes"], usable
        )
        regions, chosen = jax.vmap(partial(losses.sample_proposals, size=config.regions))(
            draws[:, 1], proposals.boxes, proposals.valid, batch["boxes"], usable, batch["classes"]
        )
        logits, deltas = _call(model, variables, "classify", maps, regions)
        terms = {
            "rpn_class": (jax.vmap(losses.objectness_loss)(said.logits, anchors), anchors),
            "rpn_box": (
                jax.vmap(partial(losses.box_loss, beta=RPN_BETA))(said.deltas, anchors), anchors,
            ),
            "class": (jax.vmap(losses.class_loss)(logits, chosen), chosen),
            "box": (jax.vmap(partial(losses.box_loss, beta=HEAD_BETA))(deltas, chosen), chosen),
        }  # fmt: skip
        means = {name: Mean.of(x, of.valid) for name, (x, of) in terms.items()}
        return means, {**model_state, "stats": stats}

    return loss


def frozen_parts(config: Config, params: Mapping[str, Any]) -> list[str]:
    """The places of the backbone's first blocks, which stay as they are."""
    names = ("conv1", "bn1", *(f"layer{i}" for i in range(1, config.frozen)))
    begin = tuple(f"conv{i}_" for i in range(1, config.frozen + 1))
    if config.backbone.startswith("resnet"):
        begin = names if config.frozen else ()
    found = [f"backbone/{layer}" for layer in params["backbone"] if layer.startswith(begin)]
    return found if begin else []


def evaluation_of(config: Config, model: FasterRCNN, reader: Reader) -> Any:
    """Average precision, in all and of each class, and the recall of the proposals."""

    def predict(state: State, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
        proposals, found = detect(config, model, _variables(state), batch["image"], batch["size"])
        kept = ("scale", "boxes", "boxes_valid", "classes", "difficult")
        return {
            "proposals": proposals.boxes,
            "proposals_valid": proposals.valid,
            **{f"found_{name}": x for name, x in found._asdict().items()},
            **{name: batch[name] for name in kept},
        }

    def finish(rows: dict[str, np.ndarray]) -> dict[str, float]:
        return scores(rows, reader.classes)

    return make_collection(predict, batches_of(config, reader, train=False), finish)


def detect(
    config: Config, model: FasterRCNN, variables: Any, images: jax.Array, sizes: jax.Array
) -> tuple[Proposals, Detected]:
    """The proposals of images on the canvas and what is found among them."""
    maps = _call(model, variables, "maps", images, sizes)
    said = _call(model, variables, "propose_from", maps, images.shape[1:3])
    proposals = models.best_proposals(said, sizes, before=1000, after=config.proposals)
    logits, deltas = _call(model, variables, "classify", maps, proposals.boxes)
    found = models.best_detections(logits, deltas, proposals, sizes, score_threshold=0.01)
    return proposals, found


def scores(rows: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, float]:
    """What is measured of all images: COCO's AP, VOC's AP50 and that of each class, recall."""
    scale = rows["scale"][:, None, None]
    found = metrics.Detections(
        rows["found_boxes"] / scale,
        rows["found_scores"],
        rows["found_classes"],
        rows["found_valid"],
    )
    truth = metrics.Truth(
        rows["boxes"] / scale, rows["classes"], rows["boxes_valid"], rows["difficult"]
    )
    numbers = range(1, len(classes) + 1)
    of_classes = {
        c: curve.area() for c, curve in metrics.voc_curves(found, truth, classes=numbers).items()
    }
    coco, _ = metrics.coco_scores(found, truth, classes=numbers)
    best = metrics.best_overlaps(rows["proposals"] / scale, rows["proposals_valid"], truth)
    return {
        "ap50": float(np.mean(list(of_classes.values()))),
        "ap": coco["ap"],
        "ap75": coco["ap75"],
        **{f"ap50/{classes[c - 1]}": ap for c, ap in of_classes.items()},
        "recall50": float(np.mean(best >= 0.5)),
        "recall70": float(np.mean(best >= 0.7)),
    }


def experiment(config: Config, name: str, claims: Sequence[Claim] = ()) -> Experiment:
    """Faster R-CNN, all of it trained together, on the set of a name."""
    readers = {
        split: data.open_reader(name, getattr(config, split))
        for split in ("train", "validation", "test")
    }
    classes = readers["train"].classes
    model = network(config, len(classes))
    steps = max(1, round(config.epochs * readers["train"].size / config.batch_size))
    every = max(1, steps // config.evaluations)
    steps = every * max(1, round(steps / every))
    rise = min(100, steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, rise, steps)
    optimizer = optax.adam(rate)
    canvas = jnp.zeros((1, config.height, config.width, 3)), jnp.full((1, 2), 32)

    def init(key: jax.Array, previous: State | None) -> State:
        made = jax.jit(model.init)(key, *canvas)
        stats = {kind: tree for kind, tree in made.items() if kind != "params"}
        params, frozen = partition(made["params"], frozen_parts(config, made["params"]))
        return State.create(key, params, optimizer.init(params), {"frozen": frozen, "stats": stats})

    stage = Stage(
        name="joint",
        steps=steps,
        init=init,
        start=partial(from_weights, config) if config.weights else None,
        update=make_step(loss_of(config, model), optimizer, clip_norm=10.0),
        batches=batches_of(config, readers["train"], train=True),
        evaluate=evaluation_of(config, model, readers["validation"]),
        evaluate_every=every,
    )
    scored = evaluation_of(config, model, readers["test"])
    return Experiment(
        config,
        [stage],
        score=lambda states: {f"test/{k}": v for k, v in scored(states["joint"]).items()},
        figures=partial(_figures, config, model, readers["test"]),
        predict=partial(_predict, config, model, classes),
        collect=_coco_results,
        best=("joint/ap50", "max"),
        claims=claims,
        model=model,
    )


def from_weights(config: Config, state: State) -> State:
    """The state with the ImageNet weights of its backbone."""
    name = {
        "vgg16": models.torchvision_vgg_name,
        "efficientnet_lite0": models.pytorch_efficientnet_name,
    }.get(config.backbone, models.torchvision_resnet_name)
    weights = data.read_weights(Path(config.weights))
    whole = _variables(state)
    backbone = {kind: {"features": tree["backbone"]} for kind, tree in whole.items()}
    placed = models.place_weights(backbone, weights, name)
    print(placed)
    params = {**whole["params"], "backbone": placed.variables["params"]["features"]}
    stats = {
        kind: {**tree, "backbone": placed.variables[kind]["features"]}
        for kind, tree in whole.items()
        if kind != "params"
    }
    trained, frozen = partition(params, frozen_parts(config, params))
    return state.replace(params=trained, model_state={"frozen": frozen, "stats": stats})


@partial(jax.jit, static_argnums=(0, 1))
def _detect(config: Config, model: FasterRCNN, variables: Any, images: Any, sizes: Any) -> Detected:
    return detect(config, model, variables, images, sizes)[1]


def _in_image(
    config: Config, model: FasterRCNN, state: State, image: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [n, 4] in the image's pixels, classes [n] and scores [n] of at least `least`."""
    canvas, scale, size = data.letter_box(image, (config.height, config.width), fill=GREY)
    pixels = jnp.asarray(canvas[None], jnp.float32) / 255
    found = _detect(config, model, _variables(state), pixels, jnp.array([size]))
    boxes, scores, classes, valid = (np.asarray(x[0]) for x in found)
    kept = valid & (scores >= least)
    limit = np.array([*image.shape[1::-1]] * 2, np.float32)
    return np.minimum(boxes[kept] / scale, limit), classes[kept], scores[kept]


def _predict(
    config: Config, model: FasterRCNN, classes: Sequence[str], key: Any, state: Any, image: Any
) -> tuple[dict[str, Any], Figure]:
    if image is None:
        raise ValueError("a detector draws no samples; name images with --images")
    _in_image(config, model, state, image, 0.5)  # compiles
    since = time.perf_counter()
    boxes, found, scores = _in_image(config, model, state, image, 0.5)
    print(f"{len(boxes)} objects in {time.perf_counter() - since:.2f} s")
    names = [classes[c - 1] for c in found]
    record = {
        "size": list(image.shape[:2]),
        "objects": [
            {"class": name, "category_id": int(c), "score": round(float(score), 4),
             "box": [round(float(x), 2) for x in box]}
            for name, c, score, box in zip(names, found, scores, boxes, strict=True)
        ],
    }  # fmt: skip
    labels = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
    return record, figures.box_panels([image], [boxes], classes=[found - 1], labels=[labels])


def _coco_results(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One file of all images, as COCO's evaluation reads it; boxes as x, y, width, height."""
    rows = []
    for number, record in enumerate(records):
        for thing in record["objects"]:
            x1, y1, x2, y2 = thing["box"]
            rows.append(
                {
                    "image_id": number,
                    "file_name": record["image"],
                    "category_id": thing["category_id"],
                    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                    "score": thing["score"],
                }
            )
    return {"coco_results.json": rows}


def _figures(config: Config, model: FasterRCNN, reader: Reader, run: Run) -> dict[str, Figure]:
    assert run.state is not None
    shown = np.linspace(0, reader.size - 1, min(6, reader.size)).round().astype(int)
    examples = reader(shown)
    images = list(examples["image"])
    found = [_in_image(config, model, run.state, image, 0.5) for image in images]
    labels = [
        [f"{reader.classes[c - 1]} {s:.2f}" for c, s in zip(classes, scores, strict=True)]
        for _, classes, scores in found
    ]
    names = [name for name in ("ap50", "ap", "ap75") if len(run.curve(name)[0])]
    return {
        "detections": figures.box_panels(
            images,
            [boxes for boxes, _, _ in found],
            classes=[classes - 1 for _, classes, _ in found],
            labels=labels,
            truth=list(examples["boxes"]),
        ),
        "average_precision": figures.curves(
            {name: run.curve(name) for name in names}, x_label="steps", y_label="average precision"
        ),
    }
