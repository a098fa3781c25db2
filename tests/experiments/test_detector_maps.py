"""Maps that are computed once an image: what is learnt from them, and when they are computed."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import (
    _detection,
    _detector_evaluation,
    _detector_maps,
    _detector_sets,
    faster_rcnn_bccd,
)
from experiments._backbones import variables_of
from experiments._detector_evaluation import evaluated, maps_of
from jaxstruct import data, machine
from jaxstruct.models import resnet
from jaxstruct.training import RunError, run

# Chance neither scales nor colours images, nor shifts them on a canvas of their shape, so that
# steps may see them as they are.
CONFIG = dataclasses.replace(
    faster_rcnn_bccd.SMOKE, method="sppnet", train="train[:6]", validation="train[:3]",
    test="train[:3]", height=48, width=64, batch_size=2, epochs=4, learning_rate=1e-3, flip=0.0,
    resize=0.0, color=0.0, proposals=40, evaluations=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))
    with data.looking(imitations=True):
        yield


def detector_of(config):
    """The readers, the detector, and variables as they begin."""
    readers, detector = _detection.sets_of(config, "bccd")
    (first, *_) = _detection.experiment(config, "bccd").stages
    state = jax.jit(first.init, static_argnums=1)(jax.random.key(0), None)
    return readers, detector, state


@pytest.mark.slow
def test_a_detector_learns_the_same_from_known_maps(tmp_path):
    """The loss of the first steps, from known maps and from images in each step."""

    def losses(maps):
        made = _detection.experiment(dataclasses.replace(CONFIG, maps=maps), "bccd")
        first = dataclasses.replace(made.stages[0], evaluate=None)
        short = dataclasses.replace(made, stages=[first], score=None, figures=None, best=None)
        found = run(short, tmp_path / maps, devices=jax.devices()[:1])
        return found.curve("class", of="train")[1]

    known, computed = losses("once"), losses("each_step")
    assert len(known) > 4
    assert known[-1] < known[0]
    np.testing.assert_allclose(known[:2], computed[:2], rtol=2e-5)
    np.testing.assert_allclose(known[:4], computed[:4], rtol=1e-3)  # Adam enlarges rounding


def test_maps_are_computed_once_for_one_backbone():
    readers, detector, state = detector_of(CONFIG)
    images = _detector_sets.batches_of(CONFIG, readers["test"], train=False)
    rows = _detector_maps.known(detector, images, 3, 3, {})
    variables = variables_of(state)
    first = rows(variables)
    head = jax.tree.map(lambda x: x + 1, variables["params"]["head"])
    assert rows({**variables, "params": {**variables["params"], "head": head}}) is first
    backbone = jax.tree.map(lambda x: x * 2, variables["params"]["backbone"])
    other = rows({**variables, "params": {**variables["params"], "backbone": backbone}})
    assert not np.array_equal(other["map"], first["map"])
    # The maps are those of the images, at the top left of both orientations' square.
    batch = images.finished(images.augment([None] * 3, images.read(np.arange(3))))
    (expected,) = maps_of(detector.model, variables, batch).values()
    height, width = expected.shape[1:3]
    np.testing.assert_allclose(first["map"][:, :height, :width], expected, rtol=1e-5, atol=1e-5)
    assert not first["map"][:, height:].any()
    np.testing.assert_array_equal(first["proposals"], batch["proposals"])


def test_maps_beyond_the_memory_are_one_line(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 4_096_000)
    _detector_maps.check_memory(21, 10, (32, 32, 32), 4)  # 3.88 MiB of 3.91
    expected = (
        "^maps of 21 images, 32x32x32 numbers each, need 0.0 GiB of memory, and there are 0.0 GiB; "
        "make the canvas smaller, or give --maps each_step$"
    )
    with pytest.raises(RunError, match=expected):
        _detector_maps.check_memory(21, 11, (32, 32, 32), 4)


def test_mirrored_images_come_with_mirrored_boxes():
    reader = _detection.sets_of(CONFIG, "bccd")[0]["train"]
    plain, mirrored = (
        _detector_sets.batches_of(CONFIG, reader, train=False, mirrored=m) for m in (False, True)
    )
    plain, mirrored = (x.augment([None] * 2, x.read(np.arange(2))) for x in (plain, mirrored))
    for i in range(2):
        width = plain["size"][i][1]
        here = plain["image"][i][:, :width].astype(int)
        assert np.abs(here[:, ::-1] - mirrored["image"][i][:, :width]).mean() < 3
        assert np.abs(here - mirrored["image"][i][:, :width]).mean() > 3
        for name in ("boxes", "proposals"):
            there = plain[f"{name}_valid"][i]
            x1, y1, x2, y2 = plain[name][i][there].T
            expected = np.stack([width - x2, y1, width - x1, y2], 1)
            np.testing.assert_allclose(mirrored[name][i][there], expected, atol=0.6)


def test_training_draws_mirrored_maps_by_chance():
    plain, mirrored = ({"map": np.full((4, 2, 2, 1), x, np.float32)} for x in (0, 1))
    made = _detector_maps.shuffled(lambda _: plain, lambda _: mirrored, 200, flip=0.25, seed=0)({})
    draws = [np.random.default_rng(i) for i in range(200)]
    batch = made.finished(made.augment(draws, made.read(made.indices(0))))
    assert 0.15 < batch["map"].mean() < 0.35
    never = _detector_maps.shuffled(lambda _: plain, None, 200, flip=0.0, seed=0)({})
    assert not never.finished(never.augment(draws, never.read(never.indices(0))))["map"].any()


def test_maps_are_forgotten_when_the_last_score_is_known(monkeypatch):
    """Gigabytes, which the other members of a study need."""
    monkeypatch.setattr(_detector_evaluation, "seconds", lambda *given: {})
    splits = []

    batched = _detector_sets.batched
    monkeypatch.setattr(
        _detection, "batched", lambda *given: splits.append(batched(*given)) or splits[-1]
    )
    made = _detection.experiment(CONFIG, "bccd")
    _, _, state = detector_of(CONFIG)
    last = made.stages[-1].name
    sweep = splits[0].sweeps["test"]
    sweep(variables_of(state))
    assert any(splits[0].kept)
    found = made.score({last: state})
    assert found["test/recall50"] >= 0
    assert not any(splits[0].kept)


def test_scores_are_the_same():
    readers, detector, state = detector_of(CONFIG)
    known, computed = (
        evaluated(detector, _detector_sets.batched(config, detector, readers).sweeps["test"], state)
        for config in (CONFIG, dataclasses.replace(CONFIG, maps="each_step"))
    )
    assert known == pytest.approx(computed, abs=1e-3)
