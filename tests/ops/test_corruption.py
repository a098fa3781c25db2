"""Noise for denoising: how much of a vector it touches, which values it leaves, what it draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import gaussian_noise, masking_noise, salt_and_pepper_noise

KEY = jax.random.key(3)
NOISES = {
    "masking": partial(masking_noise, fraction=0.3),
    "salt_and_pepper": partial(salt_and_pepper_noise, fraction=0.3),
    "gaussian": partial(gaussian_noise, sigma=0.3),
}


def images(n=50, size=37):
    """Values in (0, 1) that no noise of zeros and ones can give."""
    return np.random.default_rng(0).uniform(0.2, 0.8, (n, size)).astype(np.float32)


@pytest.mark.parametrize("noise", [masking_noise, salt_and_pepper_noise])
@pytest.mark.parametrize(
    ("fraction", "count"), [(0.0, 0), (0.1, 4), (0.25, 9), (0.5, 18), (0.99, 37), (1.0, 37)]
)
def test_the_same_number_of_components_of_every_vector_is_destroyed(noise, fraction, count):
    x = images()
    changed = np.asarray(noise(KEY, x, fraction)) != x
    np.testing.assert_array_equal(changed.sum(axis=-1), count)


def test_masked_components_are_zero_and_the_others_as_they_were():
    x = images()
    y = np.asarray(masking_noise(KEY, x, 0.4))
    np.testing.assert_array_equal(y[y != x], 0)


def test_salt_and_pepper_are_as_many_and_may_have_other_values():
    x = images(2000)
    y = np.asarray(salt_and_pepper_noise(KEY, x, 0.4))
    assert set(y[y != x]) == {0.0, 1.0}
    assert abs(np.mean(y[y != x]) - 0.5) < 0.01  # of 30,000 coins, six deviations
    z = np.asarray(salt_and_pepper_noise(KEY, x, 0.4, low=-3.0, high=7.0))
    np.testing.assert_array_equal(z[y != x], np.where(y[y != x] == 0, -3, 7))


@pytest.mark.parametrize("noise", [masking_noise, salt_and_pepper_noise])
def test_every_component_is_destroyed_equally_often(noise):
    x = images(5000, 20)
    share = np.mean(np.asarray(noise(KEY, x, 0.25)) != x, axis=0)
    np.testing.assert_allclose(share, 0.25, atol=0.03)  # five deviations


def test_which_components_are_destroyed_is_independent():
    # Two of six: each of the fifteen pairs equally often.
    x = np.ones((30_000, 6), np.float32)
    pairs = np.asarray(masking_noise(KEY, x, 1 / 3)) == 0
    counts = np.bincount(pairs @ (1 << np.arange(6)), minlength=64)
    assert np.count_nonzero(counts) == 15
    np.testing.assert_allclose(counts[counts > 0], 2000, atol=250)


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    x = images(1000)
    noise = np.asarray(gaussian_noise(KEY, x, 0.5)) - x
    assert abs(noise.std() - 0.5) < 0.01
    assert abs(noise.mean()) < 0.01
    assert (x + noise).min() < 0
    np.testing.assert_array_equal(gaussian_noise(KEY, x, 0.0), x)


@pytest.mark.parametrize("name", NOISES)
def test_jit_and_a_key_per_example(name):
    noise, x = NOISES[name], images(4)
    keys = jax.random.split(KEY, 4)
    one_by_one = np.stack([noise(key, row) for key, row in zip(keys, x, strict=True)])
    np.testing.assert_allclose(jax.vmap(noise)(keys, x), one_by_one, atol=1e-6)
    np.testing.assert_allclose(jax.jit(noise)(KEY, x), noise(KEY, x), atol=1e-6)
    assert not np.array_equal(noise(keys[0], x), noise(keys[1], x))
    assert noise(KEY, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", NOISES)
def test_a_single_component(name):
    assert NOISES[name](KEY, np.ones((3, 1), np.float32)).shape == (3, 1)


@pytest.mark.parametrize("noise", [masking_noise, salt_and_pepper_noise])
@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_that_is_none(noise, fraction):
    with pytest.raises(ValueError, match="fraction"):
        noise(KEY, images(), fraction)


def test_bad_arguments():
    with pytest.raises(ValueError, match="sigma"):
        gaussian_noise(KEY, images(), -1.0)
    with pytest.raises(TypeError, match="int32"):
        masking_noise(KEY, np.ones((2, 3), np.int32), 0.5)
    with pytest.raises(ValueError, match=r"expected \[\.\.\., D\]"):
        masking_noise(KEY, np.float32(1), 0.5)
