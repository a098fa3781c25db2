"""DeepLab and a dense CRF on photographs of PASCAL VOC 2012 (Chen et al. 2015, tables 1 and 3).

python -m experiments.deeplab_crf_voc2012 --weights vgg16-397923af.pth      # torchvision's
python -m experiments.deeplab_crf_voc2012 --trunk efficientnet_lite0 --weights imagenet \\
    --frozen 0 --hidden 256 --batch-size 4 --learning-rate 1e-3             # no file is needed
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import _deeplab
from experiments._backbones import Name
from experiments._segmenter_sets import VOC_SCORED
from jaxstruct import data
from jaxstruct.training import Claim, Experiment, Reference, main


@dataclass(frozen=True)
class Config(_deeplab.Config):
    """The defaults: DeepLab-LargeFOV on VGG16, about two and a half hours on two cores."""

    train: str = "pack_train"  # split that is trained on; paper: train and SBD's masks
    validation: str = "pack_val"  # split that is scored in training and chooses the CRF
    test: str = "val"  # split on which the last checkpoint is scored, once
    trunk: Name = "vgg16"  # the network whose maps are scored
    weights: str = ""  # file of ImageNet weights, torchvision's; none: --frozen 0, scratch
    frozen: int = 2  # first blocks of the trunk that are not trained, where there are weights
    hidden: int = 512  # units of fc6 and fc7 behind the trunk; 0: scores by one dilated convolution
    seen_height: int = 384  # of the canvas that images are scored on; a larger image is shrunk
    seen_width: int = 512  # of this canvas, which is turned for images of the other orientation
    balance: float = 0.0  # classes weigh the median frequency over theirs, to this power; 0: alike
    batch_size: int = 2  # crops a step
    learning_rate: float = 3e-5  # of the layers behind the trunk; ten times as much unlearns VGG16
    epochs: float = 7.0  # passes through the training images


CLAIMS = [
    *_deeplab.GAINS,
    Claim(
        "mean IoU of all 21 classes of VOC 2012 val, without and with a CRF",
        values=[
            Reference(
                f"{of}/mean_iou_all", "higher", value=value,
                source="Chen et al. 2015, table 1, DeepLab-LargeFOV",
            )
            for of, value in (("test", 0.6225), ("test_crf", 0.6764))
        ],
        config={"train": "train"},
    ),
]  # fmt: skip
SMOKE = Config(
    trunk="resnet18", frozen=0, height=64, width=64, seen_height=64, seen_width=64, hidden=16,
    epochs=0.5, evaluations=1, searched=1, bilateral_weights=(1.0, 3.0), sigmas_xy=(8.0,),
    sigmas_rgb=(8.0,), iterations=2,
)  # fmt: skip
PAPER = Config(
    **_deeplab.PAPER,
    **_deeplab.SEARCH,
    train="train",
    validation="val",
    test="val",
    frozen=0,
    seen_height=512,
    epochs=82.0,
)


def experiment(config: Config) -> Experiment:
    colors = data.voc_colors(21)
    return _deeplab.experiment(config, "voc2012_segmentation", CLAIMS, VOC_SCORED, colors)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
