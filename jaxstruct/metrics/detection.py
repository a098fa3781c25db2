"""Average precision of detections over a set, by PASCAL VOC's rules and by COCO's, on the host.

What may be added: another number that follows from which detections are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_AREAS = {"": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
COCO_RECALLS = np.linspace(0, 1, 101)
COCO_COUNTS = (1, 10, 100)  # detections of a class in an image that count, the best ones
EVERY = slice(None)


class Detections(NamedTuple):
    """What was found in N images, at most D boxes each.

    Attributes:
        boxes: [N, D, 4], (x1, y1, x2, y2).
        scores: [N, D].
        classes: integers [N, D].
        valid: bool [N, D], False for padding.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    valid: np.ndarray


class Truth(NamedTuple):
    """What there is in N images, at most M boxes each.

    Attributes:
        boxes: [N, M, 4], (x1, y1, x2, y2).
        classes: integers [N, M].
        valid: bool [N, M], False for padding.
        ignored: bool [N, M]: finding it is neither right nor wrong (VOC's difficult, COCO's crowd).
        crowd: bool [N, M]: besides, it stands for many, so that each box inside it finds it.
        areas: [N, M] in pixels, where they are not those of the boxes (of COCO's masks).
    """

    boxes: np.ndarray
    classes: np.ndarray
    valid: np.ndarray
    ignored: np.ndarray | None = None
    crowd: np.ndarray | None = None
    areas: np.ndarray | None = None


class PrecisionRecall(NamedTuple):
    """Precision and recall [n] of the n best detections of one class, at their scores [n].

    Detections that found an ignored box are left out. `precision` falls and rises, as it is.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray

    def area(self) -> float:
        """VOC's average precision since 2010: the area under the precision's falling envelope."""
        recall = np.concatenate([[0.0], self.recall, [1.0]])
        envelope = _envelope(np.concatenate([[0.0], self.precision, [0.0]]))
        return float(np.sum(np.diff(recall) * envelope[1:]))

    def eleven_points(self) -> float:
        """VOC's average precision until 2009: of the best precision at recalls of 0, .1, ..., 1."""
        best = [np.max(self.precision, initial=0, where=self.recall >= r / 10) for r in range(11)]
        return float(np.mean(best))


def voc_curves(
    found: Detections, truth: Truth, *, classes: Sequence[int], iou: float = 0.5
) -> dict[int, PrecisionRecall]:
    """Precision and recall of each class that occurs, by the rules of PASCAL VOC's devkit.

    Detections of all images are judged in the order of their scores, equal ones in the order of
    the arrays. Each is compared with the true box of its class that it overlaps best, found before
    or not: it is right if their IoU is at least `iou` and the box was not found yet, left out if
    the box is ignored, and wrong otherwise. A class without a box that is not ignored is left out.

    Args:
        found: of I images and at most K detections each, [I, K, ...].
        truth: of the same images, at most M true boxes each, [I, M, ...].
        classes: those that are scored.
        iou: the least one of a detection that is right.

    Raises:
        ValueError: arrays whose shapes do not fit together.

    Source: Everingham et al. 2010, section 4.2, and the devkit's VOCevaldet.m.
    """
    known = _checked(found, truth)
    curves = {}
    for of_class in classes:
        there = known.valid & (known.classes == of_class)
        positives = int(np.sum(there & ~known.ignored))
        if not positives:
            continue
        images, places = np.nonzero(found.valid & (found.classes == of_class))
        order = np.argsort(-found.scores[images, places], kind="stable")
        images, places = images[order], places[order]
        right, counted = np.zeros(len(images), bool), np.ones(len(images), bool)
        taken = np.zeros(known.valid.shape, bool)
        overlaps = _overlaps_by_image(found.boxes, known.boxes, images, places, there)
        for i, (image, overlap) in enumerate(zip(images, overlaps, strict=True)):
            best = int(np.argmax(overlap))
            if overlap[best] < iou:
                continue
            if known.ignored[image, best]:
                counted[i] = False
            elif not taken[image, best]:
                right[i] = taken[image, best] = True
        curves[of_class] = _curve(right[counted], found.scores[images, places][counted], positives)
    return curves


