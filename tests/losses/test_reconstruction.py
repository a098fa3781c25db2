"""The squared error by hand, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import squared_error


def test_by_hand():
    prediction = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    x = jnp.array([[1.0, 0.0, 4.0], [0.5, -0.5, 0.0]])
    np.testing.assert_array_equal(squared_error(prediction, x), [5.0, 0.5])


def test_gradient_is_twice_the_difference():
    rng = np.random.default_rng(0)
    prediction, x = rng.normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_allclose(
        jax.grad(lambda p: squared_error(p, x))(prediction), 2 * (prediction - x), rtol=1e-6
    )


def test_bfloat16_is_added_up_in_float32():
    ones = jnp.ones((1000,), jnp.bfloat16)
    result = squared_error(ones, jnp.zeros_like(ones))
    assert result.dtype == jnp.float32
    assert result == 1000


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"prediction \(3,\), x \(4,\)"):
        squared_error(jnp.zeros(3), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"expected \[\.\.\., D\]"):
        squared_error(jnp.zeros(()), jnp.zeros(()))
    with pytest.raises(TypeError, match="uint8"):
        squared_error(jnp.zeros(3), jnp.zeros(3, jnp.uint8))
