"""A training step of Fast R-CNN, and of each stage of SPPnet, equals a slow reference."""

import functools
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _detection, _detector_training
from experiments.faster_rcnn_bccd import Config
from jaxstruct import losses, models
from jaxstruct.training import merge
from tests.models import detection_layers as layers
from tests.models import detection_reference as reference
from tests.models.detection_step import (
    BLOCKS,
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

PROPOSALS, REGIONS, BACKGROUND = 32, 16, 0.1
# The method and the number of its stage; the terms; the parts that learn.
CASES = {
    "fast_rcnn": ("fast_rcnn", 0, {"class", "box"}, {"backbone", "head", *layers.OUTPUTS}),
    "head": ("sppnet", 0, {"class"}, {"head", "class_logits"}),
    "boxes": ("sppnet", 1, {"box"}, {"class_deltas"}),
}
# Of the first image: a region of an even number of cells, one smaller than a cell that holds no
# centre, one across the border of the map, and a difficult one on the first.
BOXES = np.array(
    [
        [[8, 24, 56, 56], [82, 9, 87, 15], [80, 44, 104, 70], [30, 20, 70, 50]],
        [[3, 5, 20, 22], [15, 17, 49, 47], [0, 0, 0, 0], [0, 0, 0, 0]],
    ],
    np.float32,
)
DRAWN = np.array(  # of the first image: all of these are drawn
    [
        [8, 24, 56, 40],  # IoU .5: positive
        [8, 24, 56, 39.9],  # little less
        [83, 10, 84.5, 12],  # IoU .1: background
        [30, 20, 70, 50],  # the difficult box
        [96.5, 46, 107, 70],  # outside of the map
        [82.3, 9.2, 84.1, 12.7],  # within a cell
        [-12.5, -9.25, 40.5, 41],
        [3.3, 30.1, 91.7, 47.9],
        [85, 50, 140, 90],
    ]
)
NEVER = np.array(
    [
        [83, 10, 84.5, 11.9],  # IoU little below .1
        [40.2, 50.5, 61.9, 63.1],  # IoU .05
        [60, 0, 75, 12],  # IoU 0
        [-30, -20, -3, -5],
    ]
)
PADDING = np.array([[8, 24, 56, 56], [8, 24, 56, 41], [10, 26, 40, 40]])


def batch_of():
    """Two images of sizes of their own; the second has more regions than are drawn."""
    rng = np.random.default_rng(7)
    near_boxes = np.repeat(BOXES[1, :2], PROPOSALS // 2, 0)
    second = near_boxes + rng.uniform(-9, 9, (PROPOSALS, 4))
    second = np.concatenate([second[:, :2], np.maximum(second[:, 2:], second[:, :2] + 0.7)], 1)
    count = len(DRAWN) + len(NEVER)
    first = np.resize(PADDING.astype(np.float64), (PROPOSALS, 4))
    first[:count] = rng.permutation(np.concatenate([DRAWN, NEVER]))
    return {
        "image": rng.random((2, *CANVAS, 3), np.float32),
        "size": np.array([[64, 96], [52, 60]], np.int32),
        "boxes": BOXES,
        "boxes_valid": np.array([[True] * 4, [True, True, False, False]]),
        "difficult": np.array([[False, False, False, True], [False] * 4]),
        "classes": np.array([[2, 3, 1, 1], [3, 1, 0, 0]], np.int32),
        "proposals": np.stack([first, second]).astype(np.float32),
        "proposals_valid": np.arange(PROPOSALS) < [[count], [PROPOSALS]],
    }


BATCH = batch_of()


def network_of(method):
    """The configuration and the detector of a small head and few regions."""
    config = Config(
        method=method,
        backbone="vgg16",
        height=CANVAS[0],
        width=CANVAS[1],
        pooling="pool",
        hidden=16,
        regions=REGIONS,
    )
    return config, _detection.network(config, CLASSES)


def taught(seen, batch, keys):
    """What the loss draws from its keys."""
    draws = jax.vmap(partial(jax.random.split, num=2))(keys)[:, 1]
    usable = batch["boxes_valid"] & ~batch["difficult"]
    sample = partial(losses.sample_proposals, size=REGIONS, background=BACKGROUND)
    _, found = jax.vmap(sample)(
        draws, batch["proposals"], batch["proposals_valid"],
        batch["boxes"], usable, batch["classes"],
    )  # fmt: skip
    return found


@functools.cache
def ours(case):
    """A step on two images, and what its reference begins with."""
    method, stage, _, _ = CASES[case]
    config, model = network_of(method)
    learning = _detector_training.METHODS[method][stage]
    keys = jax.random.split(jax.random.key(11), 2)
    # Added to the map, so that no maximum is that of two cells where both are 0.
    added = np.random.default_rng(3).uniform(0.5, 1.5, (2, *CELLS, 8)).astype(np.float32)
    with small_trunk():
        given = models.Proposals(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1)), jnp.ones((1, 1), bool))
        whole = weights_of(model, jnp.zeros((1, *CANVAS, 3)), np.array([CANVAS]), given)
        trained, frozen = _detection._parted(config, learning, whole)
        step = step_of(_detector_training.loss_of(config, model, learning), taught)
        found = jax.device_get(step(trained, added, frozen, BATCH, keys))
    (by_weights, by_map), (terms, seen, drawn) = found
    (maps,) = seen["maps"].values()
    double = partial(jax.tree.map, partial(np.asarray, dtype=np.float64))
    return SimpleNamespace(
        model=model,
        terms=terms,
        seen=seen,
        drawn=drawn,
        by_weights=by_weights,
        by_map=by_map,
        trained=double(trained),
        frozen=double(frozen),
        added=added.astype(np.float64),
        maps=maps.astype(np.float64),
        pools=partial(
            reference.pooled,
            pooling=layers.pyramid if method == "sppnet" else layers.pool,
            cells=layers.PYRAMID if method == "sppnet" else 7,
        ),
    )


