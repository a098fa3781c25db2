"""The pictures of DeepLab: before and after its CRF, near boundaries, by iterations.

What may be added: another picture of what the CRF changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import _segmenter_crf
from experiments._deeplab_scores import seen, spread
from experiments._segmenter_evaluation import Segmenter, drawn
from jaxstruct import figures
from jaxstruct.training import Run

SHOWN = 4  # images of the test set
ITERATIONS = (0, 1, 2, 5, 10)


def pictures(config: Any, segmenter: Segmenter, sets: Any, run: Run) -> dict[str, Figure]:
    """Figures 5 and 7 of Chen et al. 2015, figure 2's iterations, and the learning curve.

    The iterations are shown where they change most.
    """
    parameters = _segmenter_crf.scored(run.metrics)
    curve = run.curve("mean_iou", stage="network")
    found = {
        "mean_iou": figures.curves(
            {"validation": curve}, x_label="steps", y_label="mean IoU, validation"
        )
    }
    if parameters is None or run.state is None:
        return found
    reader = sets.readers["test"]
    shown = list(seen(segmenter, run.state, reader, spread(reader.size, SHOWN)))
    images = [one.image for one in shown]
    refine = lambda one, n: np.asarray(
        _segmenter_crf.refined(parameters._replace(iterations=n), one.logits, one.image).argmax(-1)
    )
    columns = {
        "truth": [one.class_map for one in shown],
        "network": [one.logits.argmax(-1) for one in shown],
        "network and CRF": [refine(one, parameters.iterations) for one in shown],
    }
    steps = {n: [refine(one, n) for one in shown] for n in ITERATIONS}
    parts = [changing(a != b) for a, b in zip(steps[0], steps[ITERATIONS[-1]], strict=True)]
    cut = lambda values: [x[part] for x, part in zip(values, parts, strict=True)]
    titles = {f"{n} iteration{'s' * (n != 1)}": cut(maps) for n, maps in steps.items()}
    return found | {
        "before_and_after": drawn(segmenter, images, columns),
        "iterations": drawn(segmenter, cut(images), titles),
        "near_boundaries": near_boundaries(config.bands, run),
    }


def changing(changed: np.ndarray) -> tuple[slice, slice]:
    """The part of an image, a third as high and as wide, with the most of changed pixels [H, W]."""
    height, width = (max(1, size // 3) for size in changed.shape)
    sums = np.pad(changed.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[height:, width:] - sums[:-height, width:]
    inside = inside - sums[height:, :-width] + sums[:-height, :-width]
    row, column = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(row, row + height), slice(column, column + width)


def near_boundaries(bands: tuple[int, ...], run: Run) -> Figure:
    """The mean IoU by the width of the band around boundaries: figure 5."""
    names = {"network": "test", "network and CRF": "test_crf"}
    widths = sorted(bands)
    lines = {
        title: (widths, [run.metrics[f"{name}/mean_iou_{width}px"] for width in widths])
        for title, name in names.items()
    }
    return figures.curves(
        lines,
        x_label="width of the band around boundaries (pixels)",
        y_label="mean IoU, test",
    )
