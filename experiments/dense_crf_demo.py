"""A dense CRF on photographs with scribbles, or on your own (Kraehenbuehl & Koltun 2011).

python -m experiments.dense_crf_demo                                       # nothing is trained
python -m experiments.dense_crf_demo refine --image A.png --labels B.png   # along A's edges
"""

from __future__ import annotations

import functools
import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from experiments._checks import (
    BETWEEN_0_AND_1,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    check_choices,
    check_filled,
)
from jaxstruct import data, figures
from jaxstruct.data import DataError, Source, read_image, read_labels, write_labels
from jaxstruct.data.names import free_path
from jaxstruct.ops import crf, gaussian
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    Run,
    RunError,
    main,
)

Name = Literal["coffee", "chelsea", "astronaut"]


@dataclass(frozen=True)
class Config:
    """The kernels, the iterations, and what scribbles tell of the pixels around them."""

    bilateral_weight: float = 5.0  # of the bilateral kernel, which compares places and colors
    sigma_xy: float = 40.0  # standard deviation of the bilateral kernel, in pixels
    sigma_rgb: float = 13.0  # standard deviation of the bilateral kernel, in steps of 255
    gaussian_weight: float = 3.0  # of the Gaussian kernel, which compares places alone
    sigma_gaussian: float = 3.0  # standard deviation of the Gaussian kernel, in pixels
    iterations: int = 10  # of mean-field inference
    filter: Literal["lattice", "exact"] = "lattice"  # exact: all pairs, for small images
    evidence_xy: float = 40.0  # how far labelled pixels tell of pixels of their color, in pixels
    evidence_rgb: float = 13.0  # how much the colors of both may differ, in steps of 255
    scribble_prob: float = 0.9  # probability that a label is right, drawn or told by its color
    noise: float = 1.5  # standard deviation of the noise on the unaries, in nats
    photographs: tuple[Name, ...] = ("coffee", "chelsea", "astronaut")  # of scikit-image's
    width: int = 240  # of the photographs, in pixels
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        check_choices(self)
        check_filled(self, "photographs")
        NOT_NEGATIVE.check(self, "bilateral_weight", "gaussian_weight", "iterations", "noise")
        POSITIVE.check(
            self, "sigma_xy", "sigma_rgb", "sigma_gaussian", "evidence_xy", "evidence_rgb"
        )
        BETWEEN_0_AND_1.check(self, "scribble_prob")
        COUNT.check(self, "width")
        SEED.check(self, "seed")


CLAIMS = [
    Claim(
        "inference corrects noisy unaries (accuracy)",
        orders=[
            [Reference(metric, "higher", member=name) for metric in ("accuracy", "unary_accuracy")]
            for name in Config.photographs
        ],
        source="Kraehenbuehl & Koltun 2011, on MSRC-21",
        why="three photographs",
    )
]
SMOKE = Config(photographs=("coffee",), width=48, sigma_xy=8.0, evidence_xy=8.0, iterations=2)

