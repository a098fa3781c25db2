"""The configuration of segmenters.

What may be added: an option that all segmenters have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from experiments import _checks
from experiments._backbones import IMAGENET, Name, check_weights, trunk_of


@dataclass(frozen=True)
class Config:
    """What every segmenter can be configured with."""

    train: str = "train"  # split that is trained on
    validation: str = "val"  # split that is scored in training and chooses the checkpoint "best"
    test: str = "test"  # split on which the last checkpoint is scored, once
    trunk: Name = "efficientnet_lite0"  # the network whose maps are scored
    weights: str = IMAGENET  # imagenet: of efficientnet_lite0, installed; or a file; none: scratch
    frozen: int = 0  # first blocks of the trunk that are not trained, where there are weights
    hidden: int = 0  # units of fc6 and fc7 as convolutions on the trunk's last map; 0: without
    dropout: float = 0.0  # the share of these units that a step drops
    height: int = 240  # of the crops that are trained on, in pixels
    width: int = 320  # of the crops
    seen_height: int = 360  # of the canvas that images are scored on; a larger image is shrunk
    seen_width: int = 480  # of this canvas, which is turned for images of the other orientation
    zoom: float = 1.5  # images are scaled by factors from 1 / zoom to zoom
    flip: float = 0.5  # the share of images that are mirrored
    color: float = 0.2  # strength of changes of brightness, contrast and saturation
    balance: float = 0.5  # classes weigh the median frequency over theirs, to this power; 0: alike
    batch_size: int = 4  # crops a step
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: with momentum and a decay of weights
    schedule: Literal["cosine", "poly", "constant"] = "cosine"  # of the rate; cosine: after a rise
    learning_rate: float = 1e-3  # of the layers behind the trunk
    trunk_rate: float = 0.3  # the trunk's rate, as a share of that
    bands: tuple[int, ...] = (5, 20)  # widths in pixels: mean IoU that near to boundaries (trimaps)
    evaluations: int = 5  # how often a stage measures the mean IoU
    seed: int = 0  # of initialisation, order, augmentation and dropped units

    def __post_init__(self) -> None:
        _checks.check_choices(self)
        check_weights(self.trunk, self.weights)
        _checks.NOT_NEGATIVE.check(self, "frozen", "hidden", "balance")
        blocks = len(trunk_of(self.trunk, True).blocks)
        if self.frozen > blocks:
            raise ValueError(
                f"--frozen is {self.frozen}, expected at most {blocks}, the blocks of {self.trunk}"
            )
        _checks.at_least(32).check(self, "height", "width", "seen_height", "seen_width")
        _checks.at_least(1).check(self, "zoom")
        _checks.POSITIVE.check(self, "learning_rate", "trunk_rate")
        _checks.COUNT.check(self, "batch_size", "bands", "evaluations")
        _checks.SHARE.check(self, "flip", "color")
        _checks.BELOW_1.check(self, "dropout")
        _checks.SEED.check(self, "seed")


PAPER: dict[str, Any] = {  # where the defaults are others: Long et al. 2015, sections 4.2 and 4.3
    "trunk": "vgg16",
    "weights": "vgg16-397923af.pth",  # torchvision's file
    "hidden": 4096,
    "dropout": 0.5,
    "height": 512,  # whole images
    "width": 512,
    "zoom": 1.0,
    "color": 0.0,
    "balance": 0.0,
    "batch_size": 20,
    "optimizer": "sgd",
    "schedule": "constant",
    "learning_rate": 1e-4,
    "trunk_rate": 1.0,
}
