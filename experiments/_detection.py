"""What detectors share: the network, the stages, the experiment.

What may be added: what all detectors have. Options are in _detector_config, backbones in
_backbones, how detectors learn in _detector_training, what they find in _detector_evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from experiments import (
    _box_batches,
    _canvases,
    _detector_evaluation,
    _detector_pictures,
    _detector_svm,
)
from experiments._backbones import (
    backbone_of,
    check_start,
    frozen_parts,
    is_real,
    variables_of,
    with_variables,
    with_weights,
)
from experiments._detector_config import SCORED, Config
from experiments._detector_evaluation import Detector
from experiments._detector_sets import Batched, batched, search, svms_checked
from experiments._detector_training import (
    METHODS,
    Learning,
    begun,
    frozen_places,
    loss_of,
    optimizer_of,
    proposes,
)
from experiments._schedules import in_equal_parts
from jaxstruct import data, models
from jaxstruct.data import Reader
from jaxstruct.models import FasterRCNN, FastRCNN
from jaxstruct.training import (
    Claim,
    Experiment,
    Run,
    Stage,
    State,
    make_step,
    partition,
    steps_of_epochs,
)


def network(config: Config, classes: int) -> FastRCNN:
    """The detector of so many classes; a FasterRCNN where its method proposes regions itself."""
    backbone, pyramid = (
        backbone_of(config.backbone, bool(config.weights)),
        config.method == "sppnet",
    )
    parts: Any = {
        "backbone": backbone.module,
        "levels": (backbone.level,),
        "head": models.VGGHead(config.hidden, size=1 if pyramid else 7, dropout=config.dropout),
        "pooling": "pyramid" if pyramid else config.pooling,
        "normal": backbone.normal,
    }
    if not proposes(config.method):
        return FastRCNN(classes, **parts)
    return FasterRCNN(
        classes,
        scales=(config.scales,),
        ratios=config.ratios,
        rpn_features=config.rpn_features,
        **parts,
    )


def regions_picture(config: Config, name: str, run: Run) -> Figure:
    """Stored proposals of a test image on the map of a run's last state, as grids of cells."""
    readers, detector = sets_of(config, name)
    assert run.state is not None
    return _detector_pictures.stored_regions(detector, readers["test"], run.state)


def sets_of(config: Config, name: str) -> tuple[dict[str, Reader], Detector]:
    """The readers of train, validation and test, and the detector of their classes."""
    readers = {
        split: data.open_reader(name, getattr(config, split))
        for split in ("train", "validation", "test")
    }
    for reader in readers.values():
        _box_batches.check_most(name, reader.source.split, config.most)
    if not proposes(config.method):
        readers = {
            split: data.with_proposals(reader, config.stored) for split, reader in readers.items()
        }
    classes = readers["train"].classes
    model = network(config, len(classes))
    canvas = config.height, config.width
    stored = "" if proposes(config.method) else config.stored
    scored = SCORED.get(name, classes)
    detector = Detector(model, canvas, config.proposals, classes, scored, stored)
    return readers, detector


