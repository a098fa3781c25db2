"""The penalty against the gradient of a network that is written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import r1_penalty

RNG = np.random.default_rng(0)
X, W, V = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(6, 4)), RNG.normal(size=4)


def judge(w, x):
    """Logits of one hidden layer, and how many examples there are."""
    return jnp.tanh(x.reshape(len(x), -1) @ w) @ jnp.asarray(V, x.dtype), {"examples": len(x)}


def slow(w, x):
    """Half the squared norm of each example's gradient, by the chain rule."""
    found = []
    for one in x.reshape(len(x), -1):
        slope = w @ ((1 - np.tanh(one @ w) ** 2) * V)
        found.append(np.sum(slope**2) / 2)
    return np.array(found)


def test_the_penalty_is_half_the_squared_norm_of_each_example_s_gradient():
    w, x = jnp.asarray(W, jnp.float32), jnp.asarray(X, jnp.float32)
    penalty, (logits, rest) = jax.jit(lambda x: r1_penalty(lambda x: judge(w, x), x))(x)
    np.testing.assert_allclose(penalty, slow(W, X), rtol=1e-5)
    np.testing.assert_allclose(logits, judge(w, x)[0], rtol=1e-6)
    assert rest == {"examples": 5}


def test_its_gradient_by_the_parameters_is_finite_differences():
    with jax.enable_x64(True):
        total = lambda w: r1_penalty(lambda x: judge(w, x), jnp.asarray(X))[0].sum()
        gradient = jax.jit(jax.grad(total))(jnp.asarray(W))
        for i in np.ndindex(*W.shape):
            ends = []
            for side in (1e-5, -1e-5):
                moved = W.copy()
                moved[i] += side
                ends.append(slow(moved, X).sum())
            assert float(gradient[i]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_logits_that_are_not_one_an_example_are_refused():
    with pytest.raises(ValueError, match=r"got logits \(5, 1\) of x \(5, 6\), expected \(5,\)"):
        r1_penalty(lambda x: (x[:, :1], None), jnp.ones((5, 6)))
