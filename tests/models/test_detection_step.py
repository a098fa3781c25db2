"""One training step of Faster R-CNN equals a slow reference: targets, regions, terms, gradients."""

import functools
from functools import partial
from types import SimpleNamespace
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _detection
from experiments.faster_rcnn_bccd import Config
from jaxstruct import losses, models
from jaxstruct.models import vgg
from jaxstruct.training import partition
from tests.models import detection_reference as reference

CANVAS, STRIDE, CLASSES = (64, 96), 16, 3
SCALES, RATIOS = (16.0, 32.0, 56.0), (0.7, 1.0, 1.5)
ANCHORS, PROPOSALS, REGIONS = 256, 12, 14  # the first is of sample_anchors
SMALLER = {"rpn_deltas": 0.05, "class_deltas": 0.3, "logits": 0.2}
SEED = 22
BATCH = {
    "size": np.array([[64, 96], [52, 60]], np.int32),
    # The corners of the first are at halves of cells. Of the first image, the second is difficult.
    "boxes": np.array(
        [
            [[8, 24, 56, 56], [50, 6, 92, 44], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[3, 5, 20, 22], [15, 17, 49, 47], [0, 0, 0, 0], [0, 0, 0, 0]],
        ],
        np.float32,
    ),
    "boxes_valid": np.array([[True, True, False, False]] * 2),
    "difficult": np.array([[False, True, False, False], [False] * 4]),
    "classes": np.array([[2, 1, 0, 0], [3, 1, 0, 0]], np.int32),
}


def network_of(pooling):
    """The configuration and the detector of a small head and few regions."""
    config = Config(
        backbone="vgg16",
        height=CANVAS[0],
        width=CANVAS[1],
        scales=SCALES,
        ratios=RATIOS,
        pooling=pooling,
        hidden=16,
        rpn_features=8,
        proposals=PROPOSALS,
        regions=REGIONS,
    )
    return config, _detection.network(config, CLASSES)


@functools.cache
def weights():
    """Float32 weights, drawn from their names, of sizes that leave no value about 0 everywhere."""
    images = jnp.zeros((1, *CANVAS, 3))
    shapes = jax.eval_shape(
        network_of("pool")[1].init, jax.random.key(0), images, np.array([CANVAS])
    )

    def drawn(path, like):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng([SEED, crc32(name.encode())])
        deviation = np.sqrt(2 / np.prod(like.shape[:-1])) if like.ndim > 1 else 0.1
        factor = next((factor for part, factor in SMALLER.items() if part in name), 1.0)
        return (factor * deviation * rng.standard_normal(like.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(drawn, shapes["params"])


def taught(said, proposals, batch, keys):
    """What the loss draws from its keys: anchors, and regions and theirs."""
    draws = jax.vmap(partial(jax.random.split, num=2))(keys)
    usable = batch["boxes_valid"] & ~batch["difficult"]
    anchors = jax.vmap(losses.sample_anchors, (0, None, 0, 0))(
        draws[:, 0], said.anchors, batch["boxes"], usable
    )
    _, regions = jax.vmap(partial(losses.sample_proposals, size=REGIONS))(
        draws[:, 1], proposals.boxes, proposals.valid, batch["boxes"], usable, batch["classes"]
    )
    return {"anchors": anchors, "regions": regions}


def step_of(config, model):
    """A function to the terms, what passed through, and gradients by weights and by the map."""
    loss = _detection.loss_of(config, model)
    call, best_proposals = _detection.call, models.best_proposals

    def total(trained, added, frozen, batch, keys):
        seen = {}

        def watched(model, variables, method, *given, **options):
            found = call(model, variables, method, *given, **options)
            if method == "maps":
                found = {name: x + added for name, x in found.items()}
            elif method == "classify":
                seen["regions"] = given[1]
                seen["pooled"] = call(model, variables, "pooled", *given)
            seen[method] = found
            return found

        def watched_proposals(*given, **options):
            seen["proposals"] = best_proposals(*given, **options)
            return seen["proposals"]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_detection, "call", watched)
            patch.setattr(models, "best_proposals", watched_proposals)
            means, _ = loss(trained, {"frozen": frozen, "stats": {}}, batch, keys)
        terms = {name: mean.value for name, mean in means.items()}
        drawn = taught(seen["propose_from"], seen["proposals"], batch, keys)
        return sum(terms.values()), (terms, seen, drawn)

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))


@functools.cache
def ours(pooling):
    """A step on two images of sizes of their own, and what its reference begins with."""
    config, model = network_of(pooling)
    rng = np.random.default_rng(3)
    batch = BATCH | {"image": rng.random((2, *CANVAS, 3), np.float32)}
    keys = jax.random.split(jax.random.key(11), 2)
    with pytest.MonkeyPatch.context() as patch:
        # A trunk that compiles quickly, whose last layer still is conv5_3.
        patch.setattr(vgg, "_WIDTHS", (4, 4, 8, 8, 8))
        patch.setitem(vgg._LAYERS, 16, (1, 1, 1, 1, 3))
        trained, frozen = partition(weights(), ["backbone"])
        # Added to the map, so that no maximum is that of two cells where both are 0.
        shape = 2, CANVAS[0] // STRIDE, CANVAS[1] // STRIDE, 8
        added = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        step = step_of(config, model)
        found = jax.device_get(step(trained, added, frozen, batch, keys))
    (by_weights, by_map), (terms, seen, drawn) = found
    (maps,) = seen["maps"].values()
    return SimpleNamespace(
        terms=terms,
        seen=seen,
        drawn=drawn,
        by_weights=by_weights,
        by_map=by_map,
        weights=jax.tree.map(partial(np.asarray, dtype=np.float64), trained),
        maps=maps.astype(np.float64),
        pooling=getattr(reference, pooling),
    )


