"""A CRF as a recurrent network, on street scenes of CamVid (Zheng et al. 2015).

python -m experiments.crf_rnn                       # the network, its CRF's weights, then both
python -m experiments.crf_rnn --joint-epochs 0      # the weights alone
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments import (
    _checks,
    _crf_rnn,
    _crf_rnn_pictures,
    _deeplab,
    _segmentation,
    _segmenter_evaluation,
)
from experiments._segmenter_sets import CAMVID_COLORS
from jaxstruct.training import Claim, Experiment, Reference, main


@dataclass(frozen=True)
class Config(_deeplab.Network):
    """The defaults: EfficientNet-lite0 at stride 8, about an hour on two cores."""

    epochs: float = 14.0  # passes through the training images without a CRF
    evaluations: int = 3  # how often a stage measures the mean IoU
    crf_epochs: float = 2.0  # passes in which the CRF's weights are learnt alone
    joint_epochs: float = 1.0  # passes in which the network is trained further with it; 0: no stage
    shrink: int = 2  # the CRF works on squares of so many pixels; paper: 1
    sigma_xy: float = 30.0  # standard deviation of the bilateral kernel, in pixels
    sigma_rgb: float = 8.0  # standard deviation of the bilateral kernel, in steps of 255
    sigma_gaussian: float = 3.0  # standard deviation of the Gaussian kernel, in pixels
    bilateral_weight: float = 3.0  # of each class, to begin with
    gaussian_weight: float = 1.0  # of each class, to begin with
    iterations: int = 5  # of mean-field inference in training
    tested_iterations: int = 10  # of mean-field inference in the scores, and for users
    crf_rate: float = 0.1  # Adam's, for the CRF's weights
    joint_rate: float = 1e-4  # Adam's, for the layers behind the trunk, trained with the CRF

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.POSITIVE.check(
            self, "crf_epochs", "sigma_xy", "sigma_rgb", "sigma_gaussian", "crf_rate", "joint_rate"
        )
        _checks.NOT_NEGATIVE.check(self, "joint_epochs", "bilateral_weight", "gaussian_weight")
        _checks.COUNT.check(self, "shrink", "iterations", "tested_iterations")


def _order(metric: str, better: Any, *of: str) -> list[Reference]:
    return [Reference(f"{name}/{metric}", better) for name in of]


CLAIMS = [
    Claim(
        "trained weights beat fixed ones, and these no CRF (mean IoU)",
        orders=[
            [
                Reference("test_trained/mean_iou", "higher", value=0.696),
                Reference("test_fixed/mean_iou", "higher", value=0.637),
                Reference("test/mean_iou", "higher", value=0.613),
            ]
        ],
        source="Zheng et al. 2015, table 1, on VOC 2012",
        why="the network is trained before the weights",
    ),
    Claim(
        "the cross-entropy falls in the same order",
        orders=[_order("cross_entropy", "lower", "test_trained", "test_fixed", "test")],
        source="Zheng et al. 2015, section 5: what is trained for",
        why="fixed weights make marginals too sure where they are wrong",
    ),
    Claim(
        "the network and the CRF are better trained together (mean IoU)",
        orders=[_order("mean_iou", "higher", "test_joint", "test_trained")],
        source="Zheng et al. 2015, section 7.1",
        why="ours is one pass at a tenth of the rate; of validation images it adds 0.3 points",
    ),
]  # fmt: skip
SMOKE = Config(
    trunk="resnet18", weights="", height=64, width=64, seen_height=64, seen_width=64, hidden=16,
    batch_size=1, epochs=0.2, crf_epochs=0.2, joint_epochs=0.2, evaluations=1, sigma_xy=8.0,
    iterations=1, tested_iterations=1,
)  # fmt: skip
PAPER = Config(
    **_deeplab.PAPER,
    epochs=200.0,
    joint_epochs=20.0,
    shrink=1,
    sigma_xy=160.0,
    sigma_rgb=3.0,
    bilateral_weight=10.0,
    gaussian_weight=3.0,
)


def experiment(config: Config) -> Experiment:
    sets = _segmentation.sets_of(config, "camvid")
    classes = sets.readers["train"].classes
    model = _deeplab.network(config, len(classes))
    network = _segmentation.segmenter_of(config, model, classes, colors=CAMVID_COLORS)
    learning = _crf_rnn.with_crf(config, network, config.iterations)
    tested = _crf_rnn.with_crf(config, network, config.tested_iterations)
    evaluate = _segmenter_evaluation.evaluation(learning, sets.validation)
    make = partial(_crf_rnn.stage, config, segmenter=learning, sets=sets, evaluate=evaluate)
    stages = [
        _segmentation.stage(
            config, "network", network, sets, config.epochs, first=True, head=False
        ),
        make(name="crf", epochs=config.crf_epochs, joint=False),
    ]
    if config.joint_epochs:
        stages.append(make(name="joint", epochs=config.joint_epochs, joint=True))

    def predict(key: Any, state: Any, image: Any) -> Any:
        """The last state that there is may be of the network alone."""
        found = state is not None and _crf_rnn.CRF in state.params
        return _segmenter_evaluation.predict(tested if found else network, key, state, image)

    return Experiment(
        config,
        stages,
        score=partial(_crf_rnn.score, config, network, sets),
        figures=partial(_crf_rnn_pictures.pictures, config, network, sets),
        predict=predict,
        best=(f"{stages[-1].name}/mean_iou", "max"),
        claims=CLAIMS,
        model=tested.model,
        data=[sets.readers["validation"].source, sets.readers["test"].source],
        colors=CAMVID_COLORS,
    )


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
