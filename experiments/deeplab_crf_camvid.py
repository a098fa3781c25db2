"""DeepLab and a dense CRF on street scenes of CamVid (Chen et al. 2015).

python -m experiments.deeplab_crf_camvid
python -m experiments.deeplab_crf_camvid search_crf --sigma-xy 20 40 60     # other parameters
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import _deeplab
from experiments._segmenter_sets import CAMVID_COLORS
from jaxstruct.training import Claim, Experiment, Reference, main


@dataclass(frozen=True)
class Config(_deeplab.Config):
    """The defaults: EfficientNet-lite0 at stride 8, about an hour on two cores."""

    epochs: float = 24.0  # passes through the training images


CLAIMS = [
    *_deeplab.GAINS,
    Claim(
        "mean IoU of eleven classes",
        values=[
            Reference(
                "test/mean_iou", "higher", value=0.616,
                source="Jegou et al. 2017, table 1, DeepLab-LFOV",
            ),
        ],
        why="EfficientNet-lite0 in place of VGG16",
    ),
]  # fmt: skip
SMOKE = Config(
    trunk="resnet18", weights="", height=64, width=64, seen_height=64, seen_width=64, hidden=16,
    epochs=0.5, evaluations=1, searched=1, bilateral_weights=(1.0, 3.0), sigmas_xy=(8.0,),
    sigmas_rgb=(8.0,), iterations=2,
)  # fmt: skip
PAPER = Config(**_deeplab.PAPER, **_deeplab.SEARCH, epochs=200.0)


def experiment(config: Config) -> Experiment:
    return _deeplab.experiment(config, "camvid", CLAIMS, colors=CAMVID_COLORS)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
