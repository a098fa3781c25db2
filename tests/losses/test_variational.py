"""The bound's terms against hand-worked numbers, sampling, and a model whose log p(x) is known."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import (
    gaussian_log_likelihood,
    importance_sampled_likelihood,
    importance_weighted_bound,
    kl_to_standard_normal,
    reparameterize,
    standard_normal_log_density,
)

MEAN = np.array([0.5, -1.0, 2.0], np.float32)
LOG_VARIANCE = np.array([-1.0, 0.3, 0.0], np.float32)


@pytest.fixture(params=[lambda f: f, jax.jit, lambda f: jax.vmap(f)], ids=["eager", "jit", "vmap"])
def mode(request):
    return request.param


def test_kl_by_hand():
    kl = kl_to_standard_normal(jnp.array([[0.0], [1.0], [0.0]]), jnp.array([[0.0], [0.0], [1.0]]))
    # The prior itself: 0. Mean 1: 1/2. Variance e: (e - 1 - 1) / 2.
    np.testing.assert_allclose(kl, [0, 0.5, (math.e - 2) / 2], rtol=1e-6)


def test_kl_slow_reference(mode):
    rng = np.random.default_rng(0)
    mean, log_variance = rng.normal(size=(2, 6, 5)).astype(np.float32)
    expected = []
    for m, v in zip(mean.astype(np.float64), np.exp(log_variance.astype(np.float64)), strict=True):
        expected.append(-0.5 * sum(1 + np.log(b) - a**2 - b for a, b in zip(m, v, strict=True)))
    np.testing.assert_allclose(mode(kl_to_standard_normal)(mean, log_variance), expected, rtol=1e-6)


def test_kl_of_a_collapsed_posterior_keeps_its_digits():
    # To second order KL = log_variance^2 / 4; 1 + 1e-4 has lost its square in float32.
    kl = kl_to_standard_normal(jnp.zeros(1), jnp.array([1e-3]))
    assert kl == pytest.approx(0.25e-6, rel=1e-3)


def test_kl_is_the_mean_of_log_q_minus_log_p():
    keys = jax.random.split(jax.random.key(1), 20_000)
    z = jax.vmap(lambda key: reparameterize(key, MEAN, LOG_VARIANCE))(keys)
    same = [np.broadcast_to(value, z.shape) for value in (MEAN, LOG_VARIANCE)]
    draws = np.asarray(gaussian_log_likelihood(*same, z) - standard_normal_log_density(z))
    error = draws.std() / math.sqrt(len(draws))
    assert abs(draws.mean() - kl_to_standard_normal(MEAN, LOG_VARIANCE)) < 4 * error


def test_reparameterize_by_hand():
    key = jax.random.key(0)
    noise = reparameterize(key, jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    # Variance 9 is a deviation of 3.
    z = reparameterize(key, jnp.full((2, 3), 5.0), jnp.full((2, 3), math.log(9)))
    np.testing.assert_allclose(z, 5 + 3 * noise, rtol=1e-6)
    assert len(np.unique(noise)) == 6
    assert not np.any(noise == reparameterize(jax.random.key(1), noise * 0, noise * 0))


def test_reparameterize_mean_and_variance():
    n = 20_000
    mean, log_variance = (np.tile(value, (n, 1)) for value in (MEAN, LOG_VARIANCE))
    z = np.asarray(reparameterize(jax.random.key(2), mean, log_variance), np.float64)
    variance = np.exp(LOG_VARIANCE)
    assert np.all(np.abs(z.mean(0) - MEAN) < 4 * np.sqrt(variance / n))
    # The variance of n draws of a Gaussian has a deviation of variance * sqrt(2 / n).
    assert np.all(np.abs(z.var(0) - variance) < 4 * variance * math.sqrt(2 / n))


def test_reparameterize_gradients():
    # dz / dmean = 1 and dz / dlog_variance = sigma epsilon / 2 = (z - mean) / 2.
    key = jax.random.key(3)
    by_mean, by_log_variance = jax.grad(
        lambda m, v: reparameterize(key, m, v).sum(), argnums=(0, 1)
    )(MEAN, LOG_VARIANCE)
    np.testing.assert_allclose(by_mean, 1)
    z = reparameterize(key, MEAN, LOG_VARIANCE)
    np.testing.assert_allclose(by_log_variance, (z - MEAN) / 2, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_reparameterize_takes_any_rank(shape):
    key = jax.random.key(0)
    assert reparameterize(key, jnp.zeros(shape), jnp.zeros(shape)).shape == shape
    assert reparameterize(key, jnp.zeros(4, jnp.bfloat16), jnp.zeros(4, jnp.bfloat16)).dtype == (
        jnp.bfloat16
    )


def test_reparameterize_jit_and_vmap_are_the_loop():
    keys = jax.random.split(jax.random.key(0), 3)
    mean, log_variance = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    loop = [reparameterize(*one) for one in zip(keys, mean, log_variance, strict=True)]
    for f in (jax.vmap(reparameterize), jax.jit(jax.vmap(reparameterize))):
        np.testing.assert_allclose(f(keys, mean, log_variance), np.stack(loop), rtol=1e-6)


def test_bound_by_hand():
    # Weights 1 and 3 have the mean 2; weights 4, 4 the mean 4.
    log_weights = jnp.log(jnp.array([[1.0, 4.0], [3.0, 4.0]]))
    np.testing.assert_allclose(importance_weighted_bound(log_weights), np.log([2, 4]), rtol=1e-6)
    rows = importance_weighted_bound(log_weights, axis=-1)
    np.testing.assert_allclose(rows, np.log([2.5, 3.5]), rtol=1e-6)


def test_bound_slow_reference(mode):
    log_weights = np.random.default_rng(4).normal(size=(6, 9)).astype(np.float32)
    expected = [np.log(sum(np.exp(w.astype(np.float64))) / 9) for w in log_weights]
    bound = mode(lambda w: importance_weighted_bound(w, axis=-1))
    np.testing.assert_allclose(bound(log_weights), expected, rtol=1e-5, atol=1e-6)


def test_bound_of_one_sample_is_the_sample():
    log_weights = np.random.default_rng(5).normal(-500, 300, size=(1, 50)).astype(np.float32)
    np.testing.assert_array_equal(importance_weighted_bound(log_weights), log_weights[0])


@pytest.mark.parametrize("shift", [-1e4, 0, 1e4])
def test_bound_is_stable(shift):
    # Weights 1 and e^-1, shifted: log((1 + e^-1) / 2) + shift, and softmax weights as gradient.
    log_weights = jnp.array([0.0, -1.0]) + shift
    value, gradient = jax.value_and_grad(importance_weighted_bound)(log_weights)
    share = 1 / (1 + math.exp(-1))
    assert value == pytest.approx(math.log((1 + math.exp(-1)) / 2) + shift, abs=1e-3)
    np.testing.assert_allclose(gradient, [share, 1 - share], rtol=1e-3)


def linear_gaussian(q_shift, q_scale, samples, key):
    """log weights [samples] and log p(x) of p(z) = N(0, I), p(x | z) = N(W z + b, s2 I).

    The columns of W are orthogonal, so that the posterior has a diagonal covariance.
    """
    w = np.array([[1.0, 2.0], [2.0, -1.0], [0.0, 0.0]])
    b, s2, x = np.array([0.5, -0.5, 1.0]), 0.7, np.array([2.0, 1.0, 0.3])
    covariance = w @ w.T + s2 * np.eye(3)
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    log_p = -0.5 * (log_determinant + (x - b) @ np.linalg.solve(covariance, x - b))

    variance = q_scale / (1 + np.sum(w**2, axis=0) / s2)
    mean = variance / q_scale * (w.T @ (x - b)) / s2 + q_shift
    mean, log_variance = (jnp.tile(value, (samples, 1)) for value in (mean, np.log(variance)))
    z = reparameterize(key, mean, log_variance)
    predicted = z @ w.T + jnp.tile(b, (samples, 1))
    log_weights = (
        gaussian_log_likelihood(predicted, jnp.full_like(predicted, np.log(s2)), x + 0 * predicted)
        + standard_normal_log_density(z)
        - gaussian_log_likelihood(mean, log_variance, z)
    )
    return log_weights, log_p


@pytest.mark.parametrize("k", [1, 7, 100])
def test_exact_posterior_gives_log_p_for_any_number_of_samples(k):
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        log_weights, log_p = jax.jit(partial(linear_gaussian, 0.0, 1.0, k))(jax.random.key(0))
        np.testing.assert_allclose(log_weights, log_p, rtol=1e-12)
        assert importance_weighted_bound(log_weights) == pytest.approx(float(log_p), rel=1e-12)


def test_wrong_posterior_rises_to_log_p_from_below():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        log_weights, log_p = jax.jit(partial(linear_gaussian, 0.4, 1.5, 2**17))(jax.random.key(1))
        bound = jax.jit(importance_weighted_bound)
        before = -np.inf
        for k in (1, 4, 16, 64, 256):
            bounds = np.asarray(bound(log_weights.reshape(k, -1)))
            error = bounds.std() / math.sqrt(len(bounds))
            assert before < bounds.mean() < log_p + 4 * error
            before = bounds.mean()
        assert before == pytest.approx(float(log_p), abs=0.02)
        # With one sample the bound misses by KL(q || posterior), which is not small here.
        assert importance_weighted_bound(log_weights[None]).mean() < log_p - 0.3


@pytest.mark.parametrize(("samples", "chunk"), [(1, 250), (7, 3), (6, 3)])
def test_a_sampled_likelihood_is_the_bound_of_all_samples_of_all_chunks(samples, chunk):
    keys = jax.random.split(jax.random.key(3), 2)
    mean, log_variance = np.stack([MEAN, -MEAN]), np.stack([LOG_VARIANCE, LOG_VARIANCE / 2])
    log_joint = lambda z: jnp.sum(jnp.sin(z), axis=-1)
    found = importance_sampled_likelihood(
        keys, mean, log_variance, log_joint, samples=samples, chunk=chunk
    )
    for i, key in enumerate(keys):
        log_weights = []
        for number, first in enumerate(range(0, samples, chunk)):
            n = min(chunk, samples - first)
            noise = jax.random.normal(jax.random.fold_in(key, number), (n, 3))
            for epsilon in np.asarray(noise, np.float64):
                z = mean[i] + np.exp(log_variance[i] / 2) * epsilon
                log_q = -0.5 * np.sum(np.log(2 * np.pi) + log_variance[i] + epsilon**2)
                log_weights.append(np.sum(np.sin(z)) - log_q)
        assert len(log_weights) == samples
        expected = np.log(np.mean(np.exp(log_weights)))
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)


def test_a_sampled_likelihood_is_exact_where_the_posterior_is():
    """p(x) of z ~ N(0, I) and x = z + noise of variance 1, whose posterior is N(x / 2, I / 2)."""
    x = jnp.array([[0.3, -1.0], [2.0, 0.1]])
    log_joint = lambda z: (
        standard_normal_log_density(z) + standard_normal_log_density(x[:, None] - z)
    )
    keys = jax.random.split(jax.random.key(0), 2)
    half = jnp.full_like(x, -math.log(2))
    found = importance_sampled_likelihood(keys, x / 2, half, log_joint, samples=3)
    expected = gaussian_log_likelihood(jnp.zeros_like(x), jnp.full_like(x, math.log(2)), x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("option", [{"samples": 0}, {"samples": 2, "chunk": 0}])
def test_a_likelihood_of_no_samples_is_refused(option):
    zeros, keys = jnp.zeros((1, 2)), jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        importance_sampled_likelihood(keys, zeros, zeros, standard_normal_log_density, **option)


@pytest.mark.parametrize("function", [kl_to_standard_normal, reparameterize])
def test_errors_name_what_was_given(function):
    key = [jax.random.key(0)] if function is reparameterize else []
    with pytest.raises(ValueError, match=r"mean \(3,\), log_variance \(2,\), expected equal"):
        function(*key, jnp.zeros(3), jnp.zeros(2))
    with pytest.raises(TypeError, match="mean has dtype int32"):
        function(*key, jnp.zeros(3, jnp.int32), jnp.zeros(3))


@pytest.mark.parametrize(("shape", "axis"), [((3, 2), 2), ((3, 2), -3), ((0, 2), 0)])
def test_bound_refuses_an_axis_without_samples(shape, axis):
    with pytest.raises(ValueError, match=f"axis {axis}, expected an axis with samples"):
        importance_weighted_bound(jnp.zeros(shape), axis=axis)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    with jax.enable_x64(True):
        values = jnp.ones((2, 3), dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        assert kl_to_standard_normal(values, values).dtype == wide
        assert importance_weighted_bound(values).dtype == wide
        assert reparameterize(jax.random.key(0), values, values).dtype == dtype


def test_kl_gradient_is_finite_differences():
    with jax.enable_x64(True):
        values = [jnp.asarray(MEAN, jnp.float64), jnp.asarray(LOG_VARIANCE, jnp.float64)]
        kl = jax.jit(kl_to_standard_normal)
        gradients = jax.jit(jax.grad(kl, argnums=(0, 1)))(*values)
        for i in range(2):
            for j in range(3):
                moved = [list(values), list(values)]
                for side, step in zip(moved, (1e-6, -1e-6), strict=True):
                    side[i] = side[i].at[j].add(step)
                up, down = (kl(*side) for side in moved)
                assert gradients[i][j] == pytest.approx(float(up - down) / 2e-6, rel=1e-7, abs=1e-8)
