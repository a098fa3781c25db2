"""Proposals of every kind: what the network begins with, windows, searches at full width."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import proposals_study
from jaxstruct import data, models
from jaxstruct.training import State


@pytest.mark.parametrize("weights", ["imagenet", ""])
def test_a_proposal_network_begins_with_the_weights_that_are_named(weights):
    config = dataclasses.replace(
        proposals_study.SMOKE, backbone="efficientnet_lite0", weights=weights
    )
    with data.looking(imitations=True):
        (stage,) = proposals_study.experiment(config).stages
    assert (stage.start is not None) == bool(weights)


def test_windows_are_spread_for_each_number():
    boxes = [models.sliding_windows(64, 64, 100)[-1:]]
    there = proposals_study.Sought(boxes, [np.array([0])], [(64, 64)], frozenset({0}))
    config = dataclasses.replace(proposals_study.SMOKE, numbers=(1, 10, 100))
    found = proposals_study.of_windows(config, there)
    assert found["boxes"] > 10
    assert found["mabo"] == found["recall70/100"] == 1
    assert found["recall70/1"] == 0
    with pytest.raises(ValueError, match=r"selective_search-fast-full.* and --full is 2, which"):
        dataclasses.replace(proposals_study.SMOKE, kinds=("selective_search-fast-full",), full=2)
    with pytest.raises(ValueError, match=r"--numbers are \(100, 10\), expected the smaller ones f"):
        dataclasses.replace(config, numbers=(100, 10))


def test_the_best_overlaps_are_averaged_over_the_scored_classes():
    classes, best = [np.array([1, 1, 1, 2]), np.array([3])], np.array([[0.2, 0.4, 0.6, 0.8, 0]] * 2)
    there = proposals_study.Sought([], classes, [], frozenset({1, 2, 5}))
    config = dataclasses.replace(proposals_study.SMOKE, numbers=(1,))
    found = proposals_study.numbers_of(config, there, best, 1.0, None)
    assert found["mabo"] == pytest.approx((0.4 + 0.8) / 2)
    assert found["recall50/1"] == 2 / 5  # of all boxes
    assert "seconds" not in found


def test_a_set_smaller_than_what_is_searched_is_searched_as_a_whole(monkeypatch):
    searched = []
    box = np.array([[0, 0, 9, 9]], np.float32)
    monkeypatch.setattr(
        data, "selective_search", lambda image, **_: searched.append(len(image)) or box
    )

    class Two:
        size = 2

        def __call__(self, indices):
            return {"image": [np.zeros((20 + [0, 1][i], 20, 3), np.uint8) for i in indices]}

    sizes = [(20, 20), (21, 20)]
    there = proposals_study.Sought([box, box], [np.array([0])] * 2, sizes, frozenset({0}))
    config = dataclasses.replace(proposals_study.SMOKE, full=9)
    found = proposals_study.of_full_width(config, Two(), there, "fast")
    assert searched == [20, 21]
    assert found["recall50/1"] == 1


def test_proposals_are_searched_before_the_network_is_trained(tmp_path, monkeypatch):
    box, found = np.array([[0, 0, 9, 9]], np.float32), []
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path))  # where nothing is stored
    monkeypatch.setattr(
        data.proposals, "selective_search", lambda *_, **given: found.append(given["mode"]) or box
    )
    with data.looking(imitations=True):
        (stage,) = proposals_study.experiment(proposals_study.SMOKE).stages
    assert found == []
    state = State.create(jax.random.key(0), {}, None, {"frozen": {}, "stats": {}})
    assert stage.prepare(state) is stage.batches
    assert sorted(set(found)) == ["fast", "quality"]


def test_the_time_of_the_network_counts_from_pixels(monkeypatch):
    placed, batch = [], {"image": np.zeros(1), "size": np.zeros(1)}
    monkeypatch.setattr(
        proposals_study._detector_evaluation,
        "batch_of",
        lambda detector, image: (placed.append(len(image)) or batch, None),
    )
    monkeypatch.setattr(
        proposals_study.Proposer, "propose", lambda self, variables, batch: batch["size"]
    )
    state = State.create(None, {}, (), {"frozen": {}, "stats": {}})
    proposer = proposals_study.Proposer(None, 10)
    assert proposer.seconds(state, np.zeros((7, 5, 3), np.uint8)) > 0
    assert len(placed) > 1, "it is placed once, outside of what is timed"
    assert set(placed) == {7}
