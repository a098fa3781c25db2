"""The configuration of detectors.

What may be added: an option that all detectors have, or all that are configured alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from experiments import _checks
from experiments._backbones import Name, backbone_of, check_weights
from experiments._detector_training import Method, proposes

STRIDE = 16  # the largest of a backbone's map; it divides the canvas
SCORED = {"voc2012": ("cat", "cow", "dog", "horse", "person", "sheep")}
"""The classes whose mean is scored, where not all: see docs/detection.md."""


@dataclass(frozen=True)
class Shared:
    """What detectors and studies of several can be configured with."""

    train: str = "train"  # split that is trained on
    validation: str = "val"  # split whose average precision chooses the checkpoint
    test: str = "test"  # split that is scored once
    backbone: Name = "resnet18"  # up to its map of stride 16; of resnet18, stride 8
    weights: str = ""  # a file of its ImageNet weights; imagenet: installed; none: from scratch
    frozen: int = 0  # first blocks of the backbone that are not trained, where there are weights
    height: int = 240  # of the canvas, in pixels; images of the other orientation turn it
    width: int = 320  # of the canvas
    scales: tuple[float, ...] = (24.0, 48.0, 96.0)  # of anchors: sides of squares, in pixels
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width of anchors
    pooling: Literal["align", "pool"] = "align"  # of regions: ROIAlign or the paper's ROI pooling
    hidden: int = 256  # units of the head's two layers
    dropout: float = 0.0  # the share of these units that a step drops
    rpn_features: int = 256  # channels of the proposal network
    regions: int = 64  # regions of an image that the head learns from
    batch_size: int = 2  # images a step
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: the authors', without clipped gradients
    learning_rate: float = 5e-4  # adam: rises over 100 steps, falls as a cosine; sgd: one fall
    clip_norm: float = 10.0  # adam: the norm to which a longer gradient is clipped
    accumulate: int = 1  # parts of each device's images whose gradients are taken one by one
    flip: float = 0.5  # the share of images that are mirrored
    resize: float = 0.25  # images are scaled by factors from 1 - resize to 1 + resize
    color: float = 0.2  # strength of changes of brightness, contrast and saturation
    most: int = 64  # boxes of an image at most
    evaluations: int = 10  # how often the average precision is measured during training
    seed: int = 0  # of initialisation, order, augmentation and samples

    def __post_init__(self) -> None:
        _checks.check_choices(self)
        check_weights(self.backbone, self.weights)
        _checks.check_filled(self, "scales", "ratios")
        _checks.NOT_NEGATIVE.check(self, "frozen")
        _checks.at_least(32).check(self, "height", "width")
        _checks.check_multiple(self, STRIDE, "height", "width")
        blocks = len(backbone_of(self.backbone, True).blocks)
        if self.frozen > blocks:
            raise ValueError(
                f"--frozen is {self.frozen}, expected at most {blocks}, the blocks of "
                f"{self.backbone}"
            )
        _checks.POSITIVE.check(self, "scales", "ratios", "learning_rate", "clip_norm")
        _checks.COUNT.check(self, "hidden", "rpn_features", "most", "evaluations")
        _checks.COUNT.check(self, "batch_size", "accumulate")
        size, parts = self.batch_size, self.accumulate
        if size % parts:
            raise ValueError(f"--accumulate is {parts}, expected a divisor of --batch-size {size}")
        _checks.at_least(2).check(self, "regions")
        _checks.SHARE.check(self, "flip", "color")
        _checks.BELOW_1.check(self, "resize", "dropout")
        _checks.SEED.check(self, "seed")


@dataclass(frozen=True)
class Config(Shared):
    """What every detector can be configured with."""

    method: Method = "joint"  # Faster R-CNN: joint, four_step; others: fast_rcnn, sppnet
    stored: str = "selective_search-fast-320"  # proposals of the set, for fast_rcnn and sppnet
    classifier: Literal["softmax", "svm"] = "softmax"  # of fast_rcnn and sppnet; svm: of each class
    background: float = 0.1  # least IoU with a true box of background, of fast_rcnn and sppnet
    svm_regions: int = 300  # proposals of an image that the SVMs learn from, at most
    proposals: int = 300  # regions that the head classifies
    maps: Literal["once", "each_step"] = "once"  # of sppnet's images, which are only mirrored then
    epochs: float = 40  # passes through the training images

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.NOT_NEGATIVE.check(self, "epochs")
        _checks.COUNT.check(self, "proposals", "svm_regions")
        _checks.BELOW_HALF.check(self, "background")
        if self.classifier == "svm" and proposes(self.method):
            raise ValueError(
                f"--classifier is svm and --method {self.method}, expected fast_rcnn or sppnet"
            )


PAPER: dict[str, Any] = {  # where the defaults are others: the authors' end-to-end training
    "backbone": "vgg16",
    "frozen": 2,
    "pooling": "pool",
    "hidden": 4096,
    "dropout": 0.5,
    "rpn_features": 512,
    "regions": 128,
    "batch_size": 1,
    "optimizer": "sgd",
    "learning_rate": 1e-3,
    "resize": 0.0,
    "color": 0.0,
    "maps": "each_step",  # thousands of images' do not fit into memory
}
