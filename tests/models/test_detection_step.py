"""One training step of Faster R-CNN equals a slow reference: targets, regions, terms, gradients."""

import functools
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _detection, _detector_training
from experiments.faster_rcnn_bccd import Config
from jaxstruct import losses
from jaxstruct.training import partition
from tests.models import detection_layers as layers
from tests.models import detection_reference as reference
from tests.models.detection_step import (
    CANVAS,
    CELLS,
    CLASSES,
    STRIDE,
    agrees,
    near,
    regions_of,
    same_rows,
    small_trunk,
    step_of,
    weights_of,
)

SCALES, RATIOS = (16.0, 32.0, 56.0), (0.7, 1.0, 1.5)
ANCHORS, PROPOSALS, REGIONS = 256, 12, 14  # the first is of sample_anchors
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


def taught(seen, batch, keys):
    """What the loss draws from its keys: anchors, and regions and theirs."""
    said, proposals = seen["propose_from"], seen["proposals"]
    draws = jax.vmap(partial(jax.random.split, num=2))(keys)
    usable = batch["boxes_valid"] & ~batch["difficult"]
    anchors = jax.vmap(losses.sample_anchors, (0, None, 0, 0))(
        draws[:, 0], said.anchors, batch["boxes"], usable
    )
    _, regions = jax.vmap(partial(losses.sample_proposals, size=REGIONS))(
        draws[:, 1], proposals.boxes, proposals.valid, batch["boxes"], usable, batch["classes"]
    )
    return {"anchors": anchors, "regions": regions}


@functools.cache
def ours(pooling):
    """A step on two images of sizes of their own, and what its reference begins with."""
    config, model = network_of(pooling)
    rng = np.random.default_rng(3)
    batch = BATCH | {"image": rng.random((2, *CANVAS, 3), np.float32)}
    keys = jax.random.split(jax.random.key(11), 2)
    with small_trunk():
        weights = weights_of(model, jnp.zeros((1, *CANVAS, 3)), np.array([CANVAS]))
        trained, frozen = partition(weights, ["backbone"])
        # Added to the map, so that no maximum is that of two cells where both are 0.
        added = rng.uniform(0.5, 1.5, (2, *CELLS, 8)).astype(np.float32)
        step = step_of(_detector_training.loss_of(config, model), taught)
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
        pooling=getattr(layers, pooling),
    )


@functools.cache
def learnt(pooling):
    """The reference's proposals of each image, and its `Drawn` of the rows that ours drew."""
    step = ours(pooling)
    anchors = reference.anchors_of(*CELLS, STRIDE, SCALES, RATIOS)
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
        found = jax.tree.map(lambda y, b=b: y[b], step.drawn["regions"])
        of_regions = regions_of(found, places, candidates, boxes, classes, REGIONS)
        drawn.append(reference.Drawn(of_anchors, of_regions))
    return proposals, drawn


POOLINGS = pytest.mark.parametrize("pooling", ["pool", "align"])


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
            same_rows(found, rows)
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
