"""Means that stay totals and counts: by hand, weighted, in parts, under jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Mean


def test_by_hand():
    mean = Mean.of(jnp.array([1.0, 2.0, 6.0]))
    assert (float(mean.total), float(mean.count), float(mean.value)) == (9, 3, 3)
    grid = Mean.of(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[True, False], [False, True]]))
    assert (float(grid.total), float(grid.count), float(grid.value)) == (5, 2, 2.5)


@pytest.mark.parametrize("kind", [bool, np.int32, np.float32])
def test_invalid_values_do_not_count_whatever_they_are(kind):
    values = jnp.array([1.0, jnp.nan, 3.0, jnp.inf])
    mean = Mean.of(values, jnp.array([1, 0, 1, 0]).astype(kind))
    assert (float(mean.total), float(mean.count)) == (4, 2)


def test_invalid_values_have_no_gradient():
    def f(x):
        return Mean.of(x, jnp.array([True, False, True])).value

    np.testing.assert_array_equal(jax.grad(f)(jnp.array([1.0, jnp.nan, 3.0])), [0.5, 0, 0.5])


def test_a_weight_is_part_of_the_total():
    # Weight 3 on a squared error: three times the mean, over the same count.
    plain, weighted = (Mean.of(w * jnp.array([1.0, 4.0]), jnp.array([1, 1])) for w in (1, 3))
    assert float(weighted.count) == float(plain.count) == 2
    assert float(weighted.value) == 3 * float(plain.value) == 7.5


def test_parts_add_up_where_the_mean_of_means_is_wrong():
    rng = np.random.default_rng(0)
    values, valid = rng.normal(size=11).astype(np.float32), rng.random(11) < 0.6
    parts = [slice(0, 5), slice(5, 10), slice(10, 11)]
    whole = Mean(0.0, 0.0)
    for part in parts:
        whole = whole.add(Mean.of(jnp.array(values[part]), jnp.array(valid[part])))
    assert float(whole.count) == valid.sum()
    assert float(whole.value) == pytest.approx(values[valid].mean(), rel=1e-6)


@pytest.mark.parametrize("total", [0.0, 5.0])
def test_a_count_of_zero_is_a_value_of_zero(total):
    assert float(Mean(jnp.float32(total), jnp.float32(0)).value) == 0
    assert float(jax.grad(lambda t: Mean(t, jnp.float32(0)).value)(jnp.float32(total))) == 0


def test_the_same_under_jit():
    values, valid = jnp.linspace(-1, 2, 7), jnp.arange(7) % 3 == 0

    def add(values, valid):
        mean = Mean.of(values, valid).add(Mean.of(values))
        return mean, mean.value

    (eager, value), (jitted, jitted_value) = add(values, valid), jax.jit(add)(values, valid)
    assert isinstance(jitted, Mean)
    np.testing.assert_allclose([*jitted, jitted_value], [*eager, value], rtol=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.int32, jnp.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("masked", [False, True])
def test_totals_and_counts_are_float32(dtype, masked):
    # 257 is no bfloat16 number, so a total in that type is wrong.
    values = jnp.ones(257, dtype)
    mean = Mean.of(values, jnp.ones(257, bool) if masked else None)
    assert mean.total.dtype == mean.count.dtype == np.float32
    assert (float(mean.total), float(mean.count)) == (257, 257)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match=r"values \(3, 1\) and valid \(3,\) must have one shape"):
        Mean.of(jnp.zeros((3, 1)), jnp.ones(3, bool))