# Of each label the strokes that are given and those held out, to see whether they are found: points
# x,y in percent of width and height. A photograph is the upper part of scikit-image's, 3 to 2.
PHOTOGRAPHS: Mapping[Name, Mapping[str, tuple[str, str]]] = {
    "coffee": {
        "table": (
            "3,72 17,93 | 6,42 24,16 | 78,6 97,10 | 76,17 92,40 86,80 | 2,5 8,15 | 80,93 70,95",
            "4,55 9,62 | 15,22 20,12 | 90,20 96,30 | 92,55 97,65 | 86,94 95,88",
        ),
        "cup and saucer": (
            "20,33 16,55 25,80 45,93 62,88 75,65 | 33,54 45,57 | 38,62 35,73 | 50,74 42,84",
            "24,40 22,60 | 36,80 44,86 | 73,45 76,55 | 62,50 55,56",
        ),
        "porcelain": (
            "31,36 34,17 47,8 60,14 65.5,27 | 49,15 60,28 | 36,22 38,18",
            "42,14 48,19 | 42,48 50,49 | 58,18 62,25",
        ),
        "coffee": (
            "37,36 40,40 48,44 58,38 | 38,27 47,25 57,28 | 41,32 50,33",
            "43,37 54,36 | 45,46 52,46",
        ),
        "spoon": (
            "56,68 60,76 65,67 62,62 | 69,22 66,42 63,58",
            "57.5,77 62,79 | 65,60 66.5,66",
        ),
    },
    "chelsea": {
        "cat": (
            "15,8 30,18 55,10 68,25 | 12,38 25,50 42,58 45,80 | 55,35 56,65 | 63,70 74,62"
            "| 10,85 20,83 40,95 60,93 | 78,5 80,18 | 51,2 56,20 | 5,72 2,95 | 12,36 20,29"
            "| 46,40 48,58",
            "20,20 24,25 | 62,4 66,12 | 30,65 40,72 | 60,35 61,55 | 13,68 16,78 | 44,87 52,90",
        ),
        "background": (
            "2,5 2,33 | 93,5 86,30 97,42 | 83,62 96,72 84,93",
            "5,5 4,25 | 95,12 93,25 | 85,50 97,55 | 88,80 95,90",
        ),
        "eyes": (
            "33,38 38,37 43,42 | 38,35 38,40 | 67,45 72,44 | 69,42 70,47",
            "33.5,42 36,45.5 | 41,34 43,37 | 74,40 72,48",
        ),
        "nose": ("55,79 60,79 58,84", "57,77 62,77"),
    },
    "astronaut": {
        "background": (
            "22,5 25,33 | 62,10 66,45 66,65 | 93,10 96,60 | 90,3 98,7 | 76,90 96,88",
            "20,45 21,35 | 68,5 69,30 | 58,5 60,12 | 98,30 98,70 | 73,95 80,96",
        ),
        "flag": (
            "3,8 10,22 | 12,40 16,55 | 3,58 7,70 | 8,50 14,66 | 1,82 5,92",
            "2,25 6,30 | 2,70 5,78 | 10,37 12,33",
        ),
        "skin": (
            "38,28 45,33 50,28 | 42,46 44,35",
            "41,24.5 45,24.5 | 37,36 39,45 | 40,50 47,50",
        ),
        "hair": ("33,22 42,8 52,12 56,30", "40,18 47,15 | 57.5,20 57,28"),
        "suit": (
            "15,85 20,70 24,95 | 61,74 65,90 50,97",
            "10,95 13,80 | 40,95 30,90 | 67,95 64,80",
        ),
        "collar": (
            "36,56 45,60 | 27,48 25,60 31,75 44,84 57,75 | 30,60 36,73",
            "29,46 34,45 | 40,65 50,68 | 57,60 58,66",
        ),
        "shuttle": (
            "80,5 83,40 | 76,33 76,60 | 87,15 88,70 | 71,62 86,62 | 74,75 86,75 | 81,50 82,68",
            "85.5,17 85,30 | 75.5,20 75.7,28 | 77,45 77.5,55",
        ),
    },
}


class Refined(NamedTuple):
    """A photograph [H, W, 3] uint8, its strokes [H, W], and what inference makes of them.

    `labels`: [H, W] of the unary (0) and after so many iterations; `energies`: free ones, in nats.
    """

    image: np.ndarray
    given: np.ndarray
    held_out: np.ndarray
    labels: dict[int, np.ndarray]
    energies: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """The labels [H, W] after all iterations."""
        return self.labels[max(self.labels)]

    @property
    def per_pixel(self) -> np.ndarray:
        """The free energies before each iteration and after the last, in nats per pixel."""
        return self.energies / self.last.size


