"""The pictures of trained segmenters: coarse to fine, streams, who is taken for whom, curves.

What may be added: another picture of what a segmenter does or says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments._backbones import variables_of
from experiments._segmenter_evaluation import (
    Segmenter,
    drawn,
    evaluation,
    in_image,
    on_canvas,
)
from experiments._spread import spread
from jaxstruct import figures
from jaxstruct.training import Run

SHOWN = 4  # images of the test set
STREAMS = {  # title: what `FCN.streams` calls it, and its stride
    "stride 32": ("score32", 32.0),
    "16": ("score16", 16.0),
    "16 + 32": ("s16", 16.0),
    "8": ("score8", 8.0),
    "8 + 16 + 32": ("s8", 8.0),
}


def pictures(
    segmenters: Mapping[str, Segmenter], sets: Any, counts: dict[str, np.ndarray], run: Run
) -> dict[str, Figure]:
    """FCN's figures of a finished run: 3 (the streams) and 4 (coarse to fine), and its scores.

    `counts` has the confusion matrices of the stages that were scored by this process.
    """
    reader = sets.readers["test"]
    shown = spread(reader.size, SHOWN)
    examples = reader(shown)
    images = [np.asarray(image) for image in examples["image"]]
    truth = [np.asarray(class_map) for class_map in examples["class_map"]]
    found = {
        name: [in_image(segmenter, run.states[name], x) for x in images]
        for name, segmenter in segmenters.items()
    }
    last, segmenter = list(segmenters.items())[-1]
    curves = {name: run.curve("mean_iou", stage=name) for name in segmenters}
    return {
        # On the black of a background, VOC's cat would hardly be seen.
        "coarse_to_fine": drawn(
            segmenter,
            images,
            {"truth": truth, **found},
            over_image="background" in segmenter.classes,
        ),
        "streams": streams(segmenter, run.states[last], images[0], truth[0]),
        "upconvolution": upconvolution(),
        **confusion(segmenter, sets, counts, run.states[last], last),
        "mean_iou": figures.curves(
            {name: curve for name, curve in curves.items() if len(curve[0])},
            x_label="steps of a stage",
            y_label="mean IoU, validation",
        ),
    }


def streams(segmenter: Segmenter, state: Any, image: np.ndarray, truth: np.ndarray) -> Figure:
    """What each map says of the class of the image's largest thing, alone and summed up."""
    canvas, _ = on_canvas(segmenter, image)
    pixels = segmenter.normalised(jnp.asarray(canvas[None], jnp.float32) / 255)
    found = segmenter.model.apply(variables_of(state), pixels, method="streams")
    counts = np.bincount(truth[truth != 255].ravel(), minlength=len(segmenter.classes))
    counts[[n for n, x in enumerate(segmenter.classes) if x in ("background", "sky")]] = 0
    number = int(np.argmax(counts))
    shown = {title: of for title, of in STREAMS.items() if of[0] in found}
    columns = {title: [np.asarray(found[of][0, ..., number])] for title, (of, _) in shown.items()}
    grids = {title: (stride, 0.0) for title, (_, stride) in shown.items()}
    quantity = f"score of {segmenter.classes[number]}"
    return figures.heat_maps([canvas], columns, quantity=quantity, grids=grids)


def confusion(
    segmenter: Segmenter, sets: Any, counts: dict[str, np.ndarray], state: Any, stage: str
) -> dict[str, Figure]:
    """Which class of the test set is taken for which, counted now if it was not before."""
    if stage not in counts:
        evaluation(segmenter, sets.test, keep=partial(counts.__setitem__, stage))(state)
    if not counts[stage].any():
        return {}
    return {"confusion": figures.confusion_matrix(counts[stage], segmenter.classes)}


def upconvolution() -> Figure:
    """What strides and padding make of an upconvolution; the last one doubles, as FCN's do."""
    panels = {
        "plain": {"stride": 1, "padding": 0},
        "with padding": {"stride": 1, "padding": 1},
        "with a stride": {"stride": 2, "padding": 0},
        "with both, as FCN's": {"stride": 2, "padding": 1},
    }
    return figures.upconvolution(panels, kernel_size=(4, 4), inputs=((0, 0), (1, 1)))
