"""Faster R-CNN on pedestrians of two towns, from scratch (Ren et al. 2015, section 3).

python -m experiments.faster_rcnn_penn_fudan
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import _detection, _detector_config
from jaxstruct.training import Claim, Experiment, Reference, main

TUTORIAL = "torchvision's tutorial: Mask R-CNN, trained on COCO before"
CLAIMS = [
    Claim(
        "AP50 of pedestrians",
        values=[Reference("test/ap50", "higher", value=0.969, source=TUTORIAL)],
        why="from scratch, on images of 320x320; their split is another",
    )
]


@dataclass(frozen=True)
class Config(_detection.Config):
    """The defaults: a ResNet-18 from scratch, half an hour on two cores."""

    train: str = "train[:85%]"  # split that is trained on
    validation: str = "train[85%:]"  # split whose average precision chooses the checkpoint
    height: int = 320  # of the canvas, in pixels; images of the other orientation turn it
    width: int = 320  # of the canvas
    scales: tuple[float, ...] = (64.0, 112.0, 192.0)  # of anchors: sides of squares, in pixels
    ratios: tuple[float, ...] = (1.0, 2.0, 3.0)  # height / width of anchors
    most: int = 16  # boxes of an image at most


SMOKE = Config(
    height=64, width=64, scales=(16.0, 32.0), hidden=16, rpn_features=16, proposals=20, regions=8,
    epochs=0.5, evaluations=2,
)  # fmt: skip
PAPER = Config(**_detector_config.PAPER, height=608, width=608, scales=(128.0, 256.0, 512.0))


def experiment(config: Config) -> Experiment:
    return _detection.experiment(config, "penn_fudan", CLAIMS)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
