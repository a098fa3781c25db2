"""DeepLab: a dilated network, and a dense CRF behind it whose parameters validation images choose.

Chen et al. 2015. What may be added: what the experiments on all sets have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from experiments import (
    _checks,
    _deeplab_pictures,
    _deeplab_scores,
    _segmentation,
    _segmenter_config,
    _segmenter_crf,
)
from experiments._backbones import trunk_of
from jaxstruct import models
from jaxstruct.training import Claim, Experiment, Reference


@dataclass(frozen=True)
class Network(_segmenter_config.Config):
    """What every dilated network can be configured with."""

    output_stride: Literal[8, 16] = 8  # of the trunk's last map; 16: half the time, coarser
    head: Literal["largefov", "aspp"] = "largefov"  # one dilated convolution, or four in parallel
    hidden: int = 256  # units of fc6 and fc7 behind the trunk; 0: scores by one dilated convolution
    dropout: float = 0.5  # the share of these units that a step drops
    schedule: Literal["cosine", "poly", "constant"] = "poly"  # of the rate
    epochs: float = 20.0  # passes through the training images

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.NOT_NEGATIVE.check(self, "epochs")


@dataclass(frozen=True)
class Config(Network):
    """What every DeepLab can be configured with."""

    bands: tuple[int, ...] = (1, 2, 5, 10, 20, 40)  # widths in pixels of the bands of figure 5
    searched: int = 20  # validation images that choose the CRF's parameters among these:
    bilateral_weights: tuple[float, ...] = (1.0, 3.0, 5.0, 8.0)  # kernel of places and colors
    sigmas_xy: tuple[float, ...] = (30.0, 50.0, 80.0)  # its standard deviations, in pixels
    sigmas_rgb: tuple[float, ...] = (5.0, 8.0, 12.0)  # its standard deviations, in steps of 255
    gaussian_weights: tuple[float, ...] = (0.0,)  # of the kernel of places alone
    sigmas_gaussian: tuple[float, ...] = (3.0,)  # its standard deviations, in pixels
    iterations: int = 10  # of mean-field inference

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.check_filled(
            self, "bilateral_weights", "sigmas_xy", "sigmas_rgb", "gaussian_weights",
            "sigmas_gaussian",
        )  # fmt: skip
        _checks.NOT_NEGATIVE.check(self, "bilateral_weights", "gaussian_weights", "iterations")
        _checks.POSITIVE.check(self, "sigmas_xy", "sigmas_rgb", "sigmas_gaussian")
        _checks.COUNT.check(self, "searched")


PAPER: dict[str, Any] = _segmenter_config.PAPER | {  # Chen et al. 2015, section 4.1
    "hidden": 1024,
    "height": 321,  # of the crops, as in the authors' files
    "width": 321,
    "schedule": "poly",  # of Chen et al. 2018; in 2015 the rate falls to a tenth every 2000 steps
    "learning_rate": 1e-2,
    "trunk_rate": 0.1,
}
SEARCH: dict[str, Any] = {  # the search of the same section
    "searched": 100,
    "bilateral_weights": (5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    "sigmas_xy": (50.0, 60.0, 70.0, 80.0, 90.0, 100.0),
    "sigmas_rgb": (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    "gaussian_weights": (3.0,),
    "sigmas_gaussian": (3.0,),
}

GAINS = [
    Claim(
        "a dense CRF adds to the mean IoU of the network",
        orders=[
            [
                Reference("test_crf/mean_iou", "higher", value=0.6764),
                Reference("test/mean_iou", "higher", value=0.6225),
            ]
        ],
        source="Chen et al. 2015, table 1, DeepLab-LargeFOV",
    ),
    Claim(
        "it adds a point of mean IoU at least, also within 5 pixels of boundaries",
        values=[
            Reference("gain/mean_iou", "higher", value=0.01),
            Reference("gain/mean_iou_5px", "higher", value=0.01),
        ],
    ),
    Claim(
        "it adds more near boundaries: within 5 pixels more than everywhere",
        orders=[[Reference(f"gain/{x}", "higher") for x in ("mean_iou_5px", "mean_iou")]],
        source="Chen et al. 2015, figure 5",
    ),
]


def network(config: Network, classes: int) -> models.DeepLab:
    """The network. The distances of its taps are the paper's in pixels, whatever the stride is."""
    trunk = trunk_of(config.trunk, bool(config.weights), config.output_stride).module
    share = config.output_stride // 8
    options: dict[str, Any] = {"hidden": config.hidden or None, "dropout": config.dropout}
    if config.head == "aspp":
        rates = tuple(rate // share for rate in (6, 12, 18, 24))
        return models.DeepLab(trunk, models.ASPP(classes, rates=rates, **options))
    return models.DeepLab(trunk, models.LargeFOV(classes, rate=12 // share, **options))


def experiment(
    config: Config,
    name: str,
    claims: Sequence[Claim] = (),
    scored: Sequence[str] = (),
    colors: Any = None,
) -> Experiment:
    """DeepLab on the set of a name; `scored` are the classes of the mean IoU, all without it."""
    sets = _segmentation.sets_of(config, name)
    classes = sets.readers["train"].classes
    model = network(config, len(classes))
    segmenter = _segmentation.segmenter_of(config, model, classes, scored, colors)
    stage = _segmentation.stage(
        config, "network", segmenter, sets, config.epochs, first=True, head=False
    )
    score = partial(_deeplab_scores.score, config, segmenter, sets)
    predict = partial(_deeplab_scores.predict, segmenter)

    def in_workdir(made: Experiment, workdir: Path) -> Experiment:
        return replace(made, score=partial(score, workdir), predict=partial(predict, workdir))

    return Experiment(
        config,
        [stage],
        score=partial(score, None),
        figures=partial(_deeplab_pictures.pictures, config, segmenter, sets),
        predict=partial(predict, None),
        in_workdir=in_workdir,
        best=("mean_iou", "max"),
        claims=claims,
        commands={
            "search_crf": (
                _segmenter_crf.SearchCRF,
                partial(_deeplab_scores.search_crf, config, segmenter, sets),
            )
        },
        model=segmenter.model,
        data=[sets.readers["validation"].source, sets.readers["test"].source],
        colors=segmenter.colors,
    )
