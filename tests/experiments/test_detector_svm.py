"""Class SVMs of a detector: which regions they learn from, and that they become its layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import (
    _detection,
    _detector_evaluation,
    _detector_sets,
    _detector_svm,
    faster_rcnn_bccd,
)
from experiments._backbones import variables_of
from experiments._detector_evaluation import Detector
from jaxstruct import data, machine, models
from jaxstruct.training import RunError, State

BATCH = {
    "boxes": [[[0, 0, 20, 20], [30, 0, 60, 30], [10, 40, 30, 60], [0, 0, 0, 0]]],
    "boxes_valid": [[True, True, True, False]],
    "classes": [[1, 2, 1, 0]],
    "difficult": [[False, False, True, False]],
    # Half of the first box; all but the whole of the second; far from all; padding.
    "proposals": [[[0, 0, 20, 10], [30, 0, 60, 28], [70, 40, 90, 60], [70, 0, 90, 20]]],
    "proposals_valid": [[True, True, True, False]],
}
BATCH = {name: jnp.array(x, float if name in ("boxes", "proposals") else None)
         for name, x in BATCH.items()}  # fmt: skip


def test_regions_and_what_they_are():
    keys = jax.random.split(jax.random.key(0), 1)
    (regions,), (signs,) = _detector_svm.svm_regions(10, BATCH, keys, 2)
    np.testing.assert_array_equal(regions[:4], BATCH["boxes"][0])
    # A true box is no example of the other class where it overlaps none of that one's: it is.
    np.testing.assert_array_equal(signs[:4], [[1, -1], [-1, 1], [0, -1], [0, 0]])
    expected = {0: [0, -1], 1: [-1, 0], 2: [-1, -1], 3: [0, 0]}
    found = np.asarray(regions[4:])
    assert len(found) == 4
    for place, proposal in enumerate(np.asarray(BATCH["proposals"][0])):
        (row,) = np.flatnonzero((found == proposal).all(1))
        assert signs[4 + row].tolist() == expected[place]


def test_few_proposals_are_drawn_by_the_key_of_the_image():
    seen = set()
    for seed in range(12):
        keys = jax.random.split(jax.random.key(seed), 1)
        (regions,), (signs,) = _detector_svm.svm_regions(1, BATCH, keys, 2)
        assert len(regions) == 5
        assert signs[4].any(), "padding was drawn where there are proposals"
        seen.add(tuple(np.asarray(regions[4]).tolist()))
    assert len(seen) == 3


CONFIG = dataclasses.replace(
    faster_rcnn_bccd.SMOKE, method="sppnet", classifier="svm", height=64, width=64, batch_size=2,
    proposals=30, backbone="vgg16",
)  # fmt: skip


def examples():
    """Images of bright and of dark squares on grey, whose places and kinds are told apart."""
    rng = np.random.default_rng(0)
    read = {"image": [], "boxes": [], "classes": [], "proposals": []}
    for index in range(8):
        image = np.full((64, 64, 3), 120, np.uint8)
        x, y = rng.integers(0, 32, 2)
        image[y : y + 32, x : x + 32] = (250, 10)[index % 2]
        box = np.array([[x, y, x + 32, y + 32]], np.float32)
        corner = rng.integers(0, 40, (30, 2))
        others = np.concatenate([corner, corner + rng.integers(8, 24, (30, 2))], 1)
        read["image"].append(image)
        read["boxes"].append(box)
        read["classes"].append(np.array([index % 2]))
        read["proposals"].append(np.concatenate([box, others]).astype(np.float32))
    return read


def test_svms_become_the_layer_of_classes_and_tell_classes_apart():
    kept = examples()

    def read(indices):
        return {key: [x[i] for i in indices] for key, x in kept.items()}

    read.size = 8
    batches = _detector_sets.batches_of(CONFIG, read, train=False)
    sweep = lambda variables: batches
    model = _detection.network(CONFIG, 2)
    detector = Detector(model, (64, 64), CONFIG.proposals, ("bright", "dark"), (), "a kind")
    images, sizes = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    empty = models.Proposals(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1)), jnp.ones((1, 1), bool))
    params = jax.jit(model.init)(jax.random.key(0), images, sizes, empty)["params"]
    previous = State.create(jax.random.key(0), params, (), {"frozen": {}, "stats": {}})
    stage = _detector_svm.stage(detector, batches, sweep, sweep, 30)
    begun = stage.init(jax.random.key(0), previous)
    assert {*begun.params} == {"class_logits"}
    assert _detector_svm.has_svms(begun)
    assert not _detector_svm.has_svms(previous)
    fitted = stage.start(begun)
    batch = next(iter_of(batches))
    variables = variables_of(fitted)
    maps = model.apply(variables, batch["image"], batch["size"], method="maps")
    logits, _ = model.apply(variables, maps, batch["boxes"][:, :1], method="classify")
    right = np.asarray(batch["classes"])[:, 0]
    margins = np.asarray(logits)[:, 0]
    assert (margins[:, 0] == 0).all()  # the background's
    of_class = np.take_along_axis(margins, right[:, None], 1)
    others = np.take_along_axis(margins, 3 - right[:, None], 1)
    assert (of_class > others).all()
    # The one step of the stage changes nothing but the count.
    after, terms = stage.update(fitted, batch)
    assert not terms
    assert after.step == fitted.step + 1
    jax.tree.map(np.testing.assert_array_equal, after.params, fitted.params)


def iter_of(batches):
    """The batches as a step sees them."""
    for step in range(2):
        read = batches.read(np.asarray(batches.indices(step)))
        batch = batches.augment([None] * len(read["image"]), read)
        yield {
            key: np.asarray(x, np.float32) / 255 if key == "image" else np.asarray(x)
            for key, x in batch.items()
        }


@pytest.mark.parametrize("method", ["sppnet", "fast_rcnn"])
def test_features_beyond_the_memory_are_refused_before_the_first_step(monkeypatch, method):
    with data.looking(imitations=True):
        size = data.open_reader("bccd", "train").size
        made = faster_rcnn_bccd.experiment(dataclasses.replace(CONFIG, method=method))
    regions = CONFIG.most + CONFIG.proposals
    monkeypatch.setattr(machine, "memory", lambda: 2 * size * regions * CONFIG.hidden * 4 - 1)
    state = State.create(jax.random.key(0), {}, None, {"frozen": {}, "stats": {}})
    expected = (
        f"features of {size} images, {regions} regions of 16 numbers each, need 0.0 GiB of memory, "
        "and there are 0.0 GiB; give a smaller --svm-regions"
    )
    with pytest.raises(RunError, match=expected):
        made.stages[0].prepare(state)


def test_the_svms_one_step_reads_a_training_batch():
    """Any set and any number of devices that train the network have such a batch."""
    with data.looking(imitations=True):
        made = faster_rcnn_bccd.experiment(CONFIG)
    assert made.stages[-1].name == "svm"
    assert made.stages[-1].batches is made.stages[0].batches


def test_predict_judges_by_svms_where_a_state_has_them(monkeypatch):
    """A run that has not ended answers by the softmax of the stage before."""
    judged = []
    monkeypatch.setattr(
        _detector_evaluation, "predict", lambda detector, *given: judged.append(detector.svm)
    )
    with data.looking(imitations=True):
        made = faster_rcnn_bccd.experiment(CONFIG)
    for params in ({"class_logits": 0}, {"class_logits": 0, "class_deltas": 0}):
        made.predict(None, State.create(jax.random.key(0), params, (), {}), None)
    assert judged == [True, False]


@pytest.mark.parametrize("method", ["joint", "four_step"])
def test_methods_that_propose_have_no_svms(method):
    with pytest.raises(ValueError, match=f"--classifier is svm and --method {method}, expected fa"):
        dataclasses.replace(CONFIG, method=method)
