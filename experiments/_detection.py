"""What detectors share: the network, the joint loss of Faster R-CNN, its experiment.

What may be added: what all detectors can be configured with. Backbones are in _backbones, and what
a trained detector finds is in _detector_evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from experiments import _box_batches, _checks, _detector_evaluation
from experiments._backbones import Name, backbone_of, frozen_parts, with_weights
from experiments._detector_evaluation import Detector, call, variables_of
from jaxstruct import data, losses, models
from jaxstruct.data import Reader
from jaxstruct.metrics import Mean
from jaxstruct.models import FasterRCNN
from jaxstruct.training import (
    Batches,
    Claim,
    Experiment,
    Stage,
    State,
    make_step,
    merge,
    partition,
    split_keys,
    steps_of_epochs,
)

RPN_BETA, HEAD_BETA = 1 / 9, 1.0  # of smooth L1, as in the authors' code
STRIDE = 16  # the largest of a backbone's map; it divides the canvas


@dataclass(frozen=True)
class Config:
    """What every detector can be configured with."""

    train: str = "train"  # split that is trained on
    validation: str = "val"  # split whose average precision chooses the checkpoint
    test: str = "test"  # split that is scored once
    backbone: Name = "resnet18"  # up to its map of stride 16; of resnet18, stride 8
    weights: str = ""  # a file of its ImageNet weights, .pth or .safetensors; none: from scratch
    frozen: int = 0  # first blocks of the backbone that are not trained, where there are weights
    height: int = 240  # of the canvas, in pixels; images of the other orientation turn it
    width: int = 320  # of the canvas
    scales: tuple[float, ...] = (24.0, 48.0, 96.0)  # of anchors: sides of squares, in pixels
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width of anchors
    pooling: Literal["align", "pool"] = "align"  # of regions: ROIAlign or the paper's ROI pooling
    hidden: int = 256  # units of the head's two layers
    dropout: float = 0.0  # the share of these units that a step drops
    rpn_features: int = 256  # channels of the proposal network
    proposals: int = 300  # regions that the head classifies
    regions: int = 64  # regions of an image that the head learns from
    batch_size: int = 2  # images a step
    epochs: float = 40  # passes through the training images
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: the authors', without clipped gradients
    learning_rate: float = 5e-4  # adam: rises over 100 steps, falls as a cosine; sgd: one fall
    clip_norm: float = 10.0  # adam: the norm to which a longer gradient is clipped
    accumulate: int = 1  # parts of each device's images whose gradients are taken one by one
    flip: float = 0.5  # the share of images that are mirrored
    resize: float = 0.25  # images are scaled by factors from 1 - resize to 1 + resize
    color: float = 0.2  # strength of changes of brightness, contrast and saturation
    most: int = 64  # boxes of an image at most
    evaluations: int = 10  # how often the average precision is measured during training
    seed: int = 0  # of initialisation, order, augmentation and samples

    def __post_init__(self) -> None:
        _checks.check_choices(self)
        _checks.check_filled(self, "scales", "ratios")
        _checks.NOT_NEGATIVE.check(self, "frozen", "epochs")
        _checks.at_least(32).check(self, "height", "width")
        _checks.check_multiple(self, STRIDE, "height", "width")
        blocks = len(backbone_of(self.backbone, True).blocks)
        if self.frozen > blocks:
            raise ValueError(
                f"--frozen is {self.frozen}, expected at most {blocks}, the blocks of "
                f"{self.backbone}"
            )
        _checks.POSITIVE.check(self, "scales", "ratios", "learning_rate", "clip_norm")
        _checks.COUNT.check(self, "hidden", "rpn_features", "proposals", "most", "evaluations")
        _checks.COUNT.check(self, "batch_size", "accumulate")
        size, parts = self.batch_size, self.accumulate
        if size % parts:
            raise ValueError(f"--accumulate is {parts}, expected a divisor of --batch-size {size}")
        _checks.at_least(2).check(self, "regions")
        _checks.SHARE.check(self, "flip", "color")
        _checks.BELOW_1.check(self, "resize", "dropout")
        _checks.SEED.check(self, "seed")


PAPER: dict[str, Any] = {  # where the defaults are others: the authors' end-to-end training
    "backbone": "vgg16",
    "frozen": 2,
    "pooling": "pool",
    "hidden": 4096,
    "dropout": 0.5,
    "rpn_features": 512,
    "regions": 128,
    "batch_size": 1,
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "resize": 0.0,
    "color": 0.0,
}


def network(config: Config, classes: int) -> FasterRCNN:
    """The detector of so many classes."""
    backbone = backbone_of(config.backbone, bool(config.weights))
    return FasterRCNN(
        classes,
        backbone=backbone.module,
        levels=(backbone.level,),
        head=models.VGGHead(config.hidden, dropout=config.dropout),
        scales=(config.scales,),
        ratios=config.ratios,
        rpn_features=config.rpn_features,
        pooling=config.pooling,
        normal=backbone.normal,
    )


def batches_of(config: Config, reader: Reader, *, train: bool) -> Batches:
    """The batches of a split, whose images are moved by chance in training."""
    placing = _box_batches.Placing(
        (config.height, config.width), config.most, config.flip, config.resize, config.color
    )
    size = config.batch_size if train else max(config.batch_size, 4)
    return _box_batches.batches_of(reader, size, placing, train=train, seed=config.seed)


def optimizer_of(config: Config, steps: int) -> optax.GradientTransformation:
    """Adam, or SGD with momentum, a decay of weights, and a tenth of the rate in the last 2/7.

    Source: the configuration of the authors' end-to-end training, 70,000 steps on VOC 2007.
    """
    rate = config.learning_rate
    if config.optimizer == "adam":
        rise = min(100, steps // 2)
        return optax.adam(optax.warmup_cosine_decay_schedule(0.0, rate, rise, steps))
    weights = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
    falling = optax.piecewise_constant_schedule(rate, {round(steps * 5 / 7): 0.1})
    return optax.chain(
        optax.add_decayed_weights(5e-4, mask=weights), optax.sgd(falling, momentum=0.9)
    )


def classified(
    model: FasterRCNN, variables: Any, maps: Any, regions: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the head says of regions in training: units are dropped by the keys of the images."""
    if not model.head.dropout:
        return call(model, variables, "classify", maps, regions)

    def one(maps: Any, regions: jax.Array, key: jax.Array) -> Any:
        image = jax.tree.map(lambda x: x[None], (maps, regions))
        drawn = {"dropout": jax.random.fold_in(key, 2)}
        return call(model, variables, "classify", *image, train=True, rngs=drawn)

    logits, deltas = jax.vmap(one)(maps, regions, keys)
    return logits[:, 0], deltas[:, 0]


