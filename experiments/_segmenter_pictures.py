"""The pictures of trained segmenters: coarse to fine, streams, who is taken for whom, curves.

What may be added: another picture of what a segmenter does or says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments._backbones import variables_of
from experiments._segmenter_evaluation import (
    Segmenter,
    drawn,
    in_image,
    on_canvas,
)
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


def pictures(segmenters: Mapping[str, Segmenter], sets: Any, run: Run) -> dict[str, Figure]:
    """FCN's figures of a finished run: 3 (the streams) and 4 (coarse to fine), and its scores."""
    reader = sets.readers["test"]
    shown = np.linspace(0, reader.size - 1, min(SHOWN, reader.size)).round().astype(int)
    examples = reader(shown)
    images = [np.asarray(image) for image in examples["image"]]
    truth = [np.asarray(class_map) for class_map in examples["class_map"]]
    found = {
        name: [np.argmax(in_image(segmenter, run.states[name], x), -1) for x in images]
        for name, segmenter in segmenters.items()
    }
    last, segmenter = list(segmenters.items())[-1]
    curves = {name: run.curve("mean_iou", stage=name) for name in segmenters}
    return {
        "coarse_to_fine": drawn(segmenter, images, {"truth": truth, **found}),
        "streams": streams(segmenter, run.states[last], images[0], truth[0]),
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
