r"""How good proposals are and what they cost: windows, Selective Search, a proposal network.

Uijlings et al. 2013, tables 5 and 6; Ren et al. 2015, figure 4 and section 3.1.

python -m experiments.proposals_study   # blood cells; trains the network, too
python -m experiments.proposals_study --dataset voc2012 --train pack_train --validation pack_val \
    --test pack_test --backbone efficientnet_lite0 --weights imagenet --height 384 --width 512 \
    --scales 48 112 224 --learning-rate 2e-4 --epochs 5 --full 200
python -m experiments.proposals_study --dataset penn_fudan --train "train[:85%]" \
    --validation "train[85%:]" --height 320 --width 320 --scales 64 112 192 --ratios 1 2 3 \
    --most 16 --epochs 40
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import (
    _checks,
    _detection,
    _detector_config,
    _detector_evaluation,
    _detector_sets,
)
from experiments._backbones import variables_of
from experiments._detector_training import METHODS
from experiments._spread import spread
from experiments._timing import median_seconds
from jaxstruct import data, figures, metrics, models
from jaxstruct.training import Claim, Experiment, Reference, Run, State, main, make_prediction

WINDOWS, NETWORK = "windows", "network"
IOUS = (0.5, 0.7)
SHOWN = 30  # first boxes that are drawn, in three colors by rank
FULL, MODES = "selective_search-{}-full", ("fast", "quality")


@dataclass(frozen=True)
class Config(_detector_config.Shared):
    """The defaults: blood cells, a ResNet-18 from scratch."""

    dataset: Literal["bccd", "penn_fudan", "voc2012"] = "bccd"  # the set whose boxes are sought
    kinds: tuple[str, ...] = ("selective_search-fast-320", "selective_search-quality-320")
    full: int = 0  # the first images of the test split that are searched at full width, too
    numbers: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)  # boxes an image
    network_boxes: int = 2000  # boxes that the network proposes at most
    epochs: float = 10  # passes of the proposal network through the training images

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.check_filled(self, "numbers")
        _checks.COUNT.check(self, "numbers", "network_boxes")
        _checks.NOT_NEGATIVE.check(self, "full", "epochs")
        if self.full and any(FULL.format(mode) in self.kinds for mode in MODES):
            raise ValueError(
                f"--kinds are {self.kinds} and --full is {self.full}, which measures these kinds "
                "of some images; expected one of them"
            )
        if list(self.numbers) != sorted(set(self.numbers)):
            raise ValueError(f"--numbers are {self.numbers}, expected the smaller ones first")


CLAIMS = [
    Claim(
        "300 boxes of a network find more than 300 of Selective Search (recall)",
        orders=[
            [
                Reference(f"{recall}/300", "higher", member=member)
                for member in (NETWORK, f"selective_search-{mode}-320")
            ]
            for recall in ("recall50", "recall70")
            for mode in ("fast", "quality")
        ],
        source="Ren et al. 2015, figure 4",
    ),
    Claim(
        "the network takes a tenth of Selective Search's time",
        values=[
            Reference(
                "share_of_search_seconds", "lower", member=NETWORK, value=0.1,
                source="Ren et al. 2015, table 5",
            )
        ],
        why="the search's is a core's, of images 320 pixels wide; the network's is of all cores",
    ),
    Claim(
        "mean average best overlap of Selective Search",
        values=[
            Reference(
                "mabo", "higher", member=FULL.format(mode), value=value,
                source="Uijlings et al. 2013, table 5, VOC 2007",
            )
            for mode, value in (("fast", 0.804), ("quality", 0.879))
        ],
        config={"dataset": "voc2012"},
        why="OpenCV's search gives half as many boxes: theirs 2,134 and 10,108 an image",
    ),
]  # fmt: skip
SMOKE = Config(
    height=64, width=64, scales=(16.0, 32.0), hidden=16, rpn_features=16, regions=8,
    epochs=0.5, evaluations=2, most=32, full=2, numbers=(1, 10, 300), network_boxes=60,
)  # fmt: skip


class Sought(NamedTuple):
    """The true boxes of N images: [n, 4] each, their classes, the images' sizes, scored classes."""

    boxes: list[np.ndarray]
    classes: list[np.ndarray]
    sizes: list[tuple[int, int]]
    scored: frozenset[int]

    def first(self, count: int) -> Sought:
        """Of the first images alone."""
        return self._replace(
            boxes=self.boxes[:count], classes=self.classes[:count], sizes=self.sizes[:count]
        )


