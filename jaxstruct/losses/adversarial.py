"""The terms of the game between a generator G and a discriminator D, from D's logits.

    min_G max_D  V(D, G) = E log D(x) + E log(1 - D(G(z))),   D = sigmoid(logits)

What may be added here: what other players of this game minimise or maximise, one value per example.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxstruct.losses._checks import floating


def log_real(logits: ArrayLike) -> jax.Array:
    """What D makes as large as it can for real examples: that they are real, log D(x).

    Args:
        logits: [...] of D, one per example, any finite size; value and gradient stay finite.

    Returns:
        [...] in nats, zero or below, float32 or wider.

    Raises:
        TypeError: logits are integers.

    Source: Goodfellow et al. 2014, eq. 1.
    """
    return jax.nn.log_sigmoid(_wide(logits))


def log_generated(logits: ArrayLike) -> jax.Array:
    """What D makes as large as it can for generated examples: log(1 - D(G(z))).

    Args:
        logits: [...] of D, one per example, any finite size; value and gradient stay finite.

    Returns:
        [...] in nats, zero or below, float32 or wider.

    Raises:
        TypeError: logits are integers.

    Source: Goodfellow et al. 2014, eq. 1.
    """
    return jax.nn.log_sigmoid(-_wide(logits))


def minimax_loss(logits: ArrayLike) -> jax.Array:
    """What G minimises in the game of equation 1: log(1 - D(G(z))).

    Its gradient by the logit is -D(G(z)): nothing where D is sure, as it is early in training.

    Args:
        logits: [...] of D, one per generated example.

    Returns:
        [...] in nats, zero or below, float32 or wider.

    Raises:
        TypeError: logits are integers.

    Source: Goodfellow et al. 2014, eq. 1 and algorithm 1.
    """
    return log_generated(logits)


def non_saturating_loss(logits: ArrayLike) -> jax.Array:
    """What G minimises to the same end with a stronger gradient early on: -log D(G(z)).

    Its gradient by the logit is D(G(z)) - 1: all of it where D is sure.

    Args:
        logits: [...] of D, one per generated example.

    Returns:
        [...] in nats, zero or above, float32 or wider.

    Raises:
        TypeError: logits are integers.

    Source: Goodfellow et al. 2014, section 3, below eq. 1.
    """
    return -log_real(logits)


def optimal_discriminator(p: ArrayLike, q: ArrayLike) -> jax.Array:
    """The best discriminator against a generator that stands still.

        D*(x) = p(x) / (p(x) + q(x))

    and with it V(D*, G) = 2 JSD(p, q) - log 4, which is least, -log 4, where q = p (theorem 1).

    Args:
        p: [...] densities (or probabilities) of the data.
        q: [...] of what G generates, at the same places.

    Returns:
        [...] in [0, 1], float32 or wider; 1/2 where both are 0, since no value of D matters there.

    Raises:
        ValueError: unequal shapes. TypeError: an argument is of integers.

    Source: Goodfellow et al. 2014, proposition 1, eq. 2.
    """
    p, q = (_wide(value) for value in floating(p=p, q=q))
    both = p + q
    some = both > 0
    return jnp.where(some, p / jnp.where(some, both, 1), 0.5)


def _wide(values: ArrayLike) -> jax.Array:
    (values,) = floating(logits=values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
