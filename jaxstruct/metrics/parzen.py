"""Likelihoods of points under a density that is known by its samples alone.

What may be added here: another kernel.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def parzen_log_likelihood(
    samples: ArrayLike, sigma: float, points: ArrayLike, *, chunk: int = 500
) -> jax.Array:
    """Log density of points under a Gaussian Parzen window around samples.

        log p(x) = log 1/M sum_m N(x; s_m, sigma^2 I)

    It is what early papers compare generators by, and says little of their samples: it is far from
    the log-likelihood in many dimensions, and ranks models otherwise than that or the eye does
    (Theis, van den Oord & Bethge 2016). In float32 its error is about 1e-7 D / sigma^2 for values
    in [0, 1].

    Args:
        samples: [M, D] of the model, floating.
        sigma: the standard deviation of the window, most often the best one for a validation set.
        points: [N, D], floating.
        chunk: points at a time: memory for [chunk, M] values is needed.

    Returns:
        [N] in nats, float32 or wider.

    Raises:
        ValueError: other shapes, no sample, or sigma or chunk that is not above 0, or not finite.
        TypeError: samples or points are integers.

    Source: Breuleux, Bengio & Vincent 2011; Goodfellow et al. 2014, section 5.
    """
    s, x = jnp.asarray(samples), jnp.asarray(points)
    if s.ndim != 2 or x.ndim != 2 or s.shape[1] != x.shape[1] or 0 in s.shape:
        raise ValueError(f"got samples {s.shape} and points {x.shape}, expected [M, D] and [N, D]")
    for name, value in (("samples", s), ("points", x)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{name} has dtype {value.dtype}, expected a floating dtype")
    for name, option in (("sigma", sigma), ("chunk", chunk)):
        if not 0 < option < math.inf:
            raise ValueError(f"got {name}={option}, expected more than 0, and a finite number")
    dtype = jnp.promote_types(jnp.result_type(s, x), jnp.float32)
    s, x = s.astype(dtype), x.astype(dtype)
    # |x - s|^2 from products, which are fast, loses digits where |x| is large: so from the middle.
    middle = jnp.mean(s, axis=0, keepdims=True)
    s, x = s - jnp.broadcast_to(middle, s.shape), x - jnp.broadcast_to(middle, x.shape)
    norms = jnp.sum(jnp.square(s), axis=1)

    def one(x: jax.Array) -> jax.Array:
        products = jnp.matmul(s, x, precision="highest")
        squares = jnp.maximum(norms - 2 * products + jnp.sum(jnp.square(x)), 0)
        return jax.nn.logsumexp(squares / (-2 * sigma**2))

    log_sums = jax.lax.map(one, x, batch_size=chunk)
    return log_sums - math.log(len(s)) - s.shape[1] / 2 * math.log(2 * math.pi * sigma**2)
