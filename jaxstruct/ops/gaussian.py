"""Gaussian filters: sums over points, weighted by a Gaussian of the distance of their features.

What may be added: another way to compute the same sums. A filter is linear in values [..., C] and
symmetric, and is a pytree, so that it passes through jit.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxstruct.ops import _arrays, _checks
from jaxstruct.ops.permutohedral import PermutohedralLattice

__all__ = ["ExactGaussian", "GridGaussian", "Normalized", "gaussian_filter", "normalized"]

_MOST_SQUARES = 8  # of differences of features, that the program adds up one by one
FilterName = Literal["lattice", "exact"]
FILTERS: tuple[str, ...] = ("lattice", "exact")
Deviation = ArrayLike | Sequence[float]


def gaussian_filter(
    values: ArrayLike,
    features: ArrayLike,
    *,
    filter: FilterName = "lattice",
    capacity: int | None = None,
) -> jax.Array:
    """The sum over j of exp(-|f_i - f_j|^2 / 2) v_j, for all points i: Gaussian filtering.

    Args:
        values: [N, C]. A NaN or infinity reaches all points with "exact", near ones with "lattice".
        features: [N, D], in standard deviations.
        filter: "exact", or "lattice", which is right where points are dense, and whose gradient
            reaches the values alone.
        capacity: as in `PermutohedralLattice.build`.

    Returns:
        [N, C], in the dtype that both promote to.

    Raises:
        ValueError: other shapes or options. TypeError: something is not floating.
    """
    points = _checks.array("features", features, "floating", "[N, D]", ranks=range(2, 3))
    given = _checks.array("values", values, "floating", "[N, C]", ranks=range(2, 3))
    if 0 in points.shape:
        raise _checks.shape("features", points.shape, "[N, D] with N, D above 0")
    if len(given) != len(points):
        raise ValueError(
            f"got values {given.shape} and features {points.shape}, expected [N, C] and [N, D]"
        )
    _checks.one_of("filter", filter, FILTERS)
    dtype = jnp.promote_types(given.dtype, points.dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    chosen = gaussian(points.astype(wide), filter, capacity)
    return apply(chosen, given.astype(wide)).astype(dtype)


def normalized(filter: Any, shape: Sequence[int], *, dtype: Any = jnp.float32) -> Any:
    """The filter D^-1/2 K D^-1/2, with D = K 1.

    Args:
        filter: K, of values [*shape, C]; a pytree, as the filters here are, passes through jit.
        shape: of the points.
        dtype: of the values.
    """
    if isinstance(filter, PermutohedralLattice):
        return _weighted(filter)
    total = apply(filter, jnp.ones((*shape, 1), dtype))
    return Normalized(filter, lax.rsqrt(total + _EMPTY))


_EMPTY = 1e-20  # what pydensecrf adds to D


@jax.jit
def _weighted(lattice: PermutohedralLattice) -> PermutohedralLattice:
    ones = jnp.ones((lattice.vertices.shape[1], 1), lattice.weights.dtype)
    return lattice.weighted(lax.stop_gradient(lax.rsqrt(lattice(ones)[:, 0] + _EMPTY)))


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["filter", "scale"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Normalized:
    """A filter between two multiplications of each point by its scale, [..., 1]."""

    filter: Any
    scale: jax.Array

    def __call__(self, values: jax.Array) -> jax.Array:
        """[..., C] to [..., C]."""
        return self.scale * self.filter(self.scale * values)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["features"], meta_fields=["tile"])
@dataclasses.dataclass(frozen=True)
class ExactGaussian:
    """The sum over all points, tile by tile: of N^2 exponentials `tile` N are there at a time.

    Attributes:
        features: [N, D], in standard deviations.
        tile: points whose sums are computed at once.
    """

    features: jax.Array
    tile: int = 128

    def __call__(self, values: jax.Array) -> jax.Array:
        """[..., C], of N points altogether, filtered."""
        features = self.features
        flat = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])
        more = -len(features) % self.tile
        rows = jnp.pad(features, ((0, more), (0, 0))).reshape(-1, self.tile, features.shape[1])

        @jax.checkpoint
        def sums(row: jax.Array) -> jax.Array:
            # Not |a|^2 + |b|^2 - 2 a b, which would lose what near points differ by.
            if features.shape[1] <= _MOST_SQUARES:
                pairs = zip(row.T, features.T, strict=True)
                squares = functools.reduce(jnp.add, [(a[:, None] - b[None]) ** 2 for a, b in pairs])
            else:
                squares = ((row[:, None] - features[None]) ** 2).sum(2)
            return jnp.dot(jnp.exp(-0.5 * squares), flat, precision="highest")

        out = lax.map(sums, rows).reshape(rows.shape[0] * self.tile, flat.shape[1])
        return out[: len(features)].reshape(values.shape)


_MOST_SHIFTS = 64


@functools.partial(jax.tree_util.register_dataclass, data_fields=["sigma"], meta_fields=["reach"])
@dataclasses.dataclass(frozen=True)
class GridGaussian:
    """The sum over all pixels of a grid, one axis after the other.

    Attributes:
        sigma: in pixels, one number or [2], (x, y).
        reach: how far a CPU goes from a pixel, in pixels; None is to the ends.
    """

    sigma: Any
    reach: int | None = None

    def __call__(self, values: jax.Array) -> jax.Array:
        """[H, W, C] to [H, W, C]."""
        for axis in (0, 1):
            sigma = self.sigma[1 - axis] if jnp.ndim(self.sigma) else self.sigma
            products = functools.partial(_multiplied, axis)
            if self.reach is None or 2 * self.reach + 1 > _MOST_SHIFTS:
                values = products(sigma, values)
            else:
                reach = min(self.reach, values.shape[axis] - 1)
                shifted = functools.partial(_shifted, axis, reach)
                values = lax.platform_dependent(sigma, values, cpu=shifted, default=products)
        return values


def _weights(offsets: jax.Array, sigma: ArrayLike, dtype: Any) -> jax.Array:
    return jnp.exp(-0.5 * (offsets.astype(dtype) / jnp.asarray(sigma, dtype)) ** 2)


def _multiplied(axis: int, sigma: ArrayLike, values: jax.Array) -> jax.Array:
    """A matrix of all weights."""
    place = jnp.arange(values.shape[axis], dtype=values.dtype)
    weights = _weights(place[:, None] - place[None], sigma, values.dtype)
    return jnp.moveaxis(jnp.tensordot(weights, values, (1, axis), precision="highest"), 0, axis)


def _shifted(axis: int, reach: int, sigma: ArrayLike, values: jax.Array) -> jax.Array:
    """A weighted sum of slices, which a CPU adds up in one pass."""
    high, wide, depth = values.shape
    size, step = (wide * depth, depth) if axis else (high, 1)
    ends = [(reach * step * (i == axis),) * 2 for i in (0, 1)]
    around = jnp.pad(values.reshape(high, -1), ends)
    weights = _weights(jnp.arange(reach + 1), sigma, values.dtype)
    around, weights = _arrays.cpu_barrier((around, weights))
    shift = lambda offset: lax.slice_in_dim(
        around, (reach + offset) * step, (reach + offset) * step + size, axis=axis
    )
    terms = [(shift(-i) + shift(i)) * weights[i] for i in range(1, reach + 1)]
    # Or a later pass computes the sums again.
    return _arrays.cpu_barrier(functools.reduce(jnp.add, terms, shift(0))).reshape(values.shape)


def apply(filter: Any, values: jax.Array) -> jax.Array:
    """filter(values), jitted: a filter can be any function."""
    return _applied(values, *split(filter))


@functools.partial(jax.jit, static_argnames=("fixed", "structure"))
def _applied(values: jax.Array, arrays: Any, fixed: Any, structure: Any) -> jax.Array:
    filtered: jax.Array = joined(arrays, fixed, structure)(values)
    return filtered


def gaussian(features: jax.Array, filter: str, capacity: int | None) -> Any:
    """The filter of that name around features [N, D]."""
    if filter == "lattice":
        return PermutohedralLattice.build(features, capacity=capacity)
    return ExactGaussian(features)


def deviation(name: str, value: Any, axes: int) -> Any:
    """A standard deviation: one number, or one for each of so many axes, as an array or a number.

    Raises ValueError for another shape, or unless it is finite and above 0, which is not known in a
    trace; TypeError for what is no number.
    """
    traced = _arrays.traced(value)
    sigma = (jnp if traced else np).asarray(value) if isinstance(value, tuple | list) else value
    if not traced and not jnp.issubdtype(np.asarray(sigma).dtype, np.number):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if jnp.shape(sigma) not in ((), (axes,)):
        raise _checks.shape(name, jnp.shape(sigma), f"() or ({axes},)")
    if not traced and not all(0 < s < math.inf for s in np.ravel(sigma)):
        raise ValueError(f"{name} is {value!r}, expected a finite number above 0")
    return sigma


def split(tree: Any) -> tuple[list[Any], tuple[Any, ...], Any]:
    """Arrays, and what else there is, a filter that is any function, say: that is static."""
    leaves, structure = jax.tree.flatten(tree)
    dynamic = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = [leaf if d else None for d, leaf in zip(dynamic, leaves, strict=True)]
    fixed = tuple(None if d else leaf for d, leaf in zip(dynamic, leaves, strict=True))
    return arrays, fixed, structure


def joined(arrays: Sequence[Any], fixed: Sequence[Any], structure: Any) -> Any:
    """What `split` has taken apart."""
    leaves = [f if a is None else a for a, f in zip(arrays, fixed, strict=True)]
    return jax.tree.unflatten(structure, leaves)