@functools.cache
def learnt(case):
    """The reference's `Drawn` of each image, of the rows that ours drew."""
    drawn = []
    for b in range(2):
        valid = BATCH["proposals_valid"][b]
        usable = BATCH["boxes_valid"][b] & ~BATCH["difficult"][b]
        boxes = BATCH["boxes"][b][usable].astype(np.float64)
        candidates = [*BATCH["proposals"][b][valid].astype(np.float64), *boxes]
        # Ours has places for all proposals, then for all true boxes, used or not.
        places = [*np.flatnonzero(valid), *(PROPOSALS + np.flatnonzero(usable))]
        found = jax.tree.map(lambda y, b=b: y[b], ours(case).drawn)
        classes = BATCH["classes"][b][usable].tolist()
        regions = regions_of(found, places, candidates, boxes, classes, REGIONS, BACKGROUND)
        drawn.append(reference.Drawn([], regions))
    return drawn


def total(case, weights, pools):
    """The reference's loss: the sum of the terms of the stage."""
    terms = reference.region_terms(weights, pools, learnt(case))
    return sum(terms[name] for name in CASES[case][2])


EACH = pytest.mark.parametrize("case", CASES)


@EACH
def test_what_is_learnt_is_that_of_the_paper(case):
    step, drawn = ours(case), learnt(case)
    for b, (_, rows) in enumerate(drawn):
        same_rows(jax.tree.map(lambda y, b=b: y[b], step.drawn), rows)
        regions = step.seen["regions"][b]
        near(regions[: len(rows)], [box for box, _, _ in rows])
        assert not regions[len(rows) :].any()
    # The first image has places left; of the second, of both kinds more than fit.
    boxes = {tuple(box) for box, _, _ in drawn[0].regions}
    expected = {*map(tuple, DRAWN.astype(np.float32)), *map(tuple, BOXES[0, :3])}
    assert boxes == expected
    assert len(drawn[0].regions) == len(expected) < REGIONS
    candidates = [*BATCH["proposals"][1], *BOXES[1, :2]]
    label, _ = reference.label_proposals(candidates, BOXES[1, :2], [3, 1], BACKGROUND)
    assert sum(x > 0 for x in label) > REGIONS // 4
    assert sum(x == 0 for x in label) > REGIONS - REGIONS // 4
    assert any(t is not None and np.abs(t).max() > 1 for _, _, t in drawn[1].regions)


@pytest.mark.parametrize("case", ["fast_rcnn", "boxes"])
def test_pooled_regions_are_those_of_the_paper(case):
    step = ours(case)
    drawn = [([], [(box, 0, None) for box in boxes]) for boxes in BATCH["proposals"]]
    call = jax.jit(partial(step.model.apply, method="pooled"))
    found = call({}, {"conv5_3": step.maps.astype(np.float32)}, BATCH["proposals"])
    for ours_of, expected in zip(found, step.pools(step.maps, drawn), strict=True):
        near(ours_of.reshape(PROPOSALS, -1), np.reshape(expected, (PROPOSALS, -1)))


@EACH
def test_pooled_regions_and_terms_of_a_step_are_those_of_the_paper(case):
    step, drawn = ours(case), learnt(case)
    pools = step.pools(step.maps, drawn)
    for found, arrays in zip(step.seen["pooled"], pools, strict=True):
        count = len(arrays)
        near(found[:count].reshape(count, -1), np.reshape(arrays, (count, -1)))
    expected = reference.region_terms(merge(step.trained, step.frozen), pools, drawn)
    assert step.terms.keys() == CASES[case][2]
    for name, value in step.terms.items():
        assert value > 1e-3
        assert float(value) == pytest.approx(expected[name], rel=1e-5), name


@EACH
def test_what_is_frozen_has_no_gradient(case):
    step, parts = ours(case), CASES[case][3]
    everything = {"backbone", "head", *layers.OUTPUTS}
    assert set(step.by_weights) == set(step.trained) == parts
    assert set(step.frozen) == everything - parts
    assert all(np.any(x) for x in jax.tree.leaves(step.by_weights))


