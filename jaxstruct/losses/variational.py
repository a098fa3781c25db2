"""The terms of a variational lower bound: the sample from the posterior, its divergence, the bound.

What may be added here: other posteriors, priors and bounds. Densities of data are in likelihoods.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstruct.losses._checks import floating, vectors
from jaxstruct.losses.likelihoods import gaussian_log_likelihood


def reparameterize(key: jax.Array, mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """Draws from N(mean, variance) so that the draw can be differentiated by both.

        z = mean + exp(log_variance / 2) * epsilon,   epsilon ~ N(0, I)

    Args:
        key: one key; for a batch that is drawn example by example, vmap over keys.
        mean: [...].
        log_variance: [...], the natural logarithm of the variance.

    Returns:
        z: [...], in the dtype the two promote to.

    Raises:
        ValueError: unequal shapes. TypeError: an argument is of integers.

    Source: Kingma & Welling 2014, section 2.4 and eq. 10.
    """
    mean, log_variance = floating(mean=mean, log_variance=log_variance)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return mean + jnp.exp(0.5 * log_variance) * noise


def kl_to_standard_normal(mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """Divergence of a Gaussian with diagonal covariance from N(0, I), in closed form.

        KL(N(mean, diag(variance)) || N(0, I))
            = 1/2 sum_j mean_j^2 + variance_j - 1 - log variance_j

    Args:
        mean: [..., D].
        log_variance: [..., D], the natural logarithm of the variance.

    Returns:
        [...] in nats, zero or above, float32 or wider.

    Raises:
        ValueError: unequal shapes, or scalars. TypeError: an argument is of integers.

    Source: Kingma & Welling 2014, appendix B.
    """
    mean, log_variance = vectors(mean=mean, log_variance=log_variance)
    # expm1 keeps the digits of variance - 1 where the posterior has collapsed to the prior.
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.expm1(log_variance) - log_variance, axis=-1)


def importance_weighted_bound(log_weights: ArrayLike, *, axis: int = 0) -> jax.Array:
    """Lower bound on log p(x) from k samples of the posterior; k = 1 is the variational bound.

        log 1/k sum_i w_i,   log w_i = log p(x | z_i) + log p(z_i) - log q(z_i | x)

    The bound rises with k in expectation, towards log p(x).

    Args:
        log_weights: [..., k, ...], samples along `axis`.
        axis: the axis of the samples.

    Returns:
        [..., ...], log_weights without `axis`, in nats, float32 or wider.

    Raises:
        ValueError: axis is not one of log_weights, or is empty. TypeError: weights of integers.

    Source: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    (log_weights,) = vectors(log_weights=log_weights)
    if not -log_weights.ndim <= axis < log_weights.ndim or log_weights.shape[axis] == 0:
        raise ValueError(
            f"got log_weights {log_weights.shape} and axis {axis}, expected an axis with samples"
        )
    return jax.nn.logsumexp(log_weights, axis=axis) - math.log(log_weights.shape[axis])


def importance_sampled_likelihood(
    keys: jax.Array,
    mean: jax.Array,
    log_variance: jax.Array,
    log_joint: Callable[[jax.Array], jax.Array],
    *,
    samples: int,
    chunk: int = 250,
) -> jax.Array:
    """An estimate of log p(x) from samples of a Gaussian posterior, in chunks of samples.

    It is `importance_weighted_bound` with k = samples. Memory grows with the chunk, and not with
    the samples.

    Args:
        keys: [B], one per example.
        mean: [B, D] of each example's posterior.
        log_variance: [B, D], the natural logarithm of the variance.
        log_joint: z [B, n, D] -> [B, n], log p(x | z) + log p(z) of each example.
        samples: k, at least 1.
        chunk: samples at a time.

    Returns:
        [B] in nats.

    Raises:
        ValueError: samples or chunk below 1.

    Source: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    if samples < 1 or chunk < 1:
        raise ValueError(f"got {samples} samples in chunks of {chunk}, expected at least 1 of each")
    sizes = [chunk] * (samples // chunk) + ([samples % chunk] if samples % chunk else [])

    def log_weights(keys: jax.Array, n: int) -> jax.Array:
        shape = len(keys), n, mean.shape[-1]
        means = jnp.broadcast_to(mean[:, None], shape)
        log_variances = jnp.broadcast_to(log_variance[:, None], shape)
        # One draw of [n, D] per example, then all examples and draws in one call.
        z = jax.vmap(reparameterize)(keys, means, log_variances)
        return log_joint(z) - gaussian_log_likelihood(means, log_variances, z)

    parts = []
    for i, n in enumerate(sizes):
        folded = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)
        parts.append(jax.nn.logsumexp(log_weights(folded, n), axis=1))
    return jax.nn.logsumexp(jnp.stack(parts), axis=0) - math.log(samples)
