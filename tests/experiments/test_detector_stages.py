"""The four steps of alternating training: what each learns, and what it takes from the others."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import (
    _detector_evaluation,
    _detector_pictures,
    _detector_training,
    detectors_study,
    faster_rcnn_bccd,
)
from experiments._backbones import variables_of
from experiments._detector_evaluation import call
from experiments._detector_training import METHODS, PROPOSER
from jaxstruct import data, models
from jaxstruct.models import resnet
from jaxstruct.training import AXIS, run

# Twelve steps on eight images, all of one shape on a canvas that is square.
FOUR = dataclasses.replace(
    faster_rcnn_bccd.SMOKE,
    method="four_step",
    train="train[:8]",
    validation="train[:4]",
    test="train[:4]",
    height=64,
    width=64,
    batch_size=4,
    epochs=6,
    learning_rate=1e-3,
    evaluations=1,
)
OUTPUTS = "class_logits", "class_deltas"

pytestmark = pytest.mark.slow


def test_each_step_of_the_paper_sees_as_many_images_as_the_authors_code():
    """80,000 of the 5,011 images of VOC 2007 trainval, one or two at a time."""
    paper = detectors_study.PAPER
    passes = dict(zip(paper.methods, paper.epochs, strict=True))["four_step"]
    for learning in METHODS["four_step"]:
        assert passes * learning.share * 5011 == pytest.approx(80_000, rel=0.01)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the four steps; its last state and the variables after each step, by its name."""
    with pytest.MonkeyPatch.context() as patch, data.looking(imitations=True):
        patch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))  # which compiles in half the time
        made = faster_rcnn_bccd.experiment(FOUR)
        # Each evaluation compiles: the first is enough.
        first, *others = made.stages
        others = [dataclasses.replace(stage, evaluate=None) for stage in others]
        found = run(
            dataclasses.replace(made, stages=[first, *others], score=None, figures=None, best=None),
            tmp_path_factory.mktemp("four_step"),
            devices=jax.devices()[:1],
        )
        batches = made.stages[1].batches
        examples = batches.read(np.arange(4))
        draws = [np.random.default_rng(i) for i in range(4)]
        yield SimpleNamespace(
            made=made,
            run=found,
            states=jax.device_get(dict(found.states)),
            after={name: jax.device_get(variables_of(x)) for name, x in found.states.items()},
            batch=batches.finished(batches.augment(draws, examples)),
        )


def equal(a, b):
    """Whether two trees have the same bits."""
    a, b = (jax.tree_util.tree_leaves_with_path(x) for x in (a, b))
    same = lambda x, y: x[0] == y[0] and np.array_equal(x[1], y[1])
    return len(a) == len(b) > 0 and all(map(same, a, b))


def changed(a, b):
    """The parts of the network in which all arrays, or some, differ between two variables."""
    a, b = a["params"], b["params"]
    parts = {name for name in a if not equal(a[name], b[name])}
    for name in parts:
        differ = jax.tree.map(lambda x, y: not np.array_equal(x, y), a[name], b[name])
        assert all(jax.tree.leaves(differ)), name
    return parts


def statistics(variables):
    return {name: x for name, x in variables.items() if name != "params"}


def test_what_validation_measures(trained):
    (record,) = (x for x in trained.run.history if "evaluation" in x)
    assert (record["stage"], {*record["evaluation"]}) == ("rpn_1", {"recall50", "recall70"})
    measured = {stage.name: stage.evaluate and stage.evaluate.func for stage in trained.made.stages}
    assert list(trained.after) == list(measured)
    assert measured == {
        "rpn_1": _detector_evaluation.recalled,
        "fast_rcnn_1": None,
        "rpn_2": _detector_evaluation.recalled,
        "fast_rcnn_2": _detector_evaluation.evaluated,
    }


def test_the_second_step_learns_a_backbone_of_its_own(trained):
    first, second = trained.after["rpn_1"], trained.after["fast_rcnn_1"]
    assert set(trained.states["rpn_1"].params) == {"backbone", *PROPOSER}
    key = trained.states["fast_rcnn_1"].key
    begun = variables_of(trained.made.stages[1].init(key, trained.run.states["rpn_1"]))
    fresh = variables_of(trained.made.stages[0].init(key, None))
    assert equal(begun["params"]["backbone"], fresh["params"]["backbone"])
    assert equal(statistics(begun), statistics(fresh))
    assert changed(begun, first) == {"backbone"}
    assert changed(begun, second) == {"backbone", "head", *OUTPUTS}
    assert not equal(statistics(begun), statistics(second))


def test_the_second_step_learns_from_the_regions_of_the_first_steps_network(trained):
    first, state = trained.after["rpn_1"], trained.states["fast_rcnn_1"]
    assert equal(state.model_state["former"], first)
    model, batch = trained.made.model, trained.batch
    loss = _detector_training.loss_of(FOUR, model, METHODS["four_step"][1])
    seen = {}

    def watched(model, variables, method, *given, **options):
        if method == "classify":
            seen["regions"] = given[1]
        return call(model, variables, method, *given, **options)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0), axis_name=AXIS)  # one device's share
    def regions_of(state, keys):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_detector_training, "call", watched)
            loss(state.params, state.model_state, batch, keys)
        return seen["regions"]

    @jax.jit
    def proposals_of(variables):
        maps = call(model, variables, "maps", batch["image"], batch["size"])
        said = call(model, variables, "propose_from", maps, batch["image"].shape[1:3])
        return models.best_proposals(said, batch["size"], before=2000, after=FOUR.proposals)

    (regions,) = np.asarray(regions_of(state, jax.random.split(jax.random.key(5), (1, 4))))
    share = partial(share_within, regions, batch)
    own = trained.after["fast_rcnn_1"]
    assert share(proposals_of(first)) == 1
    assert share(proposals_of(own)) < 0.5


def share_within(regions, batch, proposals):
    """The share of the regions [B, S, 4] that are proposals or true boxes; padding is 0."""
    found = []
    for b, boxes in enumerate(regions):
        valid = np.asarray(proposals.valid[b])
        known = np.concatenate([np.asarray(proposals.boxes[b])[valid], batch["boxes"][b]])
        for box in boxes[boxes.any(1)]:
            found.append(np.abs(known - box).max(1).min() < 1e-3)
    return np.mean(found)


def test_the_third_step_learns_proposals_on_the_second_steps_backbone(trained):
    second, third = trained.after["fast_rcnn_1"], trained.after["rpn_2"]
    assert equal(second["params"]["backbone"], third["params"]["backbone"])
    assert equal(statistics(second), statistics(third))
    assert changed(second, third) == set(PROPOSER)
    assert set(trained.states["rpn_2"].params) == set(PROPOSER)


def test_the_fourth_step_learns_the_head_alone(trained):
    third, fourth = trained.after["rpn_2"], trained.after["fast_rcnn_2"]
    assert equal(statistics(third), statistics(fourth))
    assert changed(third, fourth) == {"head", *OUTPUTS}
    assert set(trained.states["fast_rcnn_2"].params) == {"head", *OUTPUTS}
    assert "former" not in trained.states["fast_rcnn_2"].model_state


@pytest.mark.parametrize(("measured", "drawn"), [(0, []), (1, []), (2, ["average_precision"])])
def test_average_precision_is_drawn_where_it_was_measured_more_than_once(measured, drawn):
    numbers = np.arange(measured)
    one = SimpleNamespace(curve=lambda name: (numbers, numbers / 10))
    assert [*_detector_pictures._average_precision(one)] == drawn
