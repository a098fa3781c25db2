"""Log densities of vectors under factorised distributions, in nats, one value per vector.

What may be added here: log p(x | parameters) of another distribution over the last axis.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstruct.losses._checks import vectors

_LOG_2_PI = math.log(2 * math.pi)


def bernoulli_log_likelihood(logits: ArrayLike, x: ArrayLike) -> jax.Array:
    """Log-likelihood of independent Bernoulli variables, from logits.

        log p(x) = sum_i x_i log y_i + (1 - x_i) log(1 - y_i),   y = sigmoid(logits)
                 = sum_i x_i logits_i - softplus(logits_i)

    Args:
        logits: [..., D], any finite size; value and gradient stay finite.
        x: [..., D] in [0, 1]; grey values between are scored as cross-entropy.

    Returns:
        [...] in nats, float32 or wider.

    Raises:
        ValueError: unequal shapes, or scalars. TypeError: x or logits are integers.

    Source: Kingma & Welling 2014, appendix C.1, eq. 11.
    """
    logits, x = vectors(logits=logits, x=x)
    return jnp.sum(x * logits - _softplus(logits), axis=-1)


def gaussian_log_likelihood(mean: ArrayLike, log_variance: ArrayLike, x: ArrayLike) -> jax.Array:
    """Log density of a Gaussian with diagonal covariance.

        log N(x; mean, diag(variance))
            = -1/2 sum_i log(2 pi) + log variance_i + (x_i - mean_i)^2 / variance_i

    Args:
        mean: [..., D].
        log_variance: [..., D], the natural logarithm of the variance.
        x: [..., D].

    Returns:
        [...] in nats, float32 or wider.

    Raises:
        ValueError: unequal shapes, or scalars. TypeError: an argument is of integers.

    Source: Kingma & Welling 2014, appendix C.2, eq. 12.
    """
    mean, log_variance, x = vectors(mean=mean, log_variance=log_variance, x=x)
    square = jnp.square(x - mean) * jnp.exp(-log_variance)
    return -0.5 * jnp.sum(_LOG_2_PI + log_variance + square, axis=-1)


def standard_normal_log_density(z: ArrayLike) -> jax.Array:
    """Log density of N(0, I): the prior over the latent variables.

        log N(z; 0, I) = -1/2 sum_j log(2 pi) + z_j^2

    Args:
        z: [..., D].

    Returns:
        [...] in nats, float32 or wider.

    Raises:
        ValueError: z is a scalar. TypeError: z is of integers.

    Source: Kingma & Welling 2014, section 3.
    """
    (z,) = vectors(z=z)
    return -0.5 * jnp.sum(_LOG_2_PI + jnp.square(z), axis=-1)


class Likelihood(NamedTuple):
    """p(x | z) of x [..., D] by what a decoder predicts from z.

    Attributes:
        log: (prediction, x) -> log p(x | z) [...], in nats.
        mean: prediction -> the mean [..., D].
    """

    log: Callable[[Any, Any], jax.Array]
    mean: Callable[[Any], jax.Array]


BERNOULLI = Likelihood(bernoulli_log_likelihood, jax.nn.sigmoid)
"""Of a prediction that is logits [..., D]."""

GAUSSIAN = Likelihood(lambda p, x: gaussian_log_likelihood(p[0], p[1], x), lambda p: p[0])
"""Of a prediction that is (mean [..., D], log_variance [..., D])."""


# The largest array of a training step passes through here. jax.nn.softplus also guards against
# infinities, and the derivative of the terms below would not be 1/2 at 0, where |a| has none.
@jax.custom_jvp
def _softplus(a: jax.Array) -> jax.Array:
    return jnp.maximum(a, 0) + jnp.log1p(jnp.exp(-jnp.abs(a)))


_softplus.defjvps(lambda tangent, _, a: jax.nn.sigmoid(a) * tangent)