def experiment(config: Config, name: str, claims: Sequence[Claim] = ()) -> Experiment:
    """A detector on the set of a name, by the method of the configuration."""
    readers, detector = sets_of(config, name)
    check_start(config.frozen, config.weights, readers["train"])
    if config.method == "sppnet" and not config.weights and is_real(readers["train"]):
        raise ValueError(
            "--weights is empty and the method sppnet, whose backbone does not learn; expected "
            "weights of ImageNet: --weights FILE"
        )
    splits = batched(config, detector, readers)
    if config.classifier == "svm" and splits.prepare:
        splits = splits._replace(
            prepare=svms_checked(config, readers["train"].size, splits.prepare)
        )
    make = partial(stage, config, detector, splits, readers["train"].size)
    stages = [make(learning) for learning in METHODS[config.method]]
    judged = {"test": (stages[-1].name, detector)}
    if config.classifier == "svm":
        judged = {"test_softmax": judged["test"]}
        sweeps = splits.sweeps["train"], splits.sweeps["validation"]
        stages.append(_detector_svm.stage(detector, splits.train, *sweeps, config.svm_regions))
        detector = detector._replace(svm=True)
        judged["test"] = stages[-1].name, detector

    def predict(key: Any, state: State | None, image: Any) -> Any:
        # Of a run that has not ended, too, whose stage of SVMs has not begun.
        svm = state is not None and _detector_svm.has_svms(state)
        return _detector_evaluation.predict(detector._replace(svm=svm), key, state, image)

    def score(states: Mapping[str, State]) -> dict[str, float]:
        search(readers)
        found: dict[str, float] = {}
        for prefix, (last, one) in judged.items():
            values = _detector_evaluation.evaluated(one, splits.sweeps["test"], states[last])
            seconds = _detector_evaluation.seconds(one, states[last], readers["test"])
            found |= {f"{prefix}/{k}": v for k, v in {**values, **seconds}.items()}
        for kept in splits.kept:  # gigabytes, and other members of a study may follow
            kept.clear()
        return found

    return Experiment(
        config,
        stages,
        score=score,
        figures=partial(
            _detector_pictures.pictures, detector, readers["test"], splits.images["test"]
        ),
        predict=predict,
        collect=_detector_evaluation.coco_results,
        best=(f"{stages[-1].name}/ap50", "max"),
        claims=claims,
        model=detector.model,
        data=[readers["validation"].source, readers["test"].source],
    )


def stage(
    config: Config,
    detector: Detector,
    splits: Batched,
    images: int,
    learning: Learning,
) -> Stage:
    """One stage of a method, on so many training images."""
    steps = steps_of_epochs(config.epochs * learning.share, images, config.batch_size)
    steps, every = in_equal_parts(steps, round(config.evaluations * learning.share))
    optimizer, model = optimizer_of(config, steps), detector.model
    parted = partial(_parted, config, learning)

    def init(key: jax.Array, previous: State | None) -> State:
        given: list[Any] = [jnp.zeros((1, *detector.canvas, 3)), jnp.full((1, 2), 32)]
        if not isinstance(model, FasterRCNN):
            given.append(
                models.Proposals(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1)), jnp.ones((1, 1), bool))
            )
        params, kept = begun(learning, jax.jit(model.init)(key, *given), previous, parted)
        return State.create(key, params, optimizer.init(params), kept)

    first = learning.name == METHODS[config.method][0].name
    clip = config.clip_norm if config.optimizer == "adam" else None
    evaluate = {
        name: partial(found, detector, splits.sweeps["validation"])
        for name, found in (
            ("ap", _detector_evaluation.evaluated),
            ("recall", _detector_evaluation.recalled),
        )
    }
    prepare = splits.prepare
    return Stage(
        name=learning.name,
        steps=steps,
        init=init,
        start=partial(from_weights, config, learning)
        if config.weights and (first or learning.afresh)
        else None,
        update=make_step(
            loss_of(config, model, learning),
            optimizer,
            accumulate=config.accumulate,
            clip_norm=clip,
        ),
        batches=splits.train,
        prepare=(lambda state: prepare(variables_of(state))) if prepare else None,
        evaluate=evaluate.get(learning.measured),
        metrics=("ap50",) if learning.measured == "ap" else (),
        evaluate_every=every,
        compilations=_canvases.shapes_of(detector.canvas),
    )


def from_weights(config: Config, learning: Learning, state: State) -> State:
    """The state with the ImageNet weights of its backbone, and of a VGG's head of full width."""
    backbone = backbone_of(config.backbone, True)
    # SPPnet's fc6 is behind the pyramid, and no file has it.
    head = config.hidden == 4096 and config.method != "sppnet"
    found = with_weights(variables_of(state), backbone, config.weights, head=head)
    return with_variables(state, found, partial(_parted, config, learning))


def _parted(config: Config, learning: Learning, params: Any) -> tuple[Any, Any]:
    """What a stage learns, and what is frozen: first blocks where there are weights to keep."""
    backbone, trained = backbone_of(config.backbone, True), bool(config.weights)
    blocks = frozen_parts(backbone, config.frozen if trained else 0, params)
    return partition(params, frozen_places(learning, params, blocks))
