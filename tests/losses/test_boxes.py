"""Smooth L1 by hand, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import smooth_l1


def test_quadratic_near_zero_and_linear_beyond():
    guess = jnp.array([[0.5, -2.0], [0.0, 1.0]])
    np.testing.assert_allclose(smooth_l1(guess, jnp.zeros((2, 2))), [0.125 + 1.5, 0.5])
    near = 0.1**2 / 2 * 9
    found = smooth_l1(jnp.array([0.1, 0.5]), jnp.zeros(2), beta=1 / 9)
    np.testing.assert_allclose(found, near + 0.5 - 1 / 18, rtol=1e-6)
    np.testing.assert_allclose(smooth_l1(guess, jnp.zeros((2, 2)), beta=0), [2.5, 1.0])


def test_the_gradient_is_bounded():
    slope = jax.grad(lambda x: smooth_l1(x, jnp.zeros(4), beta=0.5).sum())
    np.testing.assert_allclose(slope(jnp.array([-9.0, -0.25, 0.0, 7.0])), [-1, -0.5, 0, 1])


def test_bfloat16_is_summed_in_float32():
    assert smooth_l1(jnp.ones(4, jnp.bfloat16), jnp.zeros(4, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf")])
def test_beta_is_a_number_from_0_on(beta):
    with pytest.raises(ValueError, match=r"beta is .*, expected a number from 0 on"):
        smooth_l1(jnp.zeros(4), jnp.zeros(4), beta=beta)
    with pytest.raises(TypeError, match="beta is '1', expected a number"):
        smooth_l1(jnp.zeros(4), jnp.zeros(4), beta="1")
