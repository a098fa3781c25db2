"""Matching and balanced sampling: by hand, against torchvision, statistics and errors."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import match, sample_balanced

RECORDED = np.load(Path(__file__).parents[1] / "recorded" / "ops_boxes.npz")
IOU = jnp.array([[0.8, 0.1], [0.5, 0.4], [0.1, 0.2], [0.0, 0.0], [0.3, 0.4]])


def test_by_hand():
    index, label = match(IOU)
    # Row 0 is above 0.7; rows 1 and 4 share the best IoU of column 1 and are forced, and keep their
    # own best column; row 2 is below 0.3.
    assert label.tolist() == [1, 1, 0, 0, 1]
    assert index.tolist() == [0, 0, 1, 0, 1]
    assert match(IOU, force_best=False)[1].tolist() == [1, -1, 0, 0, -1]
    assert match(IOU, high=0.5, low=0.5, force_best=False)[1].tolist() == [1, 1, 0, 0, 0]
    assert index.dtype == label.dtype == jnp.int32


@pytest.mark.parametrize(
    ("name", "options"),
    [("rpn", {}), ("head", {"high": 0.5, "low": 0.5, "force_best": False})],
)
def test_equals_torchvision(name, options):
    index, label = map(np.asarray, match(RECORDED["match_iou"], **options))
    np.testing.assert_array_equal(label, RECORDED[f"match_{name}_label"])
    found = RECORDED[f"match_{name}_index"]
    np.testing.assert_array_equal(index[found >= 0], found[found >= 0])


def test_padding_and_nan_match_nothing():
    # Column 1 alone, where 0.4 is the best and forced.
    index, label = match(IOU.at[:, 0].set(0.9), valid=jnp.array([False, True]))
    assert index.tolist() == [1, 1, 1, 1, 1]
    assert label.tolist() == [0, 1, 0, 0, 1]
    assert match(IOU.at[:, 0].set(jnp.nan))[1].tolist() == [0, 1, 0, 0, 1]
    for nothing in (match(IOU, valid=jnp.zeros(2, bool)), match(jnp.zeros((5, 0)))):
        np.testing.assert_array_equal(nothing, np.zeros((2, 5)))
    assert match(jnp.zeros((0, 3)))[0].shape == (0,)


def test_truth_that_nothing_overlaps_forces_nothing():
    assert match(jnp.array([[0.9, 0.0], [0.2, 0.0]]))[1].tolist() == [1, 0]


def test_match_jit_vmap_and_batch_are_the_loop():
    batch = jnp.stack([IOU, IOU[::-1], 1 - IOU])
    valid = jnp.array([[True, True], [True, False], [False, True]])
    loop = [match(iou, valid=some) for iou, some in zip(batch, valid, strict=True)]
    loop = [np.stack(v) for v in zip(*loop, strict=True)]
    one = lambda iou, valid: match(iou, valid=valid)
    for form in (one, jax.vmap(one), jax.jit(one)):
        jax.tree.map(np.testing.assert_array_equal, list(form(batch, valid)), loop)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_match_dtypes(dtype):
    with jax.enable_x64(True):
        index, label = match(IOU.astype(dtype))
        assert label.tolist() == [1, 1, 0, 0, 1]
        assert index.dtype == label.dtype == jnp.int32


def test_match_errors():
    with pytest.raises(ValueError, match=r"iou has shape \(5,\), expected \[N, M\]"):
        match(IOU[:, 0])
    with pytest.raises(ValueError, match=r"low 0.8 and high 0.7"):
        match(IOU, low=0.8)
    with pytest.raises(ValueError, match=r"valid \(5,\), iou \(2,\)"):
        match(IOU, valid=jnp.ones(5, bool))
    with pytest.raises(TypeError, match="force_best is 1"):
        match(IOU, force_best=1)
    with pytest.raises(TypeError, match="iou has dtype int32"):
        match(jnp.zeros((2, 2), jnp.int32))


LABEL = jnp.array([1, 0, -1, 2, 0, 0, -1, 0, 1, 0], jnp.int32)
POSITIVE, NEGATIVE = {0, 3, 8}, {1, 4, 5, 7, 9}


def drawn(key, label=LABEL, size=6, fraction=0.5):
    index, valid = sample_balanced(key, label, size=size, positive_fraction=fraction)
    assert index.shape == valid.shape == (size,)
    assert not np.any(np.asarray(index)[~np.asarray(valid)])
    chosen = np.asarray(index)[np.asarray(valid)].tolist()
    assert len(set(chosen)) == len(chosen)
    return chosen


def test_numbers_of_positives_and_negatives():
    key = jax.random.key(0)
    assert [i in POSITIVE for i in drawn(key)] == [True] * 3 + [False] * 3
    assert set(drawn(key)[3:]) < NEGATIVE
    assert [i in POSITIVE for i in drawn(key, fraction=0.25)] == [True] + [False] * 5
    # Fewer positives than there is room for: negatives fill up, and no ignored one ever.
    assert set(drawn(key, size=20)) == POSITIVE | NEGATIVE
    assert set(drawn(key, size=20, fraction=0.1)) - NEGATIVE < POSITIVE
    assert drawn(key, fraction=0.0)[0] in NEGATIVE
    assert drawn(key, label=jnp.full(4, -1)) == []
    assert drawn(key, label=jnp.zeros(0, jnp.int32)) == []


def test_draws_are_uniform():
    keys = jax.random.split(jax.random.key(1), 4000)
    draw = lambda key: sample_balanced(key, LABEL, size=4, positive_fraction=0.5)
    index, valid = jax.jit(jax.vmap(draw))(keys)
    assert np.all(valid)
    share = np.bincount(np.ravel(index), minlength=10) / 4000
    # Two of three positives, two of five negatives; four standard deviations are 0.03.
    expected = [2 / 3 if i in POSITIVE else 2 / 5 if i in NEGATIVE else 0 for i in range(10)]
    np.testing.assert_allclose(share, expected, atol=0.032)


def test_keys_batches_and_vmap():
    keys = jax.random.split(jax.random.key(2), 3)
    labels = jnp.stack([LABEL, LABEL[::-1], 0 * LABEL])
    draw = lambda key, label: sample_balanced(key, label, size=5, positive_fraction=0.5)
    loop = [np.stack(v) for v in zip(*map(draw, keys, labels), strict=True)]
    for form in (draw, jax.vmap(draw), jax.jit(draw)):
        jax.tree.map(np.testing.assert_array_equal, list(form(keys, labels)), loop)
    raw = draw(jax.random.key_data(keys[0]), LABEL)
    jax.tree.map(np.testing.assert_array_equal, list(raw), [v[0] for v in loop])


def test_sample_errors():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"key \(\), label \(2,\), expected one key"):
        sample_balanced(key, jnp.zeros((2, 3), jnp.int32), size=2, positive_fraction=0.5)
    with pytest.raises(TypeError, match="label has dtype float32"):
        sample_balanced(key, jnp.zeros(3), size=2, positive_fraction=0.5)
    with pytest.raises(ValueError, match="positive_fraction is 2"):
        sample_balanced(key, LABEL, size=2, positive_fraction=2)
    with pytest.raises(ValueError, match="size is 0"):
        sample_balanced(key, LABEL, size=0, positive_fraction=0.5)


def test_negatives_have_a_lower_bound():
    iou = jnp.array([[0.0], [0.05], [0.1], [0.3], [0.6]])
    label = match(iou, high=0.5, low=0.5, background=0.1, force_best=False)[1]
    assert label.tolist() == [-1, -1, 0, 0, 1]
    nothing = jnp.zeros((3, 0))
    assert match(nothing, background=0.1)[1].tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="expected background <= low <= high"):
        match(iou, high=0.5, low=0.3, background=0.4)


def test_rows_that_may_not_be_used_are_ignored_and_force_nothing():
    iou = jnp.array([[0.9, 0.0], [0.2, 0.0], [0.0, 0.5], [0.0, 0.4]])
    usable = jnp.array([False, True, False, True])
    index, label = match(iou, usable=usable)
    # The best of each true box among those that may be used.
    assert label.tolist() == [-1, 1, -1, 1]
    assert index[1::2].tolist() == [0, 1]
    batch = match(jnp.stack([iou, iou]), usable=jnp.stack([usable, ~usable]))[1]
    assert batch.tolist() == [[-1, 1, -1, 1], [1, -1, 1, -1]]
    assert match(jnp.zeros((2, 0)), usable=usable[:2])[1].tolist() == [-1, 0]
    with pytest.raises(ValueError, match="usable"):
        match(iou, usable=usable[:3])
    with pytest.raises(TypeError, match="usable"):
        match(iou, usable=usable.astype(int))
