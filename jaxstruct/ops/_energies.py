"""The energies of fully connected conditional random fields, and the kernels they are made of.

What may be added: another quantity of a labeling or of marginals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _checks

Filter = Callable[[jax.Array], jax.Array]


class Kernel(NamedTuple):
    """One kernel of the pairwise energy.

    Attributes:
        filter: of values [..., C] at the points the sum over j of k(f_i, f_j) v_j, [..., C]: linear
            and symmetric. `normalized` makes one as dense CRFs have it.
        compatibility: a weight w, for w K [x_i != x_j] (Potts); or [L], what a pair of equal labels
            costs; or [L, L], what each pair of labels costs, of which the symmetric half counts.
            A cost below 0 is a gain: [L] of -w is Potts but for a constant.
    """

    filter: Filter
    compatibility: ArrayLike


def free_energy(marginals: ArrayLike, unary: ArrayLike, kernels: Sequence[Kernel]) -> jax.Array:
    """The free energy, which mean-field inference minimizes: the expected energy less the entropy.

        F(Q) = sum Q log Q + sum Q U + 1/2 sum over kernels, i, j of  Q_i^T mu Q_j k(i, j)

    Without the terms j = i, F(Q) is KL(Q || P) - log Z. pydensecrf's klDivergence counts every pair
    twice, and the Potts costs of equal labels instead of those of different labels.

    Args:
        marginals: Q, [..., L].
        unary: U, [..., L].
        kernels: as in `mean_field`.

    Returns:
        A scalar.

    Raises:
        ValueError: unequal shapes. TypeError: marginals or unary are not floating.
    """
    q, costs = _checks.floating("marginals", marginals), _checks.floating("unary", unary)
    _checks.leading("two arrays of one shape", marginals=q.shape, unary=costs.shape)
    return free_energy_of(q, costs, messages(q, kernels), kernels)


def energy(labels: ArrayLike, unary: ArrayLike, kernels: Sequence[Kernel]) -> jax.Array:
    """The energy of one labeling: the sum of its unaries and of its pairs' costs.

        E(x) = sum U_i(x_i) + 1/2 sum over kernels, i, j of mu(x_i, x_j) k(i, j)

    For Potts these are the pairs i < j of different labels; costs of equal labels, which [L] and
    [L, L] have, take half of k(i, i), too.

    Args:
        labels: [...], integers in [0, L). Void (255) is none: only a whole labeling has an energy.
        unary: [..., L].
        kernels: as in `mean_field`.

    Returns:
        A scalar.

    Raises:
        ValueError: other shapes; or, outside of a trace, a label out of range (in a trace: NaN).
            TypeError: labels are not integers, or unary is not floating.
    """
    costs = _checks.floating("unary", unary)
    index = _checks.array("labels", labels, "integer", "[...]", ranks=range(costs.ndim))
    _checks.leading("as many labels", labels=index.shape, unary=costs.shape[:-1])
    # As they were given: JAX keeps 32 of NumPy's 64 bits.
    given = labels if isinstance(labels, np.ndarray) else index
    wide = given if given.dtype.itemsize > 4 else given.astype(np.int32)
    inside = (wide >= 0) & (wide < costs.shape[-1])
    if not isinstance(inside, jax.core.Tracer) and not inside.all():
        raise ValueError(
            f"labels reach from {given.min()} to {given.max()}, expected 0 to "
            f"{costs.shape[-1] - 1}; void points need a label, or are left out with their unary"
        )
    hard = jax.nn.one_hot(index, costs.shape[-1], dtype=costs.dtype)
    found = free_energy(hard, costs, kernels)
    return jnp.where(inside.all(), found, jnp.nan)


def messages(q: jax.Array, kernels: Sequence[Kernel]) -> list[jax.Array]:
    """K Q of each kernel."""
    return [kernel.filter(q) for kernel in kernels]


def _over(labels: jax.Array, like: jax.Array) -> jax.Array:
    """[L] as [1, ..., L]."""
    return labels.reshape((1,) * (like.ndim - 1) + (-1,))


def pairwise_costs(
    sums: Sequence[jax.Array], kernels: Sequence[Kernel], like: jax.Array
) -> jax.Array:
    total = jnp.zeros_like(like)
    for message, kernel in zip(sums, kernels, strict=True):
        mu = jnp.asarray(kernel.compatibility, message.dtype)
        if mu.ndim == 2:
            total += jnp.dot(message, 0.5 * (mu + mu.T), precision="highest")
        else:
            total += _over(mu, message) * message if mu.ndim else -mu * message
    return total


def free_energy_of(
    q: jax.Array, unary: jax.Array, sums: Sequence[jax.Array], kernels: Sequence[Kernel]
) -> jax.Array:
    """`free_energy`; the Potts costs of different labels are those of all pairs less equal ones."""
    # A forbidden label costs infinity and has a marginal of 0: the product would be NaN.
    some = q > 0
    own = (q * (jnp.log(jnp.where(some, q, 1)) + jnp.where(some, unary, 0))).sum()
    pairs = (q * pairwise_costs(sums, kernels, q)).sum()
    for message, kernel in zip(sums, kernels, strict=True):
        mu = jnp.asarray(kernel.compatibility, message.dtype)
        if mu.ndim == 0:
            pairs += mu * message.sum()
    return own + 0.5 * pairs


def checked_compatibility(value: ArrayLike, labels: int, least: int = 1) -> jax.Array:
    mu = jnp.asarray(value)
    if mu.ndim not in range(least, 3) or any(n != labels for n in mu.shape):
        expected = f"{'(), ' if not least else ''}({labels},) or ({labels}, {labels})"
        raise _checks.shape("compatibility", mu.shape, expected)
    if not _arrays.traced(value) and not np.all(np.isfinite(np.asarray(value))):
        raise ValueError("weights or compatibility are NaN or infinite, expected finite costs")
    return mu
