"""Fully convolutional networks, coarse to fine: 32s, 16s and 8s as the stages of one experiment.

Long et al. 2015. What may be added: what the experiments on all sets have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from experiments import (
    _checks,
    _segmentation,
    _segmenter_config,
    _segmenter_evaluation,
    _segmenter_pictures,
)
from experiments._backbones import trunk_of
from experiments._beside import Beside, beside
from experiments._segmenter_evaluation import Segmenter
from experiments._spread import spread
from jaxstruct import data, models
from jaxstruct.metrics import Confusion
from jaxstruct.training import Claim, Experiment, Reference, Run, State

BOUND_OF = 100  # test images, evenly spaced: what scores of a stride can say of them


@dataclass(frozen=True)
class Config(_segmenter_config.Config):
    """What every FCN can be configured with."""

    finest: tuple[Literal[32, 16, 8], ...] = (32, 16, 8)  # a stage for each, from the one before
    epochs: tuple[float, ...] = (20.0,)  # passes through the training images, of each or of all

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.check_filled(self, "finest")
        _checks.NOT_NEGATIVE.check(self, "epochs")
        _checks.check_filled(self, "epochs")
        if len(self.epochs) not in (1, len(self.finest)):
            raise ValueError(
                f"--epochs are {self.epochs}, expected one, or one for each of --finest "
                f"{self.finest}"
            )
        if list(self.finest) != sorted(set(self.finest), reverse=True):
            raise ValueError(f"--finest is {self.finest}, expected the coarser strides first")


def of_8s(value: float, source: str, metric: str = "test/mean_iou") -> Reference:
    """A mean IoU in a paper that FCN-8s is to be set beside."""
    return Reference(metric, "higher", member="8s", value=value, source=source)


def network(config: Config, classes: int, finest: int) -> models.FCN:
    """The network whose finest scores are of this stride."""
    trunk = trunk_of(config.trunk, bool(config.weights)).module
    head = None
    if config.hidden:
        head = models.VGGHead(config.hidden, padding="SAME", dropout=config.dropout)
    return models.FCN(trunk, classes, finest=finest, head=head)


def experiment(
    config: Config,
    name: str,
    claims: Sequence[Claim] = (),
    scored: Sequence[str] = (),
    colors: Any = None,
) -> Experiment:
    """FCNs on the set of a name; `scored` are the classes of the mean IoU, all without it."""
    sets = _segmentation.sets_of(config, name)
    classes = sets.readers["train"].classes
    segmenters = {
        f"{finest}s": _segmentation.segmenter_of(
            config, network(config, len(classes), finest), classes, scored, colors
        )
        for finest in config.finest
    }
    make = partial(_segmentation.stage, config)
    passes = config.epochs * (len(segmenters) // len(config.epochs))
    stages = [
        make(stage, segmenters[stage], sets, epochs, first=number == 0)
        for number, (stage, epochs) in enumerate(zip(segmenters, passes, strict=True))
    ]
    last, segmenter = list(segmenters.items())[-1]

    def predict(key: Any, state: State | None, image: Any) -> Any:
        return _segmenter_evaluation.predict(of_state(segmenters, state), key, state, image)

    def draw_beside(own: Beside, run: Run) -> None:
        beside(of_state(segmenters, run.state), own, run)

    counts: dict[str, np.ndarray] = {}
    score = _segmentation.score_of(config, segmenters, sets, counts)

    def scores(states: Mapping[str, State]) -> dict[str, dict[str, float]]:
        found = score(states)
        for finest in config.finest:
            most = bound(segmenter, sets.readers["test"], finest)
            found[f"{finest}s"] |= {} if most is None else {"bound": most}
        return found

    return Experiment(
        config,
        stages,
        score=scores,
        figures=partial(_segmenter_pictures.pictures, segmenters, sets, counts),
        predict=predict,
        best=(f"{last}/mean_iou", "max"),
        claims=claims,
        commands={"beside": (Beside, draw_beside)},
        model=segmenter.model,
        data=[sets.readers["validation"].source, sets.readers["test"].source],
        colors=segmenter.colors,
    )


def of_state(segmenters: Mapping[str, Segmenter], state: State | None) -> Segmenter:
    """The segmenter whose score layers a state has: a run that has not ended has coarser ones."""
    every = list(segmenters.values())
    having = [one for one in every if state and f"score{one.model.finest}" in state.params]
    return (having or every)[-1]


def bound(segmenter: Segmenter, reader: Any, stride: int) -> float | None:
    """The mean IoU of the truth itself, said at a stride, on some images; None without labels."""
    classes = len(segmenter.classes)
    counts = np.zeros((classes, classes))
    for class_map in reader(spread(reader.size, BOUND_OF))["class_map"]:
        labels = np.asarray(class_map, np.int32)
        said = _segmenter_evaluation.of_stride(labels, classes, stride)
        known = np.where(said == data.VOID, 0, said)
        counts += Confusion.of(jnp.asarray(labels), jnp.asarray(known), classes).counts
    return _segmenter_evaluation.scores(segmenter, Confusion(counts)).get("mean_iou")
