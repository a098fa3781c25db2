"""The game's terms by hand, theorem 1 on discrete distributions, and float64 NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import (
    log_generated,
    log_real,
    minimax_loss,
    non_saturating_loss,
    optimal_discriminator,
)

OF_LOGITS = [log_real, log_generated, minimax_loss, non_saturating_loss]


@pytest.fixture(params=[lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
def mode(request):
    return request.param


# A logit of log 3 is D = 3/4.
@pytest.mark.parametrize(
    ("term", "value", "slope"),
    [
        (log_real, math.log(3 / 4), 1 / 4),  # D rises by it: 1 - D
        (log_generated, math.log(1 / 4), -3 / 4),  # D falls by it: -D
        (minimax_loss, math.log(1 / 4), -3 / 4),  # G descends: towards a larger D
        (non_saturating_loss, -math.log(3 / 4), -1 / 4),  # and here: D - 1
    ],
)
def test_values_and_gradients_by_hand(term, value, slope):
    logit = jnp.float32(math.log(3))
    assert term(logit) == pytest.approx(value, rel=1e-6)
    assert jax.grad(term)(logit) == pytest.approx(slope, rel=1e-6)


def test_a_discriminator_that_cannot_tell_has_minus_log_4():
    both = log_real(jnp.zeros(())) + log_generated(jnp.zeros(()))
    assert both == pytest.approx(-math.log(4))


@pytest.mark.parametrize("logit", [-8.0, -1.0, 0.0, 1.0, 8.0])
def test_both_players_pull_in_opposite_directions(logit):
    # For a generated example, what D ascends is what the minimax G descends.
    up = jax.grad(log_generated)(logit)
    assert jax.grad(minimax_loss)(logit) == up < 0
    assert jax.grad(non_saturating_loss)(logit) < 0


def test_only_minimax_saturates_where_the_discriminator_is_sure():
    sure = -8.0  # D(G(z)) = 0.0003
    assert jax.grad(minimax_loss)(sure) == pytest.approx(-3.35e-4, rel=1e-2)
    assert jax.grad(non_saturating_loss)(sure) == pytest.approx(-1, rel=1e-3)


@pytest.mark.parametrize("term", OF_LOGITS)
def test_slow_reference(term, mode):
    logits = np.random.default_rng(0).normal(0, 4, 20)
    d = 1 / (1 + np.exp(-logits))
    expected = {
        log_real: np.log(d),
        log_generated: np.log(1 - d),
        minimax_loss: np.log(1 - d),
        non_saturating_loss: -np.log(d),
    }[term]
    np.testing.assert_allclose(mode(term)(logits.astype(np.float32)), expected, rtol=1e-4)


@pytest.mark.parametrize("term", OF_LOGITS)
@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
def test_a_sure_discriminator_keeps_value_and_gradient_finite(term, logit):
    value, slope = jax.value_and_grad(term)(jnp.float32(logit))
    wrong = (logit < 0) == (term in (log_real, non_saturating_loss))
    assert abs(value) == pytest.approx(abs(logit) if wrong else 0, abs=1e-6)
    assert abs(slope) == pytest.approx(1 if wrong else 0, abs=1e-6)


def test_optimal_discriminator_by_hand():
    p, q = jnp.array([0.5, 0.25, 0.25, 0.0, 0.0]), jnp.array([0.5, 0.75, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(optimal_discriminator(p, q), [1 / 2, 1 / 4, 1, 0, 1 / 2])
    gradients = jax.grad(lambda p, q: optimal_discriminator(p, q).sum(), argnums=(0, 1))(p, q)
    assert np.all(np.isfinite(gradients))


def distributions():
    rng = np.random.default_rng(1)
    pairs = [tuple(rng.dirichlet(np.full(6, 0.3), 2)) for _ in range(10)]
    return [*pairs, (np.array([1, 0, 0.0]), np.array([0, 0.5, 0.5]))]


def value(p, q, logits):
    return np.sum(p * np.asarray(log_real(logits))) + np.sum(q * np.asarray(log_generated(logits)))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize(("p", "q"), distributions())
def test_theorem_1(p, q):
    # V(D*, G) = 2 JSD(p, q) - log 4, and every other D has less.
    with jax.enable_x64(True):
        best = np.clip(np.asarray(optimal_discriminator(p, q)), 1e-15, 1 - 1e-15)
        logits = np.log(best) - np.log1p(-best)
        jsd = kl(p, (p + q) / 2) / 2 + kl(q, (p + q) / 2) / 2
        assert value(p, q, logits) == pytest.approx(2 * jsd - math.log(4), abs=1e-9)
        for seed in range(5):
            other = 0.8 * logits + np.random.default_rng(seed).normal(0, 0.5, len(p))
            assert value(p, q, other) < value(p, q, logits)


def test_theorem_1_where_the_generator_has_the_data():
    p = np.array([0.2, 0.5, 0.3], np.float32)
    np.testing.assert_array_equal(optimal_discriminator(p, p), 0.5)
    assert value(p, p, np.zeros(3, np.float32)) == pytest.approx(-math.log(4))
    # Two distributions that share nothing: JSD = log 2, and V = 0.
    p, q = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert value(p, q, np.array([50, -50], np.float32)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("term", OF_LOGITS)
def test_dtypes_and_shapes(term):
    with jax.enable_x64(True):
        for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
            for shape in ((), (3,), (2, 3)):
                answer = term(jnp.ones(shape, dtype))
                assert answer.shape == shape
                assert answer.dtype == jnp.promote_types(dtype, jnp.float32)


def test_errors_name_what_was_given():
    for term in OF_LOGITS:
        with pytest.raises(TypeError, match="logits has dtype int32, expected a floating"):
            term(jnp.zeros(3, jnp.int32))
    with pytest.raises(TypeError, match="q has dtype int32"):
        optimal_discriminator(jnp.zeros(3), jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match=r"p \(3,\), q \(2,\), expected equal shapes"):
        optimal_discriminator(jnp.zeros(3), jnp.zeros(2))
