"""Weighted sums of near places along an axis: products with matrices that are mostly zeros.

What may be added: another way to compute them, with its speed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstruct.ops._arrays import vary

_MOST_TERMS = 128  # of a sum that are added up one by one


def multiply(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """The product of a matrix with an axis of x, of which a zero is no factor.

        out[i] = sum over the j with matrix[i, j] != 0 of  matrix[i, j] x[j]

    So what is not finite stays with those who have a share in it, whereas a product of matrices
    would give it to all: 0 times NaN is NaN. The same holds for the gradient, which is computed in
    the same way; that of a gather would be a scatter, slow on a CPU and in any order on a GPU.
    Differentiable in both modes and repeatedly.

    Args:
        matrix: [m, n], known when tracing.
        x: [..., n, ...], in the dtype of the sums.
        axis: the one of x that has n.

    Returns:
        [..., m, ...], in the dtype of x.
    """
    forward, backward = _product(matrix, x, axis), _product(matrix.T, x, axis)
    # JAX takes a transpose by hand, and differentiates and maps it, for the solution of linear
    # equations alone, of as many as there are unknowns. It does not look at them.
    fit = lambda values, size: lax.pad(
        values,
        jnp.zeros((), values.dtype),
        [(0, size - n if i == axis else 0, 0) for i, n in enumerate(values.shape)],
    )
    size = max(matrix.shape)
    out = lax.custom_linear_solve(
        lambda equations: equations,
        fit(x, size),
        lambda _, values: fit(forward(values), size),
        lambda _, values: fit(backward(values), size),
    )
    return fit(out, len(matrix))


def _product(matrix: np.ndarray, like: jax.Array, axis: int) -> Callable[[jax.Array], jax.Array]:
    """What multiplies an axis of arrays that have the dtype of `like` and vary as it does.

    Of a longer axis it takes the beginning.
    """
    number = np.count_nonzero(matrix, axis=1)
    constant = lambda values, dtype: vary(like, jnp.asarray(values, dtype))[1]
    if number.max() > _MOST_TERMS:
        rows = [(np.flatnonzero(row), row[row != 0]) for row in matrix]
        few = [(constant(i, np.int32), constant(w, like.dtype)) for i, w in rows]
        # Few rows, each with a product of its own, in which there are no zeros.
        return lambda x: jnp.stack(
            [jnp.tensordot(w, _take(x, i, axis), (0, axis), precision="highest") for i, w in few],
            axis,
        )
    along = lambda values: values.reshape(-1, *[1] * (like.ndim - 1 - axis))[(None,) * axis]
    some = constant(along(number > 0), bool)
    terms = [
        (constant(i, np.int32), constant(along(w), like.dtype)) for i, w in _terms(matrix, number)
    ]

    def multiplied(x: jax.Array) -> jax.Array:
        out = functools.reduce(jnp.add, [_take(x, at, axis) * weight for at, weight in terms])
        return out if number.all() else jnp.where(some, out, 0)

    return multiplied


def _terms(matrix: np.ndarray, number: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each row the first that is not 0, as (column, weight), of each the second, and so on.

    A row of fewer shares the weight of its last one: another's of 0 times infinity is NaN.
    """
    place, last = np.arange(max(number.max(), 1)), np.maximum(number - 1, 0)[:, None]
    order = np.argsort(matrix == 0, axis=1, kind="stable")
    columns = np.take_along_axis(order, np.minimum(place, last), 1)
    weights = np.take_along_axis(matrix, columns, 1)
    weights = weights / np.where(place >= last, len(place) - last, 1)
    return list(zip(columns.T, weights.T, strict=True))


def _take(x: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    at = (slice(None),) * axis + (index,)
    return x.at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)
