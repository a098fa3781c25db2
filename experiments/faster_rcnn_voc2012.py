"""Faster R-CNN with VGG16 on photographs of PASCAL VOC 2012 (Ren et al. 2015, table 7).

python -m experiments.faster_rcnn_voc2012 --weights FILE   # torchvision's vgg16-397923af.pth
python -m experiments.faster_rcnn_voc2012 --backbone efficientnet_lite0 --frozen 0 \\
    --weights imagenet         # installed with the extra experiments
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments import _detection, _detector_config
from experiments._backbones import Name
from jaxstruct.training import Claim, Experiment, Reference, main

CLAIMS = [
    Claim(
        "AP50 over six classes of a part of VOC 2012",
        values=[
            Reference(
                "test/ap50",
                "higher",
                value=0.770,
                source="Ren et al. 2015, table 6: VOC 2007, the same classes",
            )
        ],
        why="1,319 training images, theirs 5,011; smaller images and a smaller head",
        config={"dataset": "voc2012"},
    ),
    Claim(
        "mean AP over the twenty classes of VOC 2007",
        values=[
            Reference("test/ap50_11", "higher", value=0.699, source="Ren et al. 2015, table 6")
        ],
        config={"dataset": "voc2007"},
    ),
]


@dataclass(frozen=True)
class Config(_detection.Config):
    """The defaults: the lists pack_*, an hour and a quarter on two cores."""

    dataset: Literal["voc2012", "voc2007"] = "voc2012"  # paper: voc2007, all of its classes scored
    train: str = "pack_train"  # split that is trained on; paper: train+val
    validation: str = "pack_val"  # split whose average precision chooses the checkpoint
    test: str = "pack_test"  # split that is scored once
    backbone: Name = "vgg16"  # up to its map of stride 16; of resnet18, stride 8
    frozen: int = 2  # first blocks of the backbone that are not trained, where there are weights
    height: int = 384  # of the canvas, in pixels; images of the other orientation turn it
    width: int = 512  # of the canvas
    scales: tuple[float, ...] = (48.0, 112.0, 224.0)  # of anchors: sides of squares, in pixels
    hidden: int = 512  # units of the head's two layers
    rpn_features: int = 256  # channels of the proposal network
    batch_size: int = 1  # images a step
    epochs: float = 6  # passes through the training images
    learning_rate: float = 1e-4  # adam: rises over 100 steps, falls as a cosine; sgd: one fall
    evaluations: int = 5  # how often the average precision is measured during training


SMOKE = Config(
    backbone="resnet18", frozen=0, height=64, width=64, scales=(16.0, 32.0), hidden=16,
    rpn_features=16, proposals=20, regions=8, batch_size=2, epochs=0.5, evaluations=2,
)  # fmt: skip
PAPER = Config(
    **_detector_config.PAPER,
    dataset="voc2007",
    train="train+val",
    validation="val",  # of trainval, as there is no other: which checkpoint is best says little
    test="test",
    height=608,
    width=1008,
    scales=(128.0, 256.0, 512.0),
    epochs=14,
)


def experiment(config: Config) -> Experiment:
    return _detection.experiment(config, config.dataset, CLAIMS)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