def unary(
    image: np.ndarray,
    labels: np.ndarray,
    count: int,
    probability: float,
    config: Config,
    *,
    color_model: bool,
) -> np.ndarray:
    """Negative log-probabilities [H, W, L] from labels [H, W], 255 where there is none.

    A label is right with this probability, and every other one is equally likely, as in
    pydensecrf's unary_from_labels. Where there is none all are; or with `color_model` the label is
    drawn from kernel density estimates over places and colors, one of each label's pixels. Raises
    ValueError where probability is not between 0 and 1.
    """
    if not 0 < probability < 1:
        raise ValueError(
            f"a label is right with probability {probability}, expected more than 0 and less than 1"
        )
    one_hot = (labels[..., None] == np.arange(count)).astype(np.float32)
    belief = np.full_like(one_hot, 1 / count)
    if color_model:
        features = crf.pixel_features(image, config.evidence_xy, config.evidence_rgb)
        sums = gaussian.gaussian_filter(
            one_hot.reshape(-1, count), features.reshape(-1, 5), filter=config.filter
        )
        pixels = np.maximum(one_hot.sum((0, 1)), 1)
        # What no labelled pixel is near and like stays open.
        density = np.asarray(sums).reshape(one_hot.shape) / pixels + 1e-3
        belief = density / density.sum(-1, keepdims=True)
    belief = np.where((labels == data.VOID)[..., None], belief, one_hot)
    return -np.log(probability * belief + (1 - probability) / (count - 1) * (1 - belief))


def kernels(image: np.ndarray, config: Config) -> list[crf.Kernel]:
    return crf.pixel_kernels(
        image,
        bilateral_weight=config.bilateral_weight,
        sigma_xy=config.sigma_xy,
        sigma_rgb=config.sigma_rgb,
        gaussian_weight=config.gaussian_weight,
        sigma_gaussian=config.sigma_gaussian,
        filter=config.filter,
    )


def photograph(name: Name, width: int) -> np.ndarray:
    """One of scikit-image's, [2/3 width, width, 3] uint8."""
    import skimage.data

    whole = getattr(skimage.data, name)()
    upper = Image.fromarray(whole[: round(whole.shape[1] * 2 / 3)])
    return np.asarray(upper.resize((width, round(width * 2 / 3)), Image.Resampling.LANCZOS))


