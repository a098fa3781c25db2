"""FCN-32s, 16s and 8s on photographs of PASCAL VOC 2012 (Long et al. 2015, tables 2 and 3).

python -m experiments.fcn_voc2012                                           # FCN-8s at once
python -m experiments.fcn_voc2012 --trunk vgg16 --weights FILE --frozen 2 --hidden 512 \\
    --height 240 --finest 32 16 8 --epochs 3 2 2 --batch-size 2 --learning-rate 3e-5
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments import _fcn, _segmenter_config
from experiments._segmenter_sets import VOC_SCORED
from jaxstruct import data
from jaxstruct.training import Claim, Experiment, Reference, main


@dataclass(frozen=True)
class Config(_fcn.Config):
    """The defaults: EfficientNet-lite0 on the list pack_train, about an hour on two cores."""

    dataset: Literal["voc2012_segmentation", "voc2007_segmentation"] = "voc2012_segmentation"
    train: str = "pack_train"  # split that is trained on; paper: train
    validation: str = "pack_val"  # split that is scored in training; paper: val
    test: str = "val"  # split on which the last checkpoint is scored, once
    seen_height: int = 384  # of the canvas that images are scored on; a larger image is shrunk
    seen_width: int = 512  # of this canvas, which is turned for images of the other orientation
    height: int = 320  # of the crops that are trained on, in pixels
    balance: float = 0.0  # classes weigh the median frequency over theirs, to this power; 0: alike
    finest: tuple[Literal[32, 16, 8], ...] = (8,)  # a stage for each, from the one before
    epochs: tuple[float, ...] = (14.0,)  # passes through the training images, of each or of all


CLAIMS = [
    Claim(
        "mean IoU of background and six classes",
        values=[
            _fcn.of_8s(0.733, "Noh et al. 2015, table 1, FCN-8s, the mean over these seven")
        ],
        config={"dataset": "voc2012_segmentation"},
        why="theirs: VGG16, all of VOC and SBD, VOC's test; ours is scored on 485 images of val",
    ),
    Claim(
        "finer strides say more: 8s, 16s, 32s (mean IoU)",
        orders=[[Reference("test/mean_iou", "higher", member=x) for x in ("8s", "16s", "32s")]],
        source="Long et al. 2015, table 2: 62.7, 62.4 and 59.4 on VOC 2011",
        config={"finest": [32, 16, 8]},
    ),
    Claim(
        "mean IoU of all 21 classes",
        values=[
            _fcn.of_8s(
                0.627, "Long et al. 2015, table 2, FCN-8s on 736 images of VOC 2011",
                "test/mean_iou_all",
            )
        ],
        config={"train": "train"},
        why="theirs learned from SBD's masks, too; ours is scored on VOC 2012 val",
    ),
]  # fmt: skip
SMOKE = Config(
    trunk="resnet18", weights="", height=64, width=64, seen_height=64, seen_width=96,
    epochs=(0.5,), evaluations=1,
)  # fmt: skip
PAPER = Config(
    **_segmenter_config.PAPER,
    train="train",
    validation="val",
    test="val",
    seen_height=512,
    finest=(32, 16, 8),
    epochs=(200.0, 50.0, 50.0),
)


def experiment(config: Config) -> Experiment:
    colors = data.voc_colors(21)
    return _fcn.experiment(config, config.dataset, CLAIMS, VOC_SCORED, colors)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