def sought(reader: data.Reader, scored: Sequence[str]) -> Sought:
    """What all images of a split show; boxes that are difficult do not count."""
    found = Sought([], [], [], frozenset(reader.classes.index(name) + 1 for name in scored))
    for index in range(reader.size):
        example = {key: x[0] for key, x in reader(np.array([index])).items()}
        boxes = np.asarray(example["boxes"], np.float32).reshape(-1, 4)
        easy = ~np.asarray(example.get("difficult", np.zeros(len(boxes))), bool)
        found.boxes.append(boxes[easy])
        found.classes.append(np.asarray(example["classes"])[easy])
        found.sizes.append(example["image"].shape[:2])
    return found


def overlaps(there: Sought, proposals: Sequence[np.ndarray], numbers: Sequence[int]) -> np.ndarray:
    """The best overlap of each true box with the first so many proposals of its image: [K, T]."""
    found = [np.zeros((len(numbers), 0))]
    for boxes, mine in zip(there.boxes, proposals, strict=True):
        shape = 1, len(boxes)
        truth = metrics.Truth(boxes[None], np.zeros(shape, int), np.ones(shape, bool))
        valid = np.ones((1, len(mine)), bool)
        found.append(metrics.best_overlaps(mine[None], valid, truth, numbers=numbers))
    return np.concatenate(found, axis=1)


def numbers_of(
    config: Config, there: Sought, best: np.ndarray, boxes: float, seconds: float | None
) -> dict[str, float]:
    """Recall over the number of boxes, the mean average best overlap of all, and the cost.

    `best` [K + 1, T] are the overlaps of the first so many boxes, and of all. The mean average best
    overlap is over the classes that are `scored`; recall is of all true boxes.
    """
    recalls = {
        f"recall{round(100 * iou)}/{number}": float(np.mean(row >= iou))
        for iou in IOUS
        for number, row in zip(config.numbers, best, strict=False)
    }
    classes = np.concatenate([np.zeros(0, int), *there.classes])
    scored = [c for c in np.unique(classes) if c in there.scored]
    mean = np.mean([best[-1][classes == c].mean() for c in scored])
    cost = {} if seconds is None else {"seconds": seconds}
    return {**recalls, "mabo": float(mean), "boxes": boxes, **cost}


def of_list(
    config: Config, there: Sought, proposals: Sequence[np.ndarray], seconds: float | None
) -> dict[str, float]:
    """The numbers of proposals that come in an order."""
    boxes = float(np.mean([len(x) for x in proposals]))
    best = overlaps(there, proposals, [*config.numbers, max(map(len, proposals), default=1)])
    return numbers_of(config, there, best, boxes, seconds)


def of_windows(config: Config, there: Sought) -> dict[str, float]:
    """The numbers of sliding windows, each number of them spread anew."""
    rows, seconds = [], 0.0
    for number in config.numbers:
        since = time.perf_counter()
        windows = [models.sliding_windows(*size, number) for size in there.sizes]
        seconds = (time.perf_counter() - since) / len(windows)
        rows.append(overlaps(there, windows, [number])[0])
        boxes = float(np.mean([len(x) for x in windows]))
    return numbers_of(config, there, np.stack([*rows, rows[-1]]), boxes, seconds)


def of_full_width(
    config: Config, reader: data.Reader, there: Sought, mode: str
) -> dict[str, float]:
    """The numbers of Selective Search on the first images as they are."""
    count = min(config.full, reader.size)
    images = reader(np.arange(count))["image"]
    since = time.thread_time()  # of a core, as for what is stored
    proposals = [data.selective_search(x, mode=mode, width=None) for x in images]
    seconds = (time.thread_time() - since) / count
    return of_list(config, there.first(count), proposals, seconds)


class Proposer(NamedTuple):
    """A trained proposal network, and how images come onto its canvas."""

    detector: _detector_evaluation.Detector
    most: int  # boxes of an image

    def propose(self, variables: Any, batch: Any) -> models.Proposals:
        """The proposals of a batch on the canvas, the best first."""
        detector = self.detector._replace(proposals=self.most)
        given = batch["image"], batch["size"]
        maps = _detector_evaluation.call(detector.model, variables, "maps", *given)
        return _detector_evaluation.proposed(detector, variables, maps, batch, before=6000)

    def of_set(self, state: State, batches: Any, compilations: int) -> list[np.ndarray]:
        """The proposals [n, 4] of all images, in their pixels."""

        def predict(state: State, batch: Any, keys: jax.Array) -> dict[str, jax.Array]:
            found = self.propose(variables_of(state), batch)
            boxes = found.boxes / batch["scale"][:, None, None]
            return {"boxes": boxes, "valid": found.valid}

        rows = make_prediction(predict, compilations=compilations)(state, batches)
        return [x[valid] for x, valid in zip(rows["boxes"], rows["valid"], strict=True)]

    def seconds(self, state: State, image: np.ndarray) -> float:
        """The median time that one image takes on this machine, from pixels to boxes."""
        variables, propose = variables_of(state), jax.jit(self.propose)
        batch_of = partial(_detector_evaluation.batch_of, self.detector, image)
        return median_seconds(lambda: propose(variables, batch_of()[0]))


