"""What a detector is trained towards, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import losses, ops

BOXES = jnp.array([[0.0, 0, 10, 10], [20, 20, 40, 40], [7, 7, 7, 7]])
VALID = jnp.array([True, True, False])
ANCHORS = jnp.array(
    [
        [0.0, 0, 10, 10],  # box 0
        [0, 0, 10, 6],  # neither: IoU .6
        [50, 50, 60, 60],  # background
        [22, 20, 40, 40],  # box 1: IoU .9
        [7, 7, 8, 8],  # background; the third box is padding
        [80, 80, 90, 90],  # background, but may not be used
    ]
)


def test_anchors_that_count():
    usable = jnp.array([True] * 5 + [False])
    found = losses.sample_anchors(jax.random.key(0), ANCHORS, BOXES, VALID, usable=usable, size=8)
    rows = found.rows[found.valid].tolist()
    assert (sorted(rows[:2]), sorted(rows[2:])) == ([0, 3], [2, 4])
    assert found.label.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    at = rows.index(3)
    np.testing.assert_allclose(found.target[at], ops.encode_boxes(BOXES[1], ANCHORS[3]), rtol=1e-6)
    assert not found.target[2:].any()


def test_regions_that_count_have_classes_and_the_true_boxes_among_them():
    proposals = jnp.array([[0.0, 0, 10, 8], [20, 20, 40, 26], [60, 60, 70, 70], [0, 0, 0, 0]])
    regions, found = losses.sample_proposals(
        jax.random.key(1),
        proposals,
        jnp.array([True, True, True, False]),
        BOXES,
        VALID,
        jnp.array([5, 9, 1]),
        size=8,
        positive_fraction=0.5,
    )
    count = int(found.valid.sum())
    seen = {
        tuple(r): int(c) for r, c in zip(regions[:count].tolist(), found.label[:count], strict=True)
    }
    assert seen == {
        (0, 0, 10, 8): 5,
        (0, 0, 10, 10): 5,
        (20, 20, 40, 40): 9,
        (20, 20, 40, 26): 0,
        (60, 60, 70, 70): 0,
    }
    assert not regions[count:].any()
    at = regions[:count].tolist().index([0, 0, 10, 8])
    # The centre moves by a tenth of the region's height 8, times 10; the height grows by 10 / 8.
    np.testing.assert_allclose(found.target[at], [0, 10 / 8, 0, 5 * np.log(10 / 8)], rtol=1e-5)


def test_hard_negatives_alone():
    proposals = jnp.array([[20.0, 20, 40, 26], [60, 60, 70, 70]])
    regions, found = losses.sample_proposals(
        jax.random.key(1), proposals, jnp.ones(2, bool), BOXES, VALID, jnp.array([5, 9, 1]),
        size=8, positive_fraction=0.0, background=0.1,
    )  # fmt: skip
    assert regions[found.valid].tolist() == [[20, 20, 40, 26]]


def test_no_gradient_flows_through_the_regions():
    def total(proposals):
        regions, found = losses.sample_proposals(
            jax.random.key(0), proposals, jnp.ones(2, bool), BOXES, VALID, jnp.array([5, 9, 1])
        )
        return regions.sum() + found.target.sum()

    proposals = jnp.array([[0.0, 0, 10, 8], [20, 20, 40, 26]])
    assert not jax.grad(total)(proposals).any()


EXPECTED = losses.Sampled(
    jnp.array([2, 0, 1, 0]),
    jnp.array([1, 2, 0, 0]),
    jnp.array([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    jnp.array([True, True, True, False]),
)


def test_objectness():
    found = losses.objectness_loss(jnp.array([0.0, -2.0, 3.0]), EXPECTED._replace(
        label=jnp.array([1, 1, 0, 0])
    ))  # fmt: skip
    expected = [np.log1p(np.exp(-3)), np.log(2), np.log1p(np.exp(-2)), 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_classes():
    logits = jnp.array([[0.0, 1, 0], [0, 0, 3], [0, 0, 0], [9, 9, 9]])
    expected = [np.log(2 + np.e) - 1, np.log(2 + np.exp(3)) - 3, np.log(3), 0]
    np.testing.assert_allclose(losses.class_loss(logits, EXPECTED), expected, rtol=1e-6)


def test_boxes_of_anchors_and_of_each_class():
    deltas = jnp.array([[0.0, 0, 0, 0], [7, 7, 7, 7], [0.5, 0, 0, 0]])
    np.testing.assert_allclose(losses.box_loss(deltas, EXPECTED, beta=1.0), [0.125, 1.5, 0, 0])
    by_class = jnp.zeros((4, 3, 4)).at[0, 1].set(jnp.array([1.0, 0, 0, 3])).at[1, 1].set(50.0)
    np.testing.assert_allclose(losses.box_loss(by_class, EXPECTED, beta=1.0), [2.5, 1.5, 0, 0])


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_sampled_costs_nothing_whatever_it_is(bad):
    deltas = jnp.zeros((4, 3, 4)).at[:, 0].set(bad).at[2:].set(bad)
    value, slope = jax.value_and_grad(lambda x: losses.box_loss(x, EXPECTED, beta=1.0).sum())(
        deltas
    )
    assert jnp.isfinite(value)
    assert jnp.isfinite(slope).all()
