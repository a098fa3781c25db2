"""A dense CRF behind a segmenter: the search for its parameters, and what it makes of logits.

What may be added: another parameter of the CRF, another way to search.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _checks
from experiments._segmenter_evaluation import Segmenter, scores
from jaxstruct.metrics import Confusion
from jaxstruct.ops import crf
from jaxstruct.training import RunError
from jaxstruct.training import workdir as files

FILE = "crf.json"  # in the workdir: the parameters that were found, and all that were tried
CELL = 24  # pixels: sizes of images are rounded up to multiples, of which 360 and 480 are
BAND = 5  # pixels: the band around boundaries whose mean IoU the search shows


class CRF(NamedTuple):
    """The parameters of a dense CRF, see `ops.dense_crf`. Lengths are pixels of the canvas."""

    bilateral_weight: float
    sigma_xy: float
    sigma_rgb: float
    gaussian_weight: float
    sigma_gaussian: float
    iterations: int

    @property
    def sigmas(self) -> tuple[float, float, float]:
        """The standard deviations of both kernels."""
        return self.sigma_xy, self.sigma_rgb, self.sigma_gaussian


def scored(metrics: Mapping[str, float]) -> CRF | None:
    """The parameters with which a run was scored, of its metrics "crf/..."; None without them."""
    if not all(f"crf/{name}" in metrics for name in CRF._fields):
        return None
    found: dict[str, Any] = {name: metrics[f"crf/{name}"] for name in CRF._fields}
    return CRF(**found | {"iterations": int(found["iterations"])})


class Seen(NamedTuple):
    """An image as it is scored, and what a network says of it."""

    image: np.ndarray  # uint8 [H, W, 3]
    logits: np.ndarray  # [H, W, classes]
    class_map: np.ndarray  # [H, W], 255 where there is no label
    distance: np.ndarray  # [H, W] of each pixel to the nearest boundary


class Tried(NamedTuple):
    """What parameters, or None for the network alone, give on the images of a search."""

    parameters: CRF | None
    mean_iou: float
    mean_iou_near: float  # within `BAND` pixels of a boundary
    seconds: float  # of the CRF, for an image


@dataclass(frozen=True)
class SearchCRF:
    """Tries parameters of the CRF on validation images, and writes the best into crf.json.

    `predict` reads crf.json. A run reads it, too, when it is scored: one that was scored keeps its
    scores until its metrics.json is removed.
    """

    images: int | None = None  # how many [those of the run]
    bilateral_weight: tuple[float, ...] = ()  # of the kernel of places and colors [the run's]
    sigma_xy: tuple[float, ...] = ()  # its standard deviations, in pixels [the run's]
    sigma_rgb: tuple[float, ...] = ()  # its standard deviations, in steps of 255 [the run's]
    gaussian_weight: tuple[float, ...] = ()  # of the kernel of places alone [the run's]
    sigma_gaussian: tuple[float, ...] = ()  # its standard deviations, in pixels [the run's]

    def __post_init__(self) -> None:
        if self.images is not None:
            _checks.COUNT.check(self, "images")
        _checks.NOT_NEGATIVE.check(self, "bilateral_weight", "gaussian_weight")
        _checks.POSITIVE.check(self, "sigma_xy", "sigma_rgb", "sigma_gaussian")


def grid_of(config: Any, own: SearchCRF) -> list[CRF]:
    """All combinations of the values that a verb or else a configuration names.

    A Gaussian kernel of weight 0 has no width, so its combinations are tried once.
    """
    axes = [
        own.bilateral_weight or config.bilateral_weights,
        own.sigma_xy or config.sigmas_xy,
        own.sigma_rgb or config.sigmas_rgb,
        own.gaussian_weight or config.gaussian_weights,
        own.sigma_gaussian or config.sigmas_gaussian,
    ]
    found: dict[Any, CRF] = {}
    for w1, xy, rgb, w2, near in itertools.product(*axes):
        one = CRF(*(float(w1), float(xy), float(rgb), float(w2), float(near)), config.iterations)
        found.setdefault(one if one.gaussian_weight else one._replace(sigma_gaussian=0.0), one)
    return list(found.values())


def refined(parameters: CRF, logits: Any, image: Any) -> jax.Array:
    """The marginals [H, W, classes] of logits, whose image is uint8 [H, W, 3].

    They are those of `ops.dense_crf` where height and width are multiples of `CELL`; other images
    are continued by their mirror image.
    """
    return inferred(parameters, logits, kernels_of(parameters, image))


def kernels_of(parameters: CRF, image: Any) -> list[crf.Kernel]:
    """The kernels of an image, with weights of 1, and of its mirror image up to whole cells.

    Their lattice has the room that the image needs, rounded up to a power of 2. So many images
    share few programs, which take ten times as long to compile as to run.
    """
    sigma_xy, sigma_rgb, sigma_gaussian = parameters.sigmas
    whole = _whole(image)
    needed = crf.lattice_capacity(whole, sigma_xy=sigma_xy, sigma_rgb=sigma_rgb)
    return _kernels(whole, sigma_xy, sigma_rgb, sigma_gaussian, 1 << (needed - 1).bit_length())


def _whole(values: Any) -> jax.Array:
    """Values [H, W, C], mirrored below and on the right up to multiples of `CELL`."""
    height, width = values.shape[:2]
    ends = ((0, -height % CELL), (0, -width % CELL), (0, 0))
    return jnp.pad(jnp.asarray(values), ends, "symmetric")


@partial(jax.jit, static_argnames=("sigma_gaussian", "capacity"))
def _kernels(
    image: jax.Array, sigma_xy: Any, sigma_rgb: Any, sigma_gaussian: float, capacity: int
) -> list[crf.Kernel]:
    return crf.pixel_kernels(
        image,
        bilateral_weight=1.0,
        sigma_xy=sigma_xy,
        sigma_rgb=sigma_rgb,
        gaussian_weight=1.0,
        sigma_gaussian=sigma_gaussian,
        capacity=capacity,
    )


def inferred(parameters: CRF, logits: Any, kernels: Sequence[crf.Kernel]) -> jax.Array:
    """The marginals [H, W, classes] by the kernels of `kernels_of`; one of weight 0 is left out."""
    weights = parameters.bilateral_weight, parameters.gaussian_weight
    weighted = [
        kernel._replace(compatibility=weight)
        for kernel, weight in zip(kernels, weights, strict=True)
        if weight
    ]
    found = crf.mean_field(-_whole(logits), weighted, iterations=parameters.iterations)
    return found[: logits.shape[0], : logits.shape[1]]


def counted(one: Seen, labels: np.ndarray, classes: int, bands: Sequence[int]) -> np.ndarray:
    """Confusions int64 [1 + bands, C, C] of class maps [H, W]: of all pixels, then of each band."""
    known = one.class_map < classes
    pairs = one.class_map.astype(np.int64) * classes + labels
    where = [known, *(known & (one.distance <= width) for width in bands)]
    counts = [np.bincount(pairs[mask], minlength=classes**2) for mask in where]
    return np.stack(counts).reshape(-1, classes, classes)


def mean_iou(segmenter: Segmenter, counts: np.ndarray) -> float:
    """The mean IoU of the scored classes by counts [C, C]; 0 where none of them occurs."""
    return scores(segmenter, Confusion(counts)).get("mean_iou", 0.0)


def search(
    segmenter: Segmenter, seen: Iterable[Seen], grid: Sequence[CRF]
) -> tuple[CRF, list[Tried]]:
    """The parameters with the highest mean IoU, and what the network and all parameters give.

    Raises ValueError without images, or without parameters.
    """
    classes = len(segmenter.classes)
    totals: dict[CRF | None, Any] = dict.fromkeys([None, *grid], 0)
    seconds: dict[CRF | None, list[float]] = {key: [] for key in totals}
    images = 0
    for one in seen:
        images += 1
        totals[None] = totals[None] + counted(one, one.logits.argmax(-1), classes, [BAND])
        seconds[None].append(0.0)
        sigmas, kernels, building = None, [], 0.0
        for parameters in sorted(grid, key=lambda x: x.sigmas):
            since = time.perf_counter()
            if parameters.sigmas != sigmas:
                sigmas = parameters.sigmas
                kernels = jax.block_until_ready(kernels_of(parameters, one.image))
                building = time.perf_counter() - since
                since = time.perf_counter()
            labels = np.asarray(jnp.argmax(inferred(parameters, one.logits, kernels), -1))
            seconds[parameters].append(building + time.perf_counter() - since)
            totals[parameters] = totals[parameters] + counted(one, labels, classes, [BAND])
    if not (images and grid):
        raise ValueError(f"got {images} images and {len(grid)} parameters, expected one at least")
    tried = [
        Tried(
            key,
            mean_iou(segmenter, counts[0]),
            mean_iou(segmenter, counts[1]),
            statistics.median(seconds[key]),
        )
        for key, counts in totals.items()
    ]
    best = max(tried[1:], key=lambda x: x.mean_iou).parameters
    assert best is not None
    return best, tried


def table(tried: Sequence[Tried]) -> str:
    """What was tried, a line each, the best one marked."""
    best = max(tried[1:], key=lambda x: x.mean_iou)
    lines = [
        f"{'w1':>6} {'sigma_xy':>8} {'sigma_rgb':>9} {'w2':>6} {'sigma_g':>7} "
        f"{'mean IoU':>8} {f'{BAND} px':>6} {'seconds':>7}"
    ]
    for one in tried:
        if one.parameters is None:
            words = f"{'the network alone':>40}"
        else:
            *values, _ = one.parameters
            widths = 6, 8, 9, 6, 7
            words = " ".join(f"{x:>{n}g}" for x, n in zip(values, widths, strict=True))
        lines.append(
            f"{words} {one.mean_iou:>8.4f} {one.mean_iou_near:>6.4f} {one.seconds:>7.2f}"
            + (" <-" if one is best else "")
        )
    assert best.parameters is not None
    for name, chosen in best.parameters._asdict().items():
        all_tried = {getattr(one.parameters, name) for one in tried if one.parameters}
        if len(all_tried) > 1 and chosen and chosen in (min(all_tried), max(all_tried)):
            way = "smaller" if chosen == min(all_tried) else "larger"
            lines.append(f"{name} {chosen:g} is the end of what was tried: name {way} ones, too")
    if best.mean_iou < tried[0].mean_iou:
        lines.append("none of these helps: name others with search_crf")
    return "\n".join(lines)


def write(
    workdir: Path, best: CRF, tried: Sequence[Tried], split: str, images: int, step: int
) -> None:
    """Writes crf.json, of the network of a step. Raises RunError where that is impossible."""
    rows = [
        {**(one.parameters._asdict() if one.parameters else {"network": "alone"})}
        | {"mean_iou": one.mean_iou, f"mean_iou_{BAND}px": one.mean_iou_near}
        for one in tried
    ]
    about = {"split": split, "images": images, "step": step}
    found = {"parameters": best._asdict(), **about, "tried": rows}
    files.write_json(workdir / FILE, found)


def read(workdir: Path | None, step: int | None = None) -> CRF | None:
    """The parameters in crf.json; None without it, or where they are of another step's network.

    Raises RunError for another file.
    """
    if workdir is None:
        return None
    path, remedy = workdir / FILE, "remove it, and search_crf writes it again"
    found = files.read_json(path, remedy)
    if found is None:
        return None
    given = found.get("parameters") if isinstance(found, dict) else None
    if not isinstance(given, dict) or set(given) != set(CRF._fields):
        raise RunError(f"{path} has no parameters {', '.join(CRF._fields)}; {remedy}")
    for name, value in given.items():
        sigma, whole = name.startswith("sigma"), name == "iterations"
        limits = _checks.POSITIVE if sigma else _checks.NOT_NEGATIVE
        if not files.is_finite(value) or not limits.hold(value) or (whole and value % 1):
            kind = "a whole number" if whole else "a number"
            raise RunError(f"{path}: {name} is {value!r}, expected {kind}, {limits}; {remedy}")
    if step not in (None, found.get("step")):
        return None
    return CRF(**given | {"iterations": int(given["iterations"])})
