"""The pictures of a CRF that was learnt: what it makes of class maps, and its compatibilities.

What may be added: another picture of learned weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import _crf_rnn
from experiments._deeplab_scores import spread
from experiments._segmenter_evaluation import Segmenter, drawn, in_image
from jaxstruct import figures
from jaxstruct.training import Run

SHOWN = 4  # images of the test set


def pictures(config: Any, network: Segmenter, sets: Any, run: Run) -> dict[str, Figure]:
    """Class maps with no CRF, with its first and its learned weights; compatibilities; curves."""
    reader = sets.readers["test"]
    examples = reader(spread(reader.size, SHOWN))
    images = [np.asarray(image) for image in examples["image"]]
    refined = _crf_rnn.with_crf(config, network, config.tested_iterations)
    shown = {
        "network": (network, run.states["network"]),
        "fixed CRF": (refined, _crf_rnn.fixed(refined, run.states["crf"])),
        "trained CRF": (refined, run.states["crf"]),
    }
    if "joint" in run.states:
        shown["trained jointly"] = refined, run.states["joint"]
    columns = {
        name: [in_image(segmenter, state, image) for image in images]
        for name, (segmenter, state) in shown.items()
    }
    truth = [np.asarray(class_map) for class_map in examples["class_map"]]
    curves = {name: run.curve("mean_iou", stage=name) for name in run.states}
    last = list(run.states.values())[-1]
    weights = {name: np.asarray(x) for name, x in last.params[_crf_rnn.CRF].items()}
    return {
        "class_maps": drawn(network, images, {"truth": truth, **columns}),
        "compatibilities": figures.pair_table(
            weights["compatibility"] * weights["bilateral_weight"],
            network.classes,
            quantity="cost, times the weight of the neighbour's class",
            row_label="class of a pixel",
            column_label="class of its neighbours",
        ),
        "mean_iou": figures.curves(
            curves, x_label="steps of a stage", y_label="mean IoU, validation"
        ),
    }