@EACH
def test_gradients_are_the_finite_differences_of_the_reference(case):
    step, drawn = ours(case), learnt(case)
    pools = step.pools(step.maps, drawn)

    def by_map(maps):
        return total(case, merge(step.trained, step.frozen), step.pools(maps, drawn))

    rng = np.random.default_rng(6)
    leaves, tree = jax.tree_util.tree_flatten_with_path(step.trained)
    gradients = jax.tree.leaves(step.by_weights)
    for i, (path, leaf) in enumerate(leaves):
        if path[0].key == "backbone":  # the next test's
            continue

        def by_leaf(leaf, i=i):
            moved = [leaf if j == i else x for j, (_, x) in enumerate(leaves)]
            return total(case, merge(tree.unflatten(moved), step.frozen), pools)

        for _ in range(2):
            agrees(by_leaf, leaf, gradients[i], rng, path)
    for _ in range(3):
        agrees(by_map, step.maps, step.by_map, rng, "map")


def test_gradients_of_the_backbone_are_the_finite_differences_of_the_reference():
    step, drawn = ours("fast_rcnn"), learnt("fast_rcnn")

    def maps_of(backbone):
        images = zip(BATCH["image"].astype(np.float64), BATCH["size"], strict=True)
        return [layers.trunk(backbone, *of, BLOCKS) for of in images] + step.added

    def by_backbone(backbone):
        return total("fast_rcnn", step.trained, step.pools(maps_of(backbone), drawn))

    near(step.maps, maps_of(step.trained["backbone"]))
    rng = np.random.default_rng(8)
    for _ in range(3):
        agrees(by_backbone, step.trained["backbone"], step.by_weights["backbone"], rng, "backbone")


# What a map of 5 x 7 cells gives, whose cells are numbered 10 row + column: the largest and the
# smallest number of each bin, level by level.
HELD = {  # columns 1 to 5 and rows 1 to 3, whose centres are 24 ... 88 and 24 ... 56
    "region": [20, 10, 90, 60],
    "largest": [
        *[11, 12, 13, 14, 15, 15] * 2,
        *[21, 22, 23, 24, 25, 25] * 2,
        *[31, 32, 33, 34, 35, 35] * 2,
        *[12, 14, 15, 22, 24, 25, 32, 34, 35],
        *[23, 25, 33, 35],
        35,
    ],
    "smallest": [
        *[11, 11, 12, 13, 14, 15] * 2,
        *[21, 21, 22, 23, 24, 25] * 2,
        *[31, 31, 32, 33, 34, 35] * 2,
        *[11, 12, 14, 21, 22, 24, 31, 32, 34],
        *[11, 13, 21, 23],
        11,
    ],
}
ACROSS = {  # columns 6 to 8 and rows 4 and 5, of which the map has one cell
    "region": [100, 60, 150, 100],
    "largest": [
        *[46, 46, 0, 0, 0, 0] * 3,
        *[0] * 18,
        *[46, 0, 0, 46, 0, 0, 0, 0, 0],
        *[46, 0, 0, 0],
        46,
    ],
}
ACROSS["smallest"] = ACROSS["largest"]
BY_HAND = [
    HELD,
    ACROSS,
    # Centres on the border are outside: column 2 and row 3 are left, then column 2 and row 1.
    {"region": [24, 40, 56, 72], "largest": [32] * 50, "smallest": [32] * 50},
    {"region": [39.5, 8, 40.5, 40], "largest": [12] * 50, "smallest": [12] * 50},
    # No centre: the nearest, here of column 1 and row 3, then of column 6 and row 0.
    {"region": [25, 41, 37, 55.5], "largest": [31] * 50, "smallest": [31] * 50},
    {"region": [97, 0.5, 100, 3], "largest": [6] * 50, "smallest": [6] * 50},
    # As near to two: the second, of column 2 and row 1.
    {"region": [25, 9, 39, 23], "largest": [12] * 50, "smallest": [12] * 50},
    # Wholly outside, of a centre and of none.
    {"region": [113, 10, 140, 30], "largest": [0] * 50, "smallest": [0] * 50},
    {"region": [-5, 10, -2, 30], "largest": [0] * 50, "smallest": [0] * 50},
]
NUMBERS = 10 * np.arange(5)[:, None] + np.arange(7)


@functools.cache
def pyramids():
    """The regions by hand [R, 50, 2] of ours, of numbers and of 100 - numbers."""
    _, model = network_of("sppnet")
    grid = np.stack([NUMBERS, 100 - NUMBERS], -1).astype(np.float32)
    regions = np.array([[case["region"] for case in BY_HAND]], np.float32)
    found = model.apply({}, {"conv5_3": grid[None]}, regions, method="pooled")
    return np.asarray(found).reshape(len(BY_HAND), 50, 2)


@pytest.mark.parametrize("i", range(len(BY_HAND)))
def test_pyramids_by_hand(i):
    case = BY_HAND[i]
    grid = np.stack([NUMBERS, 100 - NUMBERS], -1)
    slow = layers.pyramid(grid, case["region"], layers.PYRAMID, 1 / STRIDE)
    smallest = [100 - x if x else 0 for x in case["smallest"]]
    for found in (pyramids()[i], slow):
        assert found[:, 0].tolist() == case["largest"]
        assert found[:, 1].tolist() == smallest