def drawn(strokes: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """Strokes of each label as a label map int32 [H, W], 255 where there is none."""
    height, width = shape[:2]
    page = Image.new("L", (width, height), data.VOID)
    for label, text in enumerate(strokes):
        for line in text.split("|"):
            points = [[float(part) / 100 for part in point.split(",")] for point in line.split()]
            ImageDraw.Draw(page).line(
                [(x * width, y * height) for x, y in points], label, max(1, width // 80)
            )
    return np.asarray(page).astype(np.int32)


def refined(config: Config, name: Name) -> Refined:
    image = photograph(name, config.width)
    strokes = PHOTOGRAPHS[name].values()
    given, held_out = (drawn(of, image.shape) for of in zip(*strokes, strict=True))
    costs = unary(image, given, len(strokes), config.scribble_prob, config, color_model=True)
    draw = np.random.default_rng([config.seed, [*PHOTOGRAPHS].index(name)])
    logits = config.noise * draw.normal(size=costs.shape).astype(np.float32) - costs
    costs = np.logaddexp.reduce(logits, axis=-1, keepdims=True) - logits
    infer = functools.partial(crf.mean_field, costs, kernels(image, config))
    last = config.iterations
    marginals, energies = infer(iterations=last, trace=True)
    between = sorted({1, -(-last // 2)} - {0, last})
    shown = {0: -costs} | {n: infer(iterations=n) for n in between} | {last: marginals}
    return Refined(
        image,
        given,
        np.where(given == data.VOID, held_out, data.VOID),
        {n: np.asarray(of.argmax(-1)) for n, of in shown.items()},
        np.asarray(energies),
    )


def measured(one: Refined) -> dict[str, float]:
    """The accuracies on the strokes that were held out, and what inference changed."""
    asked = one.held_out != data.VOID
    right = [labels[asked] == one.held_out[asked] for labels in (one.labels[0], one.last)]
    return {
        "unary_accuracy": float(np.mean(right[0])),
        "accuracy": float(np.mean(right[1])),
        "changed": float(np.mean(one.last != one.labels[0])),
        "free_energy_drop": float(one.per_pixel[0] - one.per_pixel[-1]),
    }


def experiment(config: Config) -> Experiment:
    refine_all = functools.cache(lambda: {n: refined(config, n) for n in config.photographs})

    def score(states: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        return {name: measured(one) for name, one in refine_all().items()}

    def draw(run: Run) -> dict[str, Figure]:
        found = refine_all()
        rows = [
            [
                figures.label_overlay(one.image, one.given, opacity=1),
                *(figures.label_overlay(one.image, labels) for labels in one.labels.values()),
            ]
            for one in found.values()
        ]
        shown = [
            f"{n} iteration{'s' * (n > 1)}" if n else "unary"
            for n in next(iter(found.values())).labels
        ]
        energies: dict[str, Any] = {
            name: (np.arange(len(one.per_pixel)), one.per_pixel) for name, one in found.items()
        }
        return {
            "refinement": figures.image_grid(rows, column_labels=["photograph", *shown], gap=4),
            "free_energy": figures.curves(
                energies,
                x_label="iterations of mean-field inference",
                y_label="free energy (nats per pixel)",
            ),
        }

    names, version = config.photographs, importlib.metadata.version("scikit-image")
    return Experiment(
        config,
        score=score,
        figures=draw,
        commands={"refine": (Refine, functools.partial(refine, config))},
        data=[Source("scikit-image", version, ", ".join(names), "package", len(names))],
        claims=CLAIMS,
    )


@dataclass(frozen=True)
class Refine:
    """Draws the borders of a label map along the edges of its image.

    An overlay stands beside the output. Nothing but a file that is named as --output is replaced.
    """

    image: Path  # of any size
    labels: Path  # a label map of this size without loss (PNG): each color or grey is a label
    output: Path | None = None  # a PNG like the label map [B-refined.png, -2 where that is there]
    unknown: tuple[int, int, int] | None = (0, 0, 0)  # the color of pixels without a label
    gt_prob: float = 0.7  # how probable it is that a label is right; 0.9 for scribbles
    color_model: bool = False  # colors tell of pixels without a label: for scribbles


def refine(config: Config, arguments: Refine, run: Run) -> None:
    started = time.perf_counter()
    image, given = read_image(arguments.image), read_labels(arguments.labels, arguments.unknown)
    sizes = ["{1} x {0}".format(*array.shape) for array in (image, given.labels)]
    if sizes[0] != sizes[1]:
        raise DataError(
            f"{arguments.image} has {sizes[0]} pixels, {arguments.labels} has {sizes[1]}; expected "
            "a label map of the image's size"
        )
    target, picture = targets(arguments)
    count, prob = len(given.colors), arguments.gt_prob
    costs = unary(image, given.labels, count, prob, config, color_model=arguments.color_model)
    marginals, energies = crf.mean_field(
        costs, kernels(image, config), iterations=config.iterations, trace=True
    )
    labels = np.asarray(marginals.argmax(-1))
    panels = {"labels": given.labels, "refined": labels}
    overlays = {k: figures.label_overlay(image, v)[None, None] for k, v in panels.items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_labels(target, labels, given)
        figures.side_by_side(overlays, gap=4).savefig(picture)
    except OSError as error:
        raise RunError(f"cannot write {target} ({error.strerror}); name another --output") from None
    known = given.labels != data.VOID
    changed = np.sum(labels[known] != given.labels[known])
    print(
        f"{changed:,} of {known.sum():,} labelled pixels changed, {np.sum(~known):,} got a label; "
        f"free energy {energies[0]:,.0f} to {energies[-1]:,.0f} nats in {config.iterations} "
        f"iterations; {time.perf_counter() - started:.1f} s\n{target}\n{picture}"
    )


def targets(arguments: Refine) -> tuple[Path, Path]:
    """The label map and the picture to be written."""
    beside = arguments.labels.with_name(f"{arguments.labels.stem}-refined.png")
    target = arguments.output or free_path(beside)
    if target.suffix.lower() != ".png":
        raise ValueError(f"--output is {target}, expected a .png: no label may get lost")
    if target.resolve() in {arguments.image.resolve(), arguments.labels.resolve()}:
        raise ValueError(f"{target} is an input; name another --output")
    return target, free_path(target.with_name(f"{target.stem}-overlay.png"))


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