@functools.cache
def learnt(pooling):
    """The reference's proposals of each image, and its `Drawn` of the rows that ours drew."""
    step = ours(pooling)
    anchors = reference.anchors_of(4, 6, STRIDE, SCALES, RATIOS)
    proposals, drawn = [], []
    for b, x in enumerate(step.maps):
        usable = BATCH["boxes_valid"][b] & ~BATCH["difficult"][b]
        boxes = BATCH["boxes"][b][usable].astype(np.float64)
        classes = BATCH["classes"][b][usable].tolist()
        logits, deltas = reference.proposal_network(step.weights, x)
        proposals.append(reference.propose(logits, deltas, anchors, BATCH["size"][b], PROPOSALS))
        label, nearest = reference.label_anchors(anchors, boxes)
        found = jax.tree.map(lambda y, b=b: y[b], step.drawn["anchors"])
        assert reference.admissible(label, found.rows, found.valid, ANCHORS, 0.5)
        of_anchors = [
            (row, *reference.expected(row, label, nearest, anchors, boxes))
            for row in found.rows[found.valid]
        ]
        # Ours has places for so many proposals, then for all true boxes, used or not.
        places = np.r_[np.arange(len(proposals[b])), PROPOSALS + np.flatnonzero(usable)].tolist()
        candidates = [*proposals[b], *boxes]
        label, nearest = reference.label_proposals(candidates, boxes, classes)
        found = jax.tree.map(lambda y, b=b: y[b], step.drawn["regions"])
        rows = [
            places.index(row) if v else 0 for row, v in zip(found.rows, found.valid, strict=True)
        ]
        assert reference.admissible(label, rows, found.valid, REGIONS, 0.25)
        tens = reference.HEAD_WEIGHTS
        of_regions = [
            (candidates[row], *reference.expected(row, label, nearest, candidates, boxes, tens))
            for row, v in zip(rows, found.valid, strict=True)
            if v
        ]
        drawn.append(reference.Drawn(of_anchors, of_regions))
    return proposals, drawn


POOLINGS = pytest.mark.parametrize("pooling", ["pool", "align"])
near = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@POOLINGS
def test_proposals_are_those_of_the_paper(pooling):
    found, (proposals, _) = ours(pooling).seen["proposals"], learnt(pooling)
    for b, boxes in enumerate(proposals):
        assert found.valid[b].tolist() == [i < len(boxes) for i in range(PROPOSALS)]
        near(found.boxes[b][: len(boxes)], boxes)


@POOLINGS
def test_what_is_learnt_is_that_of_the_paper(pooling):
    step, (_, drawn) = ours(pooling), learnt(pooling)
    for b, of in enumerate(drawn):
        for name, rows in (("anchors", of.anchors), ("regions", of.regions)):
            found = jax.tree.map(lambda y, b=b: y[b], step.drawn[name])
            count = len(rows)
            _, label, target = zip(*rows, strict=True)
            assert found.label.tolist() == [*label, *[0] * (len(found.label) - count)]
            near(found.target[:count], [np.zeros(4) if t is None else t for t in target])
        regions = step.seen["regions"][b]
        near(regions[: len(of.regions)], [box for box, _, _ in of.regions])
        assert not regions[len(of.regions) :].any()
        # The case is no simpler than it should be: places are left, and boxes are far from true.
        assert len(of.regions) < REGIONS
        assert any(t is not None and np.abs(t).max() > 0.5 for _, _, t in of.regions)


@POOLINGS
def test_pooled_regions_and_the_four_terms_are_those_of_the_paper(pooling):
    step, (_, drawn) = ours(pooling), learnt(pooling)
    pools = reference.pooled(step.maps, drawn, step.pooling)
    for found, arrays in zip(step.seen["pooled"], pools, strict=True):
        near(found[: len(arrays)], arrays)
    expected = reference.terms(step.weights, step.maps, pools, drawn)
    assert step.terms.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 1e-3
        assert float(step.terms[name]) == pytest.approx(value, rel=1e-5), name


@POOLINGS
def test_gradients_are_the_finite_differences_of_the_reference(pooling):
    step, (_, drawn) = ours(pooling), learnt(pooling)
    pools = reference.pooled(step.maps, drawn, step.pooling)

    def by_map(maps):
        again = reference.pooled(maps, drawn, step.pooling)
        return sum(reference.terms(step.weights, maps, again, drawn).values())

    rng = np.random.default_rng(6)
    leaves, tree = jax.tree.flatten(step.weights)
    gradients = jax.tree_util.tree_leaves_with_path(step.by_weights)
    for i, (path, gradient) in enumerate(gradients):

        def by_leaf(leaf, i=i):
            moved = tree.unflatten([*leaves[:i], leaf, *leaves[i + 1 :]])
            return sum(reference.terms(moved, step.maps, pools, drawn).values())

        for _ in range(2):
            agrees(by_leaf, leaves[i], gradient, rng, path)
    for _ in range(3):
        agrees(by_map, step.maps, step.by_map, rng, "map")


def agrees(function, at, gradient, rng, name):
    """The difference along a direction is the gradient's product with it."""
    direction = rng.standard_normal(at.shape)
    step = 1e-6 * direction
    difference = (function(at + step) - function(at - step)) / 2e-6
    assert np.vdot(gradient, direction) == pytest.approx(difference, rel=1e-4), name