def experiment(config: Config) -> Experiment:
    shared: dict[str, Any] = {
        field.name: getattr(config, field.name) for field in fields(_detector_config.Shared)
    }
    own = _detector_config.Config(**shared, epochs=config.epochs, method="four_step")
    readers, detector = _detection.sets_of(own, config.dataset)
    learning = METHODS["four_step"][0]._replace(share=1.0)
    splits, reader = _detector_sets.batched(own, detector, readers), readers["test"]
    searched = {kind: data.with_proposals(reader, kind) for kind in config.kinds}
    prepare = _detector_sets.searched_first(searched, lambda variables: splits.train)
    prepared = splits._replace(prepare=prepare)
    stage = _detection.stage(own, detector, prepared, readers["train"].size, learning)
    proposer = Proposer(detector, config.network_boxes)

    def score(states: Mapping[str, State]) -> dict[str, dict[str, float]]:
        there, state = sought(reader, detector.scored), states[stage.name]
        found = {WINDOWS: of_windows(config, there)}
        for kind, one in searched.items():
            proposals = [*one(np.arange(reader.size))["proposals"]]
            found[kind] = of_list(config, there, proposals, one.seconds)
        if config.full:
            for mode in MODES:
                found[FULL.format(mode)] = of_full_width(config, reader, there, mode)
        image = reader(np.array([0]))["image"][0]
        proposals = proposer.of_set(state, splits.images["test"], stage.compilations)
        found[NETWORK] = of_list(config, there, proposals, proposer.seconds(state, image))
        fast = found.get("selective_search-fast-320", {}).get("seconds")
        if fast:
            found[NETWORK]["share_of_search_seconds"] = found[NETWORK]["seconds"] / fast
        return found

    return Experiment(
        config,
        [stage],
        score=score,
        figures=partial(pictures, config, proposer, searched, reader),
        predict=partial(predict, proposer),
        claims=CLAIMS,
        model=detector.model,
        data=[readers["validation"].source, reader.source],
    )


def pictures(
    config: Config,
    proposer: Proposer,
    searched: Mapping[str, data.Reader],
    reader: data.Reader,
    run: Run,
) -> dict[str, Figure]:
    """Recall over the number of boxes, and the first boxes of each kind on the same images."""
    assert run.state is not None
    lines: dict[str, dict[str, Any]] = {}
    full = [FULL.format(mode) for mode in MODES if config.full]
    for iou in IOUS:
        lines[f"IoU {iou:g}"] = {
            member: (list(config.numbers), [run.metrics[f"{member}/{name}"] for name in names])
            for member in (WINDOWS, *searched, *full, NETWORK)
            for names in [[f"recall{round(100 * iou)}/{number}" for number in config.numbers]]
        }
    recall = figures.curve_panels(
        lines, x_label="boxes an image", y_label="recall", log_x=True, y_limits=(0.0, 1.02)
    )
    shown = spread(reader.size, 3)
    examples = reader(shown)
    images = [np.asarray(image) for image in examples["image"]]
    boxes = {
        WINDOWS: [models.sliding_windows(x.shape[0], x.shape[1], SHOWN) for x in images],
        **{kind: one(shown)["proposals"] for kind, one in searched.items()},
        NETWORK: [
            _detector_evaluation.in_image(proposer.detector, run.state, x)[-1] for x in images
        ],
    }
    ranks = [np.arange(SHOWN) * 3 // SHOWN] * len(images)
    drawn = {
        f"boxes_{member}": figures.box_panels(
            images,
            [x[:SHOWN] for x in found],
            classes=[rank[: len(x)] for rank, x in zip(ranks, found, strict=True)],
            truth=list(examples["boxes"]),
        )
        for member, found in boxes.items()
    }
    return {"recall": recall, **drawn}


def predict(
    proposer: Proposer, key: Any, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """The network's proposals in a user's image; see `Experiment.predict`."""
    _checks.check_image(image, "a proposal network")
    assert state is not None
    *_, boxes = _detector_evaluation.in_image(proposer.detector, state, image)
    record = {"size": list(image.shape[:2]), "boxes": np.round(boxes, 2).tolist()}
    return record, figures.box_panels([image], [boxes[:SHOWN]])


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
