"""Likelihoods against numbers worked out by hand, float64 NumPy and finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import (
    bernoulli_log_likelihood,
    gaussian_log_likelihood,
    standard_normal_log_density,
)

ALL = {
    "bernoulli": (bernoulli_log_likelihood, 2),
    "gaussian": (gaussian_log_likelihood, 3),
    "standard_normal": (standard_normal_log_density, 1),
}


def slow_bernoulli(logits, x):
    y = 1 / (1 + np.exp(-logits))
    return sum(np.log(y[i]) if x[i] else np.log(1 - y[i]) for i in range(len(x)))


def slow_gaussian(mean, log_variance, x):
    total = 0.0
    for m, s, v in zip(mean, np.exp(log_variance / 2), x, strict=True):
        total += np.log(np.exp(-((v - m) ** 2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi)))
    return total


def arguments(name, *shape):
    rng = np.random.default_rng(3)
    values = [rng.normal(size=shape).astype(np.float32) for _ in range(ALL[name][1])]
    if name == "bernoulli":
        values[1] = (values[1] > 0).astype(np.float32)
    return values


@pytest.fixture(params=[lambda f: f, jax.jit, lambda f: jax.vmap(f)], ids=["eager", "jit", "vmap"])
def mode(request):
    return request.param


def test_bernoulli_by_hand():
    # logits 0 and log 3 are probabilities 1/2 and 3/4; x = (1, 0): log 1/2 + log 1/4 = -log 8.
    logits = jnp.array([0.0, math.log(3)])
    assert bernoulli_log_likelihood(logits, jnp.array([1.0, 0.0])) == pytest.approx(-math.log(8))
    # A grey pixel 1/4 under probability 3/4: 1/4 log 3/4 + 3/4 log 1/4 = 1/4 log 3 - log 4.
    grey = bernoulli_log_likelihood(logits[1:], jnp.array([0.25]))
    assert grey == pytest.approx(math.log(3) / 4 - math.log(4))


def test_gaussian_by_hand():
    # x = 3 is one deviation of 2 from the mean 1: -1/2 (log 2 pi + log 4 + 1) = -2.112086.
    one = gaussian_log_likelihood(jnp.array([1.0]), jnp.log(jnp.array([4.0])), jnp.array([3.0]))
    assert one == pytest.approx(-2.112086, abs=1e-6)


def test_standard_normal_by_hand():
    # In two dimensions at (3, 4): -log 2 pi - 25 / 2 = -14.337877.
    assert standard_normal_log_density(jnp.array([3.0, 4.0])) == pytest.approx(-14.337877)


@pytest.mark.parametrize(
    ("name", "slow"), [("bernoulli", slow_bernoulli), ("gaussian", slow_gaussian)]
)
def test_slow_reference(name, slow, mode):
    values = arguments(name, 5, 7)
    expected = [slow(*(v[i].astype(np.float64) for v in values)) for i in range(5)]
    np.testing.assert_allclose(mode(ALL[name][0])(*values), expected, rtol=2e-6)


@pytest.mark.parametrize("name", ALL)
def test_leading_axes_are_examples(name):
    function = ALL[name][0]
    values = arguments(name, 2, 3, 4)
    loop = [[function(*(v[i, j] for v in values)) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(function(*values), np.array(loop), rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_differences(name):
    function = ALL[name][0]
    with jax.enable_x64(True):
        values = [jnp.asarray(v, jnp.float64) for v in arguments(name, 4)]
        for i, value in enumerate(values):
            gradient = jax.grad(function, argnums=i)(*values)
            for j in range(4):
                step = jnp.zeros(4).at[j].set(1e-6)
                up, down = (
                    function(*values[:i], value + s, *values[i + 1 :]) for s in (step, -step)
                )
                assert gradient[j] == pytest.approx(float(up - down) / 2e-6, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("size", [0.0, 30.0, 100.0, 1000.0, 1e30])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_extreme_logits_stay_finite(size, dtype):
    # Right answers cost nothing, wrong ones cost |logit|; the gradient is x - sigmoid(logit).
    logits = jnp.array([size, -size, size, -size], dtype)[:, None]
    x = jnp.array([1, 0, 0, 1], dtype)[:, None]
    small = math.log1p(math.exp(-size))
    expected = -np.array([small, small, size + small, size + small])
    value = bernoulli_log_likelihood(logits, x)
    np.testing.assert_allclose(
        value, expected, rtol=1e-2 if dtype == jnp.bfloat16 else 1e-6, atol=1e-6
    )
    gradient = jax.grad(lambda a: bernoulli_log_likelihood(a, x).sum())(logits)
    y = 1 / (1 + math.exp(-min(size, 700)))
    np.testing.assert_allclose(gradient[:, 0], [1 - y, y - 1, -y, y], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_dtypes(name):
    function = ALL[name][0]
    values = arguments(name, 2, 500)
    wide = function(*values)
    assert wide.dtype == jnp.float32
    narrow = [jnp.asarray(v, jnp.bfloat16) for v in values]
    summed = function(*narrow)
    assert summed.dtype == jnp.float32
    # The only loss is in the arguments: a sum in bfloat16 would be off by several nats.
    np.testing.assert_array_equal(summed, function(*(v.astype(jnp.float32) for v in narrow)))
    with jax.enable_x64(True):
        double = function(*(jnp.asarray(v, jnp.float64) for v in values))
        assert double.dtype == jnp.float64
    np.testing.assert_allclose(wide, double, rtol=1e-5)


def test_bernoulli_derivatives_in_both_modes():
    # -softplus has the second derivative -y (1 - y), everywhere: -1/4 at 0, -3/16 at log 3.
    logits, x = jnp.array([0.0, math.log(3)]), jnp.zeros(2)
    for derive in (jax.jacfwd, jax.jacrev):
        hessian = derive(jax.grad(bernoulli_log_likelihood))(logits, x)
        np.testing.assert_allclose(hessian, [[-1 / 4, 0], [0, -3 / 16]], rtol=1e-6)


def test_booleans_are_binary_pixels():
    logits, x = arguments("bernoulli", 3, 4)
    np.testing.assert_array_equal(
        bernoulli_log_likelihood(logits, x.astype(bool)), bernoulli_log_likelihood(logits, x)
    )


def test_pixels_in_0_to_255_are_refused():
    with pytest.raises(TypeError, match="x has dtype uint8, expected a floating dtype"):
        bernoulli_log_likelihood(jnp.zeros(4), jnp.zeros(4, jnp.uint8))


def test_shape_errors_name_what_was_given():
    with pytest.raises(ValueError, match=r"logits \(2, 3\), x \(3,\), expected equal shapes"):
        bernoulli_log_likelihood(jnp.zeros((2, 3)), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"log_variance \(1,\), x \(3,\)"):
        gaussian_log_likelihood(jnp.zeros(3), jnp.zeros(1), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"z of shape \(\), expected \[\.\.\., D\]"):
        standard_normal_log_density(1.0)
