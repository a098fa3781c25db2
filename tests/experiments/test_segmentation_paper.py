"""The papers' configurations of segmenters run, on imitations and in small."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import fcn_camvid, fcn_voc2012
from jaxstruct import data
from jaxstruct.models import vgg
from jaxstruct.training import run

SMALL = {
    "hidden": 8, "height": 64, "width": 64, "seen_height": 64, "seen_width": 64, "batch_size": 4,
    "finest": (8,), "epochs": (0.1,), "bands": (5,), "evaluations": 1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("module", [fcn_camvid, fcn_voc2012], ids=["camvid", "voc2012"])
def test_the_papers_configurations_run(module, tmp_path, monkeypatch):
    # One convolution a block, of few channels.
    monkeypatch.setitem(vgg._LAYERS, 16, (1, 1, 1, 1, 1))
    monkeypatch.setattr(vgg, "_WIDTHS", (4, 4, 8, 8, 8))
    assert module.PAPER.weights.startswith("vgg16")
    small = SMALL | {
        "weights": "",
        "train": "train[:8]",
        "validation": "val[:4]",
        "test": "val[:4]",
    }
    config = dataclasses.replace(module.PAPER, **small)
    whole = {fcn_camvid: (360, 480), fcn_voc2012: (512, 512)}[module]
    assert (module.PAPER.seen_height, module.PAPER.seen_width) == whole
    assert (config.trunk, config.optimizer, config.dropout) == ("vgg16", "sgd", 0.5)
    with data.looking(imitations=True):
        found = run(module.experiment(config), tmp_path, devices=jax.devices()[:1])
    assert np.isfinite(found.metrics["8s/test/mean_iou"])
    pictures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert pictures >= {"coarse_to_fine", "confusion", "streams", "upconvolution"}
