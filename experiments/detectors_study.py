"""From SPPnet over Fast R-CNN to Faster R-CNN on the same images: what is detected, at what cost.

He et al. 2014; Girshick 2015; Ren et al. 2015.

python -m jaxstruct.data propose voc2012 --split pack_train pack_val pack_test
python -m experiments.detectors_study --weights FILE     # torchvision's vgg16-397923af.pth
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from matplotlib.figure import Figure

from experiments import _checks, _detection, _detector_config
from experiments._backbones import Name
from experiments._detector_training import Method, proposes
from jaxstruct import figures
from jaxstruct.training import Claim, Experiment, Reference, Run, Study, main


@dataclass(frozen=True)
class Config(_detector_config.Shared):
    """The defaults: the lists pack_* of VOC 2012, one to three hours a method on two cores."""

    dataset: Literal["voc2012", "bccd", "voc2007"] = "voc2012"  # paper: voc2007, all its classes
    methods: tuple[Method, ...] = ("sppnet", "fast_rcnn", "four_step", "joint")
    epochs: tuple[float, ...] = (16.0, 5.0, 8.0, 5.0)  # passes through the training images, of each
    stored: str = "selective_search-fast-320"  # proposals of the set, for fast_rcnn and sppnet
    searched: int = 1000  # regions that fast_rcnn and sppnet classify, the first stored ones
    proposed: int = 300  # regions that a network proposes
    train: str = "pack_train"  # split that is trained on; paper: train+val
    validation: str = "pack_val"  # split whose average precision chooses the checkpoint
    test: str = "pack_test"  # split that is scored once
    backbone: Name = "vgg16"  # up to its map of stride 16; of resnet18, stride 8
    frozen: int = 2  # first blocks of the backbone that are not trained, where there are weights
    height: int = 384  # of the canvas, in pixels; images of the other orientation turn it
    width: int = 512  # of the canvas
    enlarged: int = 1  # times height and width is sppnet's canvas: its maps are computed once
    scales: tuple[float, ...] = (48.0, 112.0, 224.0)  # of anchors: sides of squares, in pixels
    hidden: int = 512  # units of the head's two layers
    pooling: Literal["align", "pool"] = "pool"  # of regions: ROIAlign or the papers' ROI pooling
    batch_size: int = 2  # images a step
    learning_rate: float = 1e-4  # adam: rises over 100 steps, falls as a cosine; sgd: one fall
    svm_regions: int = 300  # proposals of an image that SVMs learn from, at most
    background: float = 0.1  # least IoU with a true box of background, of fast_rcnn and sppnet
    evaluations: int = 3  # how often the average precision is measured during training
    maps: Literal["once", "each_step"] = "once"  # of sppnet's images, which are only mirrored then

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.check_filled(self, "methods")
        _checks.check_different(self, "methods")
        _checks.COUNT.check(self, "searched", "proposed", "enlarged", "svm_regions")
        _checks.NOT_NEGATIVE.check(self, "epochs")
        _checks.BELOW_HALF.check(self, "background")
        if len(self.epochs) != len(self.methods):
            raise ValueError(
                f"--epochs are {self.epochs}, expected one for each of {', '.join(self.methods)}"
            )


def _ap50(
    member: Method,
    value: float | None = None,
    source: str = "",
    of: str = "test",
    metric: str = "ap50",
) -> Reference:
    return Reference(f"{of}/{metric}", "higher", member=member, value=value, source=source)


CLAIMS = [
    Claim(
        "Fast R-CNN, whose convolutions learn, detects more than SPPnet (AP50)",
        orders=[
            [_ap50("fast_rcnn", of="test_softmax"), _ap50("sppnet", of=of)]
            for of in ("test", "test_softmax")
        ],
        source="Girshick 2015, table 1",
        why="SPPnet's images are only mirrored, since their maps are computed once",
    ),
    Claim(
        "softmax detects more than SVMs trained afterwards (AP50)",
        orders=[[_ap50("fast_rcnn", of="test_softmax"), _ap50("fast_rcnn")]],
        source="Girshick 2015, table 8",
        why="theirs mine hard negatives and weigh positives twice; ours have 300 drawn regions",
    ),
    Claim(
        "300 regions of a network are better than those of Selective Search (AP50)",
        orders=[[_ap50("joint"), _ap50("fast_rcnn", of="test_softmax")]],
        source="Ren et al. 2015, table 3",
    ),
    Claim(
        "training in four steps is as good as joint training, within a point (AP50)",
        orders=[[_ap50("four_step"), _ap50("joint")]],
        within=0.01,
        source="Ren et al. 2015, section 3.2: close results",
        why="the authors' four steps see 4.6 times as many images as joint training, ours 1.6",
    ),
    Claim(
        "a network that proposes is faster than Selective Search (seconds an image)",
        orders=[
            [Reference("test/seconds", "lower", member=member) for member in ("joint", searching)]
            for searching in ("fast_rcnn", "sppnet")
        ],
        source="Ren et al. 2015, table 5",
    ),
    Claim(
        "AP50 of blood cells",
        values=[
            _ap50("sppnet", 0.8535, "Joshi et al. 2022"),
            _ap50("fast_rcnn", 0.8535, "Joshi et al. 2022", "test_softmax"),
        ],
        config={"dataset": "bccd"},
        why="Selective Search reaches 92 % of the cells at an IoU of 0.5; their split may differ",
    ),
    Claim(
        "mean AP over the twenty classes of VOC 2007",
        values=[
            _ap50("sppnet", 0.631, "Girshick 2015, table 1, SPPnet BB", metric="ap50_11"),
            _ap50("fast_rcnn", 0.669, "Girshick 2015, table 1", "test_softmax", "ap50_11"),
            _ap50("four_step", 0.699, "Ren et al. 2015, table 3", metric="ap50_11"),
        ],
        config={"dataset": "voc2007"},
    ),
]  # fmt: skip
SMOKE = Config(
    dataset="bccd", train="train", validation="val", test="test", backbone="resnet18", frozen=0,
    height=64, width=64, scales=(16.0, 32.0), hidden=16, rpn_features=16, epochs=(0.5,),
    methods=("sppnet",), searched=20, proposed=20, regions=8, evaluations=1, most=32,
)  # fmt: skip
PAPER = Config(
    **{**_detector_config.PAPER, "batch_size": 2, "regions": 64},
    dataset="voc2007",
    train="train+val",
    validation="val",  # of trainval, as there is no other: which checkpoint is best says little
    test="test",
    height=608,
    width=1008,
    scales=(128.0, 256.0, 512.0),
    epochs=(16.0, 16.0, 64.0, 14.0),
    stored="selective_search-fast-full",
    searched=2000,
)


def experiment(config: Config) -> Study:
    shared: dict[str, Any] = {
        field.name: getattr(config, field.name) for field in fields(_detector_config.Shared)
    }
    configs = {
        method: _detector_config.Config(
            **shared | sized(config, config.enlarged if method == "sppnet" else 1),
            method=method,
            classifier="softmax" if proposes(method) else "svm",
            epochs=epochs,
            stored=config.stored,
            proposals=config.proposed if proposes(method) else config.searched,
            maps=config.maps,
            svm_regions=config.svm_regions,
            background=config.background,
        )
        for method, epochs in zip(config.methods, config.epochs, strict=True)
    }
    members: dict[str, Experiment] = {
        method: _detection.experiment(own, config.dataset) for method, own in configs.items()
    }

    def draw(runs: Mapping[str, Run]) -> dict[str, Figure]:
        """The pictures of a finished study."""
        found = draw_metrics({name: run.metrics for name, run in runs.items()})
        if "sppnet" in runs:
            cells = _detection.regions_picture(configs["sppnet"], config.dataset, runs["sppnet"])
            found["pyramid"] = cells
        return found

    return Study(config, members, draw, CLAIMS)


def sized(config: Config, factor: int) -> dict[str, Any]:
    """The canvas and the anchors, larger by a factor."""
    return {
        "height": factor * config.height,
        "width": factor * config.width,
        "scales": tuple(factor * scale for scale in config.scales),
    }


def draw_metrics(found: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    """Average precision, and the seconds that an image takes with its proposals.

    A method with SVMs has a bar for these, and one for the softmax before them.
    """
    bars: dict[str, Any] = {"AP50": {}, "seconds an image": {}}
    for name, x in found.items():
        kinds = {"test_softmax": "softmax", "test": "SVMs"} if "test_softmax/ap50" in x else {}
        for of, kind in (kinds or {"test": ""}).items():
            if f"{of}/ap50" not in x:
                continue
            label, search = ", ".join(filter(None, (name, kind))), x.get(f"{of}/search_seconds", 0)
            bars["AP50"][label] = x[f"{of}/ap50"]
            alone = f"{of}/network_seconds"
            network = x[alone] if alone in x else x[f"{of}/seconds"] - search
            bars["seconds an image"][label] = {"network": network, "Selective Search": search}
    if not bars["AP50"]:
        return {}
    return {"precision_and_time": figures.bar_panels(bars)}


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
