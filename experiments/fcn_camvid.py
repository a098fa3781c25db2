"""FCN-32s, 16s and 8s on street scenes of CamVid (Long et al. 2015).

python -m experiments.fcn_camvid                               # 32s, then 16s, then 8s
python -m experiments.fcn_camvid --finest 16 --epochs 48       # 16s at once
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import _fcn, _segmenter_config
from experiments._segmenter_sets import CAMVID_COLORS
from jaxstruct.training import Claim, Experiment, Reference, main


@dataclass(frozen=True)
class Config(_fcn.Config):
    """The defaults: EfficientNet-lite0, half an hour for the three stages on two cores."""

    epochs: tuple[float, ...] = (16.0,)  # passes through the training images, of each or of all


CLAIMS = [
    Claim(
        "finer strides say more: 8s, 16s, 32s (mean IoU)",
        orders=[[Reference("test/mean_iou", "higher", member=x) for x in ("8s", "16s", "32s")]],
        source="Long et al. 2015, table 2",
    ),
    Claim(
        "mean IoU of eleven classes",
        values=[
            _fcn.of_8s(0.570, "Jegou et al. 2017, table 1, FCN-8s"),
            _fcn.of_8s(0.669, "Jegou et al. 2017, table 1, FC-DenseNet103"),
        ],
        why="EfficientNet-lite0 in place of VGG16",
    ),
]  # fmt: skip
SMOKE = Config(
    trunk="resnet18", weights="", height=64, width=64, seen_height=64, seen_width=64,
    finest=(32, 8), epochs=(0.5,), evaluations=1,
)  # fmt: skip
PAPER = Config(**_segmenter_config.PAPER, epochs=(100.0, 50.0, 50.0))


def experiment(config: Config) -> Experiment:
    return _fcn.experiment(config, "camvid", CLAIMS, colors=CAMVID_COLORS)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
