"""Parzen windows against numbers worked out by hand, SciPy, and the density they estimate."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from jaxstruct.metrics import parzen_log_likelihood


def slow(samples, sigma, points):
    """A loop over points, in float64."""
    found = []
    for x in points.astype(np.float64):
        squares = np.sum((samples.astype(np.float64) - x) ** 2, axis=1)
        exponents = -squares / (2 * sigma**2)
        normal = samples.shape[1] / 2 * np.log(2 * np.pi * sigma**2)
        found.append(logsumexp(exponents) - np.log(len(samples)) - normal)
    return np.array(found)


def test_by_hand():
    # One sample at a distance of 5 = 2 sigma: -2 - log(2 pi sigma^2), in two dimensions.
    one = parzen_log_likelihood(jnp.array([[3.0, 4.0]]), 2.5, jnp.zeros((1, 2)))
    np.testing.assert_allclose(one, [-2 - math.log(2 * math.pi * 6.25)], rtol=1e-6)
    # A second one so far away that it counts for nothing: half of the density.
    two = parzen_log_likelihood(jnp.array([[3.0, 4.0], [1e3, 0.0]]), 2.5, jnp.zeros((1, 2)))
    np.testing.assert_allclose(two, one - math.log(2), rtol=1e-5)


def test_it_is_scipys_mixture():
    rng = np.random.default_rng(0)
    samples, points = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    parts = [multivariate_normal(s, 0.6**2 * np.eye(3)).pdf(points) for s in samples]
    with jax.enable_x64(True):
        ours = parzen_log_likelihood(samples, 0.6, points)
    np.testing.assert_allclose(ours, np.log(np.mean(parts, axis=0)), rtol=1e-12)


@pytest.mark.parametrize("sigma", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("offset", [0, 1])
def test_float32_has_the_digits_that_it_says(sigma, offset):
    # 784 pixels: a density's exponents are far below float32's smallest number.
    rng = np.random.default_rng(1)
    samples, points = (rng.random((n, 784)).astype(np.float32) + offset for n in (40, 9))
    points[0] = samples[3]
    ours = parzen_log_likelihood(samples, sigma, points)
    assert ours.dtype == np.float32
    bound = 2 * 1e-7 * 784 / sigma**2 + 1e-4
    np.testing.assert_allclose(ours, slow(samples, sigma, points), atol=bound, rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 13, 500])
def test_chunks_and_jit_change_nothing(chunk):
    rng = np.random.default_rng(2)
    samples, points = (rng.random((n, 6)).astype(np.float32) for n in (11, 13))
    expected = slow(samples, 0.3, points)

    def f(samples, points):
        return parzen_log_likelihood(samples, 0.3, points, chunk=chunk)

    for mode in (f, jax.jit(f)):
        np.testing.assert_allclose(mode(samples, points), expected, rtol=1e-5, atol=1e-5)


def test_many_samples_give_the_smoothed_density():
    # Samples of N(0, 1) through a window of 0.5: N(0, 1 + 0.25).
    n = 20_000
    samples = norm.ppf((np.arange(n) + 0.5) / n)[:, None].astype(np.float32)
    points = np.linspace(-2, 2, 9, dtype=np.float32)[:, None]
    expected = norm(0, math.sqrt(1.25)).logpdf(points[:, 0])
    np.testing.assert_allclose(parzen_log_likelihood(samples, 0.5, points), expected, atol=1e-3)


def test_a_narrow_window_likes_what_it_has_seen():
    rng = np.random.default_rng(3)
    samples, others = rng.random((2, 30, 10)).astype(np.float32)
    wide, narrow = (
        [float(parzen_log_likelihood(samples, sigma, x).mean()) for x in (samples, others)]
        for sigma in (3.0, 0.01)
    )
    assert narrow[0] > wide[0]
    assert narrow[1] < wide[1]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    with jax.enable_x64(True):
        x = jnp.ones((2, 3), dtype)
        found = parzen_log_likelihood(x, 1.0, x)
        assert found.dtype == jnp.promote_types(dtype, jnp.float32)
        np.testing.assert_allclose(found, -1.5 * math.log(2 * math.pi), rtol=1e-6)


def test_errors_name_what_was_given():
    with pytest.raises(
        ValueError, match=r"samples \(2, 3\) and points \(4, 2\), expected \[M, D\]"
    ):
        parzen_log_likelihood(jnp.zeros((2, 3)), 1.0, jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"samples \(0, 3\)"):
        parzen_log_likelihood(jnp.zeros((0, 3)), 1.0, jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"sigma=0\.0, expected more than 0"):
        parzen_log_likelihood(jnp.zeros((2, 3)), 0.0, jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="chunk=0, expected more than 0"):
        parzen_log_likelihood(jnp.zeros((2, 3)), 1.0, jnp.zeros((4, 3)), chunk=0)
    for sigma in (np.inf, np.nan):
        with pytest.raises(ValueError, match=f"sigma={sigma}, expected more than 0, and a finite"):
            parzen_log_likelihood(jnp.zeros((2, 3)), sigma, jnp.zeros((4, 3)))
    with pytest.raises(TypeError, match="points has dtype uint8"):
        parzen_log_likelihood(jnp.zeros((2, 3)), 1.0, jnp.zeros((4, 3), jnp.uint8))
