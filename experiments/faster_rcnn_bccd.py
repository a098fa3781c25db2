"""Faster R-CNN on blood cells, end to end (Ren et al. 2015, section 3).

python -m experiments.faster_rcnn_bccd                                    # ResNet-18 from scratch
python -m experiments.faster_rcnn_bccd --backbone vgg16 --weights FILE    # torchvision's VGG16
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import _detection, _detector_config
from jaxstruct.training import Claim, Experiment, Reference, main

CLAIMS = [
    Claim(
        "AP50 of red cells, white cells and platelets",
        values=[
            Reference("test/ap50", "higher", value=0.947, source="Chen et al. 2025, YOLOv8"),
            Reference("test/ap50", "higher", value=0.8535, source="Joshi et al. 2022"),
        ],
        why="YOLOv8 begins with a trained detector; their images and splits may be others",
    )
]


@dataclass(frozen=True)
class Config(_detection.Config):
    """The defaults: a ResNet-18 from scratch, half an hour on two cores."""


SMOKE = Config(
    height=64, width=64, scales=(16.0, 32.0), hidden=16, rpn_features=16, proposals=20, regions=8,
    epochs=0.5, evaluations=2, most=32,
)  # fmt: skip
PAPER = Config(**_detector_config.PAPER, height=608, width=800, scales=(64.0, 128.0, 256.0))


def experiment(config: Config) -> Experiment:
    return _detection.experiment(config, "bccd", CLAIMS)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