def coco_scores(
    found: Detections, truth: Truth, *, classes: Sequence[int]
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """COCO's twelve numbers, and AP, AP50 and AP75 of each class that occurs.

    A detection is given the unfound true box of its class that it overlaps best, one that counts
    before one that is ignored; sizes are those of the true boxes, and of detections that found
    none. Numbers are means over classes and over ten IoUs from .5 to .95; what has no true box
    that counts has no number and is left out.

    Args:
        found: of I images and at most K detections each, [I, K, ...].
        truth: of the same images, at most M true boxes each, [I, M, ...].
        classes: those that are scored.

    Returns:
        {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "recall_1", "recall_10",
        "recall_100", "recall_small", "recall_medium", "recall_large"}, and for each class
        {"ap", "ap50", "ap75"}.

    Raises:
        ValueError: arrays whose shapes do not fit together.

    Source: the pages of COCO's detection evaluation; equal to pycocotools' COCOeval.
    """
    known = _checked(found, truth)
    precisions: dict[int, np.ndarray] = {}  # of each class [areas, ious, recalls], NaN without
    recalls: dict[int, np.ndarray] = {}  # [areas, counts, ious]
    for of_class in classes:
        precisions[of_class], recalls[of_class] = _coco_class(found, known, of_class)
    ap = np.stack([*precisions.values()]) if precisions else np.zeros((0, 4, 10, 101))
    ar = np.stack([*recalls.values()]) if recalls else np.zeros((0, 4, 3, 10))
    numbers = {
        "ap": ap[:, 0],
        "ap50": ap[:, 0, 0],
        "ap75": ap[:, 0, 5],
        **{f"ap_{size}": ap[:, i] for i, size in enumerate(COCO_AREAS) if i},
        **{f"recall_{count}": ar[:, 0, i] for i, count in enumerate(COCO_COUNTS)},
        **{f"recall_{size}": ar[:, i, -1] for i, size in enumerate(COCO_AREAS) if i},
    }
    by_class = {
        of_class: {"ap": of[0], "ap50": of[0, 0], "ap75": of[0, 5]}
        for of_class, of in precisions.items()
    }
    return _means(numbers), {c: m for c, n in by_class.items() if (m := _means(n))}


def best_overlaps(
    proposals: np.ndarray,
    valid: np.ndarray,
    truth: Truth,
    *,
    numbers: Sequence[int] | None = None,
) -> np.ndarray:
    """The IoU [T] of each true box that counts with the best of an image's proposals.

    `proposals` are [N, P, 4] with `valid` bool [N, P]; true boxes come in the order of the arrays.
    With K `numbers`, the first so many of an image's valid proposals are used alone: [K, T]. Recall
    at an IoU is the share of values that reach it; their mean is the average best overlap (ABO of
    Uijlings et al. 2013, section 5). Raises ValueError for shapes that do not fit, and for a number
    below 1.
    """
    there = truth.valid if truth.ignored is None else truth.valid & ~truth.ignored
    if proposals.shape[:2] != valid.shape or len(proposals) != len(truth.boxes):
        raise ValueError(
            f"proposals {proposals.shape} of valid {valid.shape} do not fit truth "
            f"{truth.boxes.shape}, expected [N, P, 4], [N, P] and [N, M, 4]"
        )
    if numbers is not None and min(numbers, default=1) < 1:
        raise ValueError(f"numbers are {list(numbers)}, expected numbers from 1 on")
    of_each = [proposals.shape[1]] if numbers is None else list(numbers)
    best = [np.zeros((len(of_each), 0))]
    for boxes, usable, true, counts in zip(proposals, valid, truth.boxes, there, strict=True):
        overlaps = _iou(boxes[usable], true[counts])
        # Row n is the best of the first n.
        sofar = np.maximum.accumulate(np.pad(overlaps, ((1, 0), (0, 0))), axis=0)
        best.append(sofar[np.minimum(of_each, len(overlaps))])
    found = np.concatenate(best, axis=1)
    return found[0] if numbers is None else found


class _Truth(NamedTuple):
    """`Truth` with all its arrays; what is a crowd is ignored."""

    boxes: np.ndarray
    classes: np.ndarray
    valid: np.ndarray
    ignored: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


def _checked(found: Detections, truth: Truth) -> _Truth:
    """The truth, whose shapes fit those of what was found."""
    shape, of_truth = found.valid.shape, truth.valid.shape
    shapes = {
        "found.boxes": (found.boxes.shape, (*shape, 4)),
        "found.scores": (found.scores.shape, shape),
        "found.classes": (found.classes.shape, shape),
        "truth.boxes": (truth.boxes.shape, (*of_truth, 4)),
        "truth.classes": (truth.classes.shape, of_truth),
        "truth.valid": (of_truth, (*shape[:1], *of_truth[1:])),
    }
    shapes |= {
        f"truth.{name}": (x.shape, of_truth)
        for name in ("ignored", "crowd", "areas")
        if (x := getattr(truth, name)) is not None
    }
    for name, (given, expected) in shapes.items():
        if given != expected or len(expected) < 2:
            raise ValueError(f"{name} is {list(given)}, expected {list(expected)}")
    none = np.zeros(of_truth, bool)
    ignored = none if truth.ignored is None else truth.ignored
    crowd = none if truth.crowd is None else truth.crowd
    areas = _areas(truth.boxes) if truth.areas is None else truth.areas
    return _Truth(*truth[:3], ignored | crowd, crowd, areas)


def _coco_class(found: Detections, truth: _Truth, of_class: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.array([*COCO_AREAS.values()]).T[:, :, None]
    scores, ranks, right, wrong = [], [], [], []
    positives = np.zeros(len(COCO_AREAS))
    there = truth.valid & (truth.classes == of_class)
    guessed = found.valid & (found.classes == of_class)
    for image in np.flatnonzero(np.any(there, 1) | np.any(guessed, 1)):
        mine, true = guessed[image], there[image]
        order = np.argsort(-found.scores[image, mine], kind="stable")[: COCO_COUNTS[-1]]
        boxes, areas = found.boxes[image, mine][order], truth.areas[image, true]
        crowd = truth.crowd[image, true]
        ignored = truth.ignored[image, true] | (areas < low) | (areas > high)  # [areas, M]
        match = _coco_match(_iou(boxes, truth.boxes[image, true], crowd), ignored, crowd)
        sizes = _areas(boxes)
        beyond = (sizes < low) | (sizes > high)
        of_match = np.take_along_axis(
            np.concatenate([ignored, beyond[:, :0], np.zeros((len(low), 1), bool)], 1)[:, None],
            match,
            axis=2,
        )
        left_out = np.where(match < 0, beyond[:, None], of_match)
        scores.append(found.scores[image, mine][order])
        ranks.append(np.arange(len(order)))
        right.append((match >= 0) & ~left_out)
        wrong.append((match < 0) & ~left_out)
        positives += np.sum(~ignored, axis=1)
    shape = len(COCO_AREAS), len(COCO_IOUS)
    precision = np.full((*shape, len(COCO_RECALLS)), np.nan)
    recall = np.full((shape[0], len(COCO_COUNTS), shape[1]), np.nan)
    if not scores:
        return precision, recall
    order = np.argsort(-np.concatenate(scores), kind="stable")
    rank = np.concatenate(ranks)[order]
    hits, misses = (np.concatenate(x, 2)[:, :, order] for x in (right, wrong))
    for area in np.flatnonzero(positives):
        for i, most in enumerate(COCO_COUNTS):
            recall[area, i] = np.sum(hits[area][:, rank < most], 1) / positives[area]
        true, false = (np.cumsum(x[area], axis=1, dtype=float) for x in (hits, misses))
        for j in range(shape[1]):
            envelope = _envelope(true[j] / (true[j] + false[j] + np.spacing(1)))
            at = np.searchsorted(true[j] / positives[area], COCO_RECALLS, side="left")
            precision[area, j] = np.append(envelope, 0.0)[at]
    return precision, recall


def _coco_match(overlaps: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Which true box each detection finds, -1 for none: [areas, ious, D].

    `overlaps` are [D, M], detections by falling score; `ignored` is [areas, M].
    """
    detections, boxes = overlaps.shape
    shape = len(ignored), len(COCO_IOUS)
    match = np.full((*shape, detections), -1)
    if not boxes:
        return match
    free = np.ones((*shape, boxes), bool)
    reached = overlaps >= np.minimum(COCO_IOUS, 1 - 1e-10)[:, None, None]  # [ious, D, M]
    last = np.arange(boxes)
    for d in range(detections):
        open_ = (free | crowd) & reached[:, d]
        # One that counts before one that is ignored, then the best, then the last of equal ones.
        tier = np.where(ignored[:, None], 1.0, 3.0)
        worth = np.where(open_, tier + overlaps[d], -1.0)
        best = boxes - 1 - np.argmax(worth[..., ::-1], axis=-1)
        some = np.take_along_axis(worth, best[..., None], -1)[..., 0] > 0
        match[:, :, d] = np.where(some, best, -1)
        free &= ~(some[..., None] & (best[..., None] == last))
    return match


def _overlaps_by_image(
    boxes: np.ndarray, true: np.ndarray, images: np.ndarray, places: np.ndarray, there: np.ndarray
) -> np.ndarray:
    """IoUs [n, M] of detections with the true boxes of their images, -1 of those not there."""
    overlaps = np.full((len(images), true.shape[1]), -1.0)
    for image in np.unique(images):
        rows = np.flatnonzero(images == image)
        columns = np.flatnonzero(there[image])
        overlaps[np.ix_(rows, columns)] = _iou(boxes[image, places[rows]], true[image, columns])
    return overlaps if overlaps.size else np.full((len(images), 1), -1.0)


def _curve(right: np.ndarray, scores: np.ndarray, positives: int) -> PrecisionRecall:
    true = np.cumsum(right, dtype=float)
    return PrecisionRecall(true / positives, true / np.arange(1, len(right) + 1), scores)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at this recall or a higher one."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _means(numbers: dict[str, np.ndarray]) -> dict[str, float]:
    known = {name: x[~np.isnan(x)] for name, x in numbers.items()}
    return {name: float(np.mean(x)) for name, x in known.items() if x.size}


def _areas(boxes: np.ndarray) -> np.ndarray:
    sides = np.asarray(boxes, np.float64)[..., 2:] - boxes[..., :2]
    return np.maximum(sides[..., 0], 0) * np.maximum(sides[..., 1], 0)


def _iou(boxes: np.ndarray, true: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """IoUs [D, M]; with a crowd, the share of the detection that lies in it."""
    a, b = np.asarray(boxes, np.float64)[:, None], np.asarray(true, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.prod(np.maximum(sides, 0), axis=-1)
    union = _areas(a) + _areas(b) - both
    if crowd is not None:
        union = np.where(crowd, _areas(a), union)
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)
