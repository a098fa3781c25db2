"""Noise that destroys a part of a vector, for denoising.

What may be added here: another corruption of vectors. Each draws from one key for all vectors it is
given; a batch with a key per example goes through `jax.vmap`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstruct.ops import _checks


def masking_noise(key: jax.Array, x: ArrayLike, fraction: float) -> jax.Array:
    """Sets a fixed number of each vector's components, chosen at random, to 0.

    Args:
        key: one key.
        x: [..., D], floating.
        fraction: of the D components, in [0, 1]; their number is rounded to a whole one.

    Returns:
        [..., D], as x.

    Raises:
        ValueError: a fraction outside [0, 1], or a scalar x. TypeError: x is of integers.

    Source: Vincent et al. 2008, section 2.3; 2010, section 3.3.
    """
    x = _vectors(x)
    return jnp.where(_chosen(key, x, fraction), jnp.zeros_like(x), x)


def salt_and_pepper_noise(
    key: jax.Array, x: ArrayLike, fraction: float, *, low: float = 0.0, high: float = 1.0
) -> jax.Array:
    """Sets a fixed number of each vector's components, chosen at random, to `low` or `high`.

    Args:
        key: one key.
        x: [..., D], floating.
        fraction: of the D components, in [0, 1]; their number is rounded to a whole one.
        low, high: the least and the largest value that a component has; a fair coin chooses.

    Returns:
        [..., D], as x.

    Raises:
        ValueError: a fraction outside [0, 1], or a scalar x. TypeError: x is of integers.

    Source: Vincent et al. 2010, section 3.3.
    """
    x = _vectors(x)
    which, coin = jax.random.split(key)
    salt = jax.random.bernoulli(coin, 0.5, x.shape)
    extremes = jnp.where(salt, jnp.asarray(high, x.dtype), jnp.asarray(low, x.dtype))
    return jnp.where(_chosen(which, x, fraction), extremes, x)


def gaussian_noise(key: jax.Array, x: ArrayLike, sigma: float) -> jax.Array:
    """Adds noise from N(0, sigma^2) to every component; the sum is not clipped.

    Args:
        key: one key.
        x: [..., D], floating.
        sigma: the standard deviation, in the unit of x.

    Returns:
        [..., D], as x.

    Raises:
        ValueError: a negative sigma, or a scalar x. TypeError: x is of integers.

    Source: Vincent et al. 2010, section 3.3.
    """
    x = _vectors(x)
    sigma = _checks.number("sigma", sigma, 0.0)
    return x + sigma * jax.random.normal(key, x.shape, x.dtype)


def _chosen(key: jax.Array, x: jax.Array, fraction: float) -> jax.Array:
    """True for the same number of components of each vector."""
    size = x.shape[-1]
    count = round(_checks.number("fraction", fraction, 0.0, 1.0) * size)
    if count in (0, size):
        return jnp.full(x.shape, count == size)
    # Those below the count-th smallest of random numbers; the index in the low bits makes all
    # different, so that no tie changes the number.
    low = (1 << (size - 1).bit_length()) - 1
    index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32), x.shape)
    draws = jax.random.bits(key, x.shape, jnp.uint32) & ~jnp.uint32(low) | index
    return draws < jnp.sort(draws, axis=-1)[..., count : count + 1]


def _vectors(x: ArrayLike) -> jax.Array:
    value = _checks.floating("x", x)
    if value.ndim == 0:
        raise _checks.shape("x", (), "[..., D]")
    return value
