"""Geometry of boxes: by hand, against torchvision, inverses, gradients and errors."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstruct.ops import (
    box_area,
    box_iou,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    pyramid_level,
    window_cells,
)

RECORDED = np.load(Path(__file__).parents[1] / "recorded" / "ops_boxes.npz")
A, B, DELTAS = RECORDED["a"], RECORDED["b"], RECORDED["deltas"]
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def test_area_and_iou_by_hand():
    boxes = jnp.array([[0, 0, 10, 10], [5, 0, 15, 10], [2, 3, 2, 9], [4, 4, 1, 6.0]])
    np.testing.assert_array_equal(box_area(boxes), [100, 100, 0, -6])
    iou = box_iou(boxes, boxes[:3])
    # 50 of 150; without area 0, also with itself, where torchvision has 0 / 0; malformed 0.
    np.testing.assert_allclose(iou[:2], [[1, 1 / 3, 0], [1 / 3, 1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(iou[2:], np.zeros((2, 3)))
    assert np.isnan(box_iou(jnp.array([[0, np.nan, 1, 1]]), boxes[:1]))


def test_equal_torchvision():
    for result, name in (
        (box_area(A), "area"),
        (box_iou(A, B), "iou"),
        (clip_boxes(A, 60, 80), "clipped"),
        (encode_boxes(np.roll(A, 7, axis=0), A, weights=WEIGHTS), "encoded"),
        (decode_boxes(DELTAS, A, weights=WEIGHTS), "decoded"),
    ):
        np.testing.assert_allclose(result, RECORDED[name], rtol=2e-6, atol=2e-5, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(-50, 50))
def test_iou_permutation_symmetry_translation(seed, shift):
    order = np.random.default_rng(seed).permutation(len(A))
    iou = np.asarray(box_iou(A, B))
    np.testing.assert_array_equal(box_iou(A[order], B), iou[order])
    np.testing.assert_allclose(box_iou(B, A), iou.T, rtol=1e-6)
    moved = box_iou(A + np.float32(shift), B + np.float32(shift))
    np.testing.assert_allclose(moved, iou, atol=1e-4)


def test_encode_and_decode_by_hand():
    anchors, boxes = jnp.array([[0, 0, 10, 20.0]]), jnp.array([[5, 0, 25, 20.0]])
    # The centre moves by 10 = one width, the width doubles.
    np.testing.assert_allclose(encode_boxes(boxes, anchors), [[1, 0, math.log(2), 0]], rtol=1e-6)
    weighted = encode_boxes(boxes, anchors, weights=(10, 10, 5, 5))
    np.testing.assert_allclose(weighted, [[10, 0, 5 * math.log(2), 0]], rtol=1e-6)
    huge = jnp.array([[0, 0, 100.0, 0]])
    np.testing.assert_allclose(
        decode_boxes(huge, anchors), [[5 - 312.5, 0, 5 + 312.5, 20]], rtol=1e-5
    )
    assert np.isinf(decode_boxes(huge, anchors, clip=None)[0, 2])


def test_decode_is_the_inverse_of_encode():
    boxes = np.roll(A, 7, axis=0)
    targets = encode_boxes(boxes, A, weights=WEIGHTS)
    np.testing.assert_allclose(decode_boxes(targets, A, weights=WEIGHTS), boxes, atol=1e-4)


def test_leading_axes_broadcast():
    deltas = np.stack([DELTAS, -DELTAS])
    decode, iou = jax.jit(decode_boxes), jax.jit(box_iou)
    loop = [decode(one, A) for one in deltas]
    np.testing.assert_allclose(decode(deltas, A), loop, rtol=1e-6)
    by_class = decode(deltas.transpose(1, 0, 2), A[:, None])
    np.testing.assert_allclose(by_class, np.stack(loop, axis=1), rtol=1e-6)
    batch = np.stack([A, A + 3])
    together = iou(batch, B)
    np.testing.assert_allclose(together[1], iou(A + 3, B), rtol=1e-6)
    mapped = jax.jit(jax.vmap(box_iou, (0, None)))
    np.testing.assert_allclose(mapped(batch, B), together, rtol=1e-6)
    sizes = np.array([40, 60])
    clipped = jax.jit(clip_boxes)(batch, sizes, sizes + 20)
    np.testing.assert_array_equal(clipped[1], jax.jit(clip_boxes)(batch[1], 60, 80))


def test_clip_by_hand():
    boxes = jnp.array([[-3, 2, 50, 9], [60, -9, 70, -5], [np.nan, 0, 1, 1.0]])
    clipped = clip_boxes(boxes, 8, 40)
    np.testing.assert_array_equal(clipped[:2], [[0, 2, 40, 8], [40, 0, 40, 0]])
    assert np.isnan(clipped[2, 0])


def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        a, b = jnp.asarray(A[:4], jnp.float64), jnp.asarray(B[:4], jnp.float64)
        step = 1e-5
        moves = step * np.eye(16)[:8].reshape(8, 4, 4)
        for function in (
            lambda a: jnp.sum(jnp.sin(box_iou(a, b))),
            lambda a: jnp.sum(jnp.sin(encode_boxes(a, b))),
            lambda a: jnp.sum(jnp.sin(encode_boxes(b, a))),
            lambda a: jnp.sum(jnp.sin(decode_boxes(a / 100, b))),
        ):
            gradient = jax.jit(jax.grad(function))(a)
            at = jax.jit(jax.vmap(function))
            slopes = (at(a[None] + moves) - at(a[None] - moves)) / (2 * step)
            found = np.asarray(gradient[:2]).ravel()
            assert found == pytest.approx(np.asarray(slopes), rel=1e-5, abs=1e-7)


def test_where_no_area_is_shared_the_gradient_is_zero():
    point, line, over_it = [2, 3, 2, 3], [2, 3, 2, 9], [2, 5, 2, 12]
    flat, malformed = [0, 3, 9, 3], [4, 4, 1, 6]
    square, touching, half = [0, 0, 10, 10], [10, 0, 20, 10], [5, 0, 15, 10]
    boxes = [square, half, touching, point, line, over_it, flat, malformed]
    boxes = jnp.array(boxes, jnp.float32)
    shared = np.zeros((8, 8), bool)
    shared[:3, :3] = [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    np.testing.assert_array_equal(np.asarray(box_iou(boxes, boxes)) > 0, shared)
    gradients = jax.jit(jax.jacrev(box_iou, argnums=(0, 1)))(boxes, boxes)
    for gradient in map(np.asarray, gradients):
        np.testing.assert_array_equal(gradient[~shared], 0)
    np.testing.assert_allclose(gradients[0][1, 0, 1], [-1 / 15, 0, -1 / 45, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    with jax.enable_x64(True):
        a, wide = jnp.asarray(A, dtype), jnp.promote_types(dtype, jnp.float32)
        dtype_of = lambda f, *arguments: jax.eval_shape(f, *arguments).dtype
        assert dtype_of(box_area, a) == dtype_of(box_iou, a, a) == wide
        assert dtype_of(clip_boxes, a, 60, 80) == dtype_of(encode_boxes, a, a) == dtype
        assert dtype_of(decode_boxes, a, a) == dtype
        assert dtype_of(decode_boxes, a, A) == wide


def test_nothing():
    none = jnp.zeros((0, 4))
    assert box_iou(none, A).shape == (0, 30)
    assert box_area(none).shape == (0,)
    assert encode_boxes(none, none).shape == decode_boxes(none, none).shape == (0, 4)


def test_errors_name_what_was_given():
    with pytest.raises(ValueError, match=r"boxes has shape \(3,\), expected \[..., 4\]"):
        box_area(jnp.zeros(3))
    with pytest.raises(TypeError, match="boxes has dtype int32, expected a floating dtype"):
        box_area(jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match=r"b has shape \(4,\), expected \[..., N, 4\]"):
        box_iou(A, A[0])
    with pytest.raises(
        ValueError, match=r"boxes with leading axes \(30,\) and anchors with \(20,\)"
    ):
        encode_boxes(A, B)
    with pytest.raises(ValueError, match=r"weights are .*, expected 4 positive numbers"):
        encode_boxes(A, A, weights=(1, 1, 0, 1))
    with pytest.raises(ValueError, match="clip is nan"):
        decode_boxes(A, A, clip=math.nan)
    with pytest.raises(ValueError, match=r"width has shape \(7,\)"):
        clip_boxes(A, 5, np.ones(7))


def test_the_level_of_a_box_by_its_area():
    sides = np.array([0.0, 20, 111.9, 112, 223.9, 224, 448, 5000])
    boxes = np.stack([sides * 0, sides * 0, sides, sides], -1).astype(np.float32)
    assert pyramid_level(boxes).tolist() == [2, 2, 2, 3, 3, 4, 5, 5]
    assert pyramid_level(boxes, lowest=3, highest=4).tolist() == [3, 3, 3, 3, 3, 4, 4, 4]
    assert pyramid_level(boxes * 2, canonical=448.0).tolist() == [2, 2, 2, 3, 3, 4, 5, 5]
    # A flat box counts by its area.
    assert pyramid_level(np.array([0.0, 0, 448, 112])).tolist() == 4
    with pytest.raises(ValueError, match="highest is 2, expected an integer of at least 3"):
        pyramid_level(boxes, lowest=3, highest=2)


def test_window_cells_by_hand():
    windows = jnp.array(
        [
            [0, 0, 32, 48],  # centres at 8, 24 and at 8, 24, 40
            [8, 24, 56, 57],  # no centre on the border: of 8 to 56, 24 and 40; of 24 to 57, 40, 56
            [9, 0, 12, 70],  # across no centre: 8 is the nearest to 10.5
            [-40, 17, -30, 21],  # outside, at the left; between 8 and 24, which is nearer to 19
        ],
        jnp.float32,
    )
    expected = [[0, 0, 1, 2], [1, 2, 2, 3], [0, 0, 0, 3], [-3, 1, -3, 1]]
    np.testing.assert_array_equal(window_cells(windows, stride=16), expected)


def test_window_cells_are_those_whose_centres_a_window_holds():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 400, (200, 2, 2)) / 2
    windows = np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    for stride, center in ((16, None), (16, 0.5), (4, 1.5)):
        cells = np.asarray(window_cells(windows, stride=stride, center=center))
        centres = np.arange(-2, 60) * stride + (stride / 2 if center is None else center)
        for window, cell in zip(windows, cells, strict=True):
            for axis in (0, 1):
                inside = np.flatnonzero((centres > window[axis]) & (centres < window[axis + 2])) - 2
                if len(inside):
                    assert (cell[axis], cell[axis + 2]) == (inside[0], inside[-1])
                else:
                    assert cell[axis] == cell[axis + 2]
                    middle = (window[axis] + window[axis + 2]) / 2
                    nearest = np.abs(centres - middle).min()
                    assert np.abs(centres[int(cell[axis]) + 2] - middle) == nearest


def test_window_cells_keep_what_is_not_finite_and_have_no_gradient():
    assert np.isnan(window_cells(jnp.full(4, jnp.nan), stride=16)).all()
    cost = lambda window: window_cells(window, stride=16).sum()
    np.testing.assert_array_equal(jax.grad(cost)(jnp.array([3.0, 4, 50, 60])), np.zeros(4))


def test_window_cells_refuses_bad_arguments():
    windows = jnp.zeros((2, 4))
    with pytest.raises(ValueError, match=r"stride is 0, expected an integer of at least 1"):
        window_cells(windows, stride=0)
    with pytest.raises(TypeError, match="windows has dtype int32, expected a floating dtype"):
        window_cells(windows.astype(int), stride=16)
    with pytest.raises(ValueError, match=r"windows has shape \(2, 3\), expected \[..., 4\]"):
        window_cells(windows[:, :3], stride=16)
    with pytest.raises(TypeError, match="center is '8', expected a number"):
        window_cells(windows, stride=16, center="8")