def loss_of(config: Config, model: FasterRCNN) -> Any:
    """The four terms of a step: class and box, of the proposal network and of the head."""
    learns_statistics = getattr(model.backbone, "norm", None) == "batch"

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        variables = {"params": merge(params, model_state["frozen"]), **model_state["stats"]}
        stats = model_state["stats"]
        if learns_statistics:
            maps, stats = call(
                model, variables, "maps", batch["image"], batch["size"], train=True,
                mutable=list(stats),
            )  # fmt: skip
        else:
            maps = call(model, variables, "maps", batch["image"], batch["size"])
        said = call(model, variables, "propose_from", maps, batch["image"].shape[1:3])
        proposals = models.best_proposals(said, batch["size"], before=2000, after=config.proposals)
        # What lies on a difficult box is background, as in the authors' code. Anchors across the
        # border of the canvas learn, too, as in torchvision's.
        usable = batch["boxes_valid"] & ~batch["difficult"]
        of_anchors, of_regions = split_keys(keys, 2)
        anchors = jax.vmap(losses.sample_anchors, (0, None, 0, 0))(
            of_anchors, said.anchors, batch["boxes"], usable
        )
        regions, chosen = jax.vmap(partial(losses.sample_proposals, size=config.regions))(
            of_regions, proposals.boxes, proposals.valid, batch["boxes"], usable, batch["classes"]
        )
        logits, deltas = classified(model, variables, maps, regions, keys)
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


def experiment(
    config: Config, name: str, claims: Sequence[Claim] = (), scored: Sequence[str] = ()
) -> Experiment:
    """Faster R-CNN, all of it trained together, on the set of a name.

    `scored` are the classes whose mean is the average precision, all without it.
    """
    readers = {
        split: data.open_reader(name, getattr(config, split))
        for split in ("train", "validation", "test")
    }
    for reader in readers.values():
        _box_batches.check_most(name, reader.source.split, config.most)
    classes = readers["train"].classes
    model = network(config, len(classes))
    canvas = config.height, config.width
    detector = Detector(model, canvas, config.proposals, classes, tuple(scored) or classes)
    steps = steps_of_epochs(config.epochs, readers["train"].size, config.batch_size)
    every = max(1, steps // config.evaluations)
    steps = every * max(1, round(steps / every))
    optimizer = optimizer_of(config, steps)

    def init(key: jax.Array, previous: State | None) -> State:
        made = jax.jit(model.init)(key, jnp.zeros((1, *canvas, 3)), jnp.full((1, 2), 32))
        stats = {kind: tree for kind, tree in made.items() if kind != "params"}
        params, frozen = _parted(config, made["params"])
        return State.create(key, params, optimizer.init(params), {"frozen": frozen, "stats": stats})

    validation, test = (
        batches_of(config, readers[split], train=False) for split in ("validation", "test")
    )
    parts, clip = config.accumulate, config.clip_norm if config.optimizer == "adam" else None
    stage = Stage(
        name="joint",
        steps=steps,
        init=init,
        start=partial(from_weights, config) if config.weights else None,
        update=make_step(loss_of(config, model), optimizer, accumulate=parts, clip_norm=clip),
        batches=batches_of(config, readers["train"], train=True),
        evaluate=partial(_detector_evaluation.evaluated, detector, validation),
        evaluate_every=every,
        compilations=_box_batches.shapes_of(canvas),
    )
    score = partial(_detector_evaluation.evaluated, detector, test)
    return Experiment(
        config,
        [stage],
        score=lambda states: {f"test/{k}": v for k, v in score(states["joint"]).items()},
        figures=partial(_detector_evaluation.pictures, detector, readers["test"], test),
        predict=partial(_detector_evaluation.predict, detector),
        collect=_detector_evaluation.coco_results,
        best=("joint/ap50", "max"),
        claims=claims,
        model=model,
        data=[readers["validation"].source, readers["test"].source],
    )


def from_weights(config: Config, state: State) -> State:
    """The state with the ImageNet weights of its backbone, and of a VGG's head of full width."""
    backbone = backbone_of(config.backbone, True)
    found = {
        **with_weights(variables_of(state), backbone, config.weights, head=config.hidden == 4096)
    }
    params, frozen = _parted(config, found.pop("params"))
    return state.replace(params=params, model_state={"frozen": frozen, "stats": found})


def _parted(config: Config, params: Any) -> tuple[Any, Any]:
    """What learns, and what is frozen: nothing where there are no weights to keep."""
    backbone, trained = backbone_of(config.backbone, True), bool(config.weights)
    return partition(params, frozen_parts(backbone, config.frozen if trained else 0, params))
