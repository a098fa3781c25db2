"""The papers' configurations of detectors run, on imitations and in small."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import detectors_study, faster_rcnn_voc2012
from jaxstruct import data
from jaxstruct.models import resnet
from jaxstruct.training import run

SMALL = {
    "backbone": "resnet18", "frozen": 0, "height": 64, "width": 64, "scales": (16.0, 32.0),
    "hidden": 16, "rpn_features": 16, "regions": 8, "evaluations": 1, "train": "train+val[:4]",
    "validation": "val[:4]", "test": "test[:4]",
}  # fmt: skip
CASES = [
    (faster_rcnn_voc2012, {"epochs": 0.2, "proposals": 20}),
    *(
        (detectors_study, {"methods": (method,), "epochs": (epochs,), "searched": 20})
        for method, epochs in (("fast_rcnn", 0.2), ("sppnet", 0.2), ("four_step", 0.8))
    ),
]
NAMES = ["faster_rcnn", "fast_rcnn", "sppnet", "four_step"]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "changes"), CASES, ids=NAMES)
def test_the_papers_configurations_run(module, changes, tmp_path, monkeypatch):
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))  # compiles in half the time
    config = dataclasses.replace(module.PAPER, **SMALL, **changes)
    assert (config.optimizer, config.pooling, config.dropout) == ("sgd", "pool", 0.5)
    with data.looking(imitations=True):
        found = run(module.experiment(config), tmp_path, devices=jax.devices()[:1])
    values = [value for name, value in found.metrics.items() if name.endswith("test/ap50")]
    assert len(values) == 1
    assert np.isfinite(values).all()
