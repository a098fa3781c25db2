"""Gaussian filters against plain sums: of all pairs, on a grid, and by a lattice."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import gaussian, gaussian_filter
from tests.ops import crf_reference as reference
from tests.ops.conv_reference import quick

ROOM = 150  # vertices of one remainder


def slow_places(values, sigma, reach=np.inf):
    place = [np.arange(n)[:, None] - np.arange(n) for n in values.shape[:2]]
    down, right = (np.exp(-0.5 * (p / sigma) ** 2) * (abs(p) <= reach) for p in place)
    return np.einsum("ij,jlc,kl->ikc", down, values.astype(np.float64), right)


REACHES = 1, 2, 5, 31, 40, None


@pytest.mark.parametrize("size", [(7, 9), (1, 9), (9, 1)])
def test_the_kernel_of_places(size, on_accelerator, monkeypatch):
    values = np.random.default_rng(0).normal(size=(*size, 2)).astype(np.float32)
    filtered = lambda values, sigma: [gaussian.GridGaussian(sigma, r)(values) for r in REACHES]
    whole, cut = slow_places(values, 1.3), slow_places(values, 1.3, 2)
    assert np.abs(whole - cut).max() > 0.1
    on_accelerator()
    for out in quick(filtered)(values, 1.3):
        np.testing.assert_allclose(out, whole, atol=1e-5)
    monkeypatch.undo()
    for reach, out in zip(REACHES, quick(lambda *v: filtered(*v))(values, 1.3), strict=True):
        # So many slices cost more than a matrix, which is whole.
        expected = slow_places(values, 1.3, reach) if reach and reach < 32 else whole
        np.testing.assert_allclose(out, expected, atol=1e-5)
        if reach == 5:
            # What is left out weighs 2 exp(-(6 / 1.3)^2 / 2) and little more, on each axis.
            np.testing.assert_allclose(out, whole, atol=4e-4)


@pytest.mark.parametrize("depth", [*range(1, 7), 8, 9, 20])
def test_gaussian_filter_sums_over_all_pairs(depth):
    rng = np.random.default_rng(depth)
    # More than a tile of points, and no multiple of it.
    features, values = (rng.normal(size=(150, n)).astype(np.float32) for n in (depth, 2))
    squares = ((features[:, None] - features).astype(np.float64) ** 2).sum(-1)
    out = gaussian_filter(values, features, filter="exact")
    np.testing.assert_allclose(out, np.exp(-squares / 2) @ values, atol=2e-5)


def test_gaussian_filter_by_a_lattice():
    # Some 300 points within a standard deviation of each.
    rng = np.random.default_rng(0)
    features = rng.uniform(-3, 3, (2000, 2)).astype(np.float32)
    smooth = np.sin(features @ np.array([1.0, 0.3], np.float32)) + 2
    values = np.stack([smooth, np.ones_like(smooth), rng.normal(size=2000)], 1).astype(np.float32)
    apply = quick(partial(gaussian_filter, capacity=ROOM))
    out = np.asarray(apply(values, features))
    slow = np.exp(-((features[:, None] - features) ** 2).sum(-1) / 2) @ values
    away = np.abs(out / slow - 1)[:, :2]
    assert away.mean() < 0.1
    assert away.max() < 0.5
    np.testing.assert_allclose(apply(values[:, ::-1] * 2, features), 2 * out[:, ::-1], rtol=1e-4)
    mixed = apply(values + values[:, ::-1], features)
    np.testing.assert_allclose(mixed, out + out[:, ::-1], rtol=1e-4, atol=1e-2)
    one, two = (out[:, 2] * values[:, 0]).sum(), (values[:, 2] * out[:, 0]).sum()
    assert abs(one - two) < 1e-2 * np.linalg.norm(out[:, 0]) * np.linalg.norm(values[:, 2])


def test_gaussian_filter_dtypes_and_errors():
    features, values = np.zeros((4, 2), np.float32), np.ones((4, 3), np.float32)
    out = gaussian_filter(values.astype(jnp.bfloat16), features, filter="exact")
    assert out.dtype == jnp.float32
    narrow = [jnp.asarray(v, jnp.bfloat16) for v in (values, features)]
    assert gaussian_filter(*narrow, filter="exact").dtype == jnp.bfloat16
    for wrong, text in (
        ((values, features[:3]), r"got values \(4, 3\) and features \(3, 2\), expected \[N, C\]"),
        ((values[0], features), r"values has shape \(3,\), expected \[N, C\]"),
        ((values, features[0]), r"features has shape \(2,\), expected \[N, D\]"),
    ):
        with pytest.raises(ValueError, match=text):
            gaussian_filter(*wrong)
    with pytest.raises(ValueError, match="filter is 'grid', expected 'lattice' or 'exact'"):
        gaussian_filter(values, features, filter="grid")
    with pytest.raises(TypeError, match="values has dtype int32"):
        gaussian_filter(np.ones((4, 3), np.int32), features)


def test_filters_that_are_normalized():
    features = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    squares = ((features[:, None] - features) ** 2).sum(-1)
    matrix, values = jnp.exp(-squares / 2), jnp.asarray(features)
    expected = reference.normalized_kernel(features) @ features
    filters = (
        gaussian.ExactGaussian(values),
        gaussian.ExactGaussian(values, tile=5),
        lambda v: matrix @ v,
        jax.tree_util.Partial(jnp.matmul, matrix),
    )
    both = lambda values: [gaussian.normalized(filter, (12,))(values) for filter in filters]
    for out in (*quick(both)(values), gaussian.normalized(filters[2], (12,))(values)):
        np.testing.assert_allclose(out, expected, atol=1e-5)
