"""DeepLab's networks and options, and the paper's configuration in small."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _deeplab, _deeplab_pictures, deeplab_crf_camvid, deeplab_crf_voc2012
from experiments._backbones import trunk_of
from jaxstruct import data
from jaxstruct.models import resnet
from jaxstruct.training import run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))  # compiles in half the time


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("trunk", ["vgg16", "resnet18", "efficientnet_lite0"])
def test_the_last_map_has_the_stride_that_is_asked_for(trunk, stride):
    backbone = trunk_of(trunk, True, stride)
    images = jnp.zeros((1, 64, 96, 3))
    maps, _ = jax.eval_shape(backbone.module.init_with_output, jax.random.key(0), images)
    assert maps[backbone.level].shape[1:3] == (64 // stride, 96 // stride)
    assert backbone.module.strides()[backbone.level] == stride


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, [12]),
        ({"output_stride": 16}, [6]),
        ({"head": "aspp"}, [6, 12, 18, 24]),
        ({"head": "aspp", "output_stride": 16, "hidden": 0}, [3, 6, 9, 12]),
    ],
)
def test_taps_are_as_far_apart_in_pixels_at_every_stride(changes, rates):
    config = dataclasses.replace(deeplab_crf_camvid.SMOKE, **changes)
    head = _deeplab.network(config, 11).head
    assert [*getattr(head, "rates", [getattr(head, "rate", None)])] == rates
    assert head.hidden == (config.hidden or None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1.0}, "--epochs is -1.0, expected at least 0"),
        ({"sigmas_xy": ()}, "--sigmas-xy is empty, expected at least one value"),
        ({"output_stride": 32}, "--output-stride is 32, expected one of 8, 16"),
    ],
)
def test_what_no_deeplab_has_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(deeplab_crf_camvid.SMOKE, **changes)


def test_the_part_that_changes_most():
    changed = np.zeros((30, 60), bool)
    changed[3, 4] = True
    changed[21:24, 40:43] = True
    rows, columns = _deeplab_pictures.changing(changed)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (10, 20)
    assert rows.start <= 21 <= 23 < rows.stop
    assert columns.start <= 40 <= 42 < columns.stop


SMALL = {
    "trunk": "resnet18", "weights": "", "height": 64, "width": 64, "seen_height": 64,
    "seen_width": 64, "hidden": 16, "batch_size": 2, "epochs": 0.5, "evaluations": 1,
    "train": "train[:4]", "validation": "val[:2]", "test": "val[:2]", "searched": 1,
    "iterations": 1, "bilateral_weights": (5.0,), "sigmas_xy": (50.0,), "sigmas_rgb": (10.0,),
}  # fmt: skip


@pytest.mark.slow
def test_the_papers_configuration_runs(tmp_path):
    config = dataclasses.replace(deeplab_crf_voc2012.PAPER, **SMALL)
    chosen = config.optimizer, config.schedule, config.dropout, config.gaussian_weights
    assert chosen == ("sgd", "poly", 0.5, (3.0,))
    paper = deeplab_crf_voc2012.PAPER
    assert (paper.frozen, paper.seen_height, paper.seen_width) == (0, 512, 512)  # whole images
    with data.looking(imitations=True):
        made = deeplab_crf_voc2012.experiment(config)
        found = run(made, tmp_path / "run", devices=jax.devices()[:1])
    assert np.isfinite(list(found.metrics.values())).all()
    assert found.metrics["gain/mean_iou"] == pytest.approx(
        found.metrics["test_crf/mean_iou"] - found.metrics["test/mean_iou"]
    )
    assert found.metrics["crf/sigma_xy"] == 50
    written = json.loads((tmp_path / "run" / "crf.json").read_text())
    assert [row.get("sigma_rgb") for row in written["tried"]] == [None, 10.0]
