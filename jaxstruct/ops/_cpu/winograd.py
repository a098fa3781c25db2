"""Winograd's minimal filtering: convolution with fewer products, of tiles that overlap.

What may be added: another set of points, with its error.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstruct.ops import _arrays

_TILES = {2: (2, 3, 4), 3: (2, 4), 4: (3,), 5: (2,)}  # F(5, 2) errs more and saves a tenth
_FEWEST_TILES = 64
_FEWEST_CHANNELS = 32


def best_tile(
    batch: int, number: tuple[int, int], kernel: tuple[int, ...], precision: lax.PrecisionLike
) -> tuple[int, int]:
    """The m with the fewest products of channels for so many results, and how many these are.

    (0, 0) where Winograd's algorithm does not pay or is not wanted: kernels that are not square,
    products of few rows or channels, the precision "highest".
    """
    channels = 2 / (1 / kernel[2] + 1 / kernel[3])
    if kernel[0] != kernel[1] or channels < _FEWEST_CHANNELS or _is_highest(precision):
        return 0, 0
    found = []
    for m in _TILES.get(kernel[0], ()):
        tiles = batch * math.prod(-(-n // m) for n in number)
        if tiles >= _FEWEST_TILES:
            found.append((tiles * (m + kernel[0] - 1) ** 2, m))
    products, m = min(found, default=(0, 0))
    return m, products


def _is_highest(precision: lax.PrecisionLike) -> bool:
    config: Any = jax.config  # what it has is typed in some versions alone
    if precision is None:
        precision = config.jax_default_matmul_precision
    each = precision if isinstance(precision, tuple) else (precision,)
    return any(lax.Precision(one) == lax.Precision.HIGHEST for one in each)


class _Matrices(NamedTuple):
    """A^T, B^T and G, rows of numbers."""

    out: list[list[float]]
    tile: list[list[float]]
    kernel: list[list[float]]


def winograd(
    m: int,
    x: jax.Array,
    kernel: jax.Array,
    ends: Sequence[tuple[int, int]],
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolution of stride 1, by F(m x m, r x r): of each tile d of x, for each pair of channels,

        A^T [ (G kernel G^T) * (B^T d B) ] A,    d [m + r - 1, m + r - 1], shifted by m

    has the m x m results that begin where d does. The sum over the input channels is taken before
    A: (m + r - 1)^2 products of [tiles, C] with [C, D], for what needs m^2 r^2 of them otherwise,
    a factor of 4 for F(4, 3), 2.25 for F(2, 3) and 2.56 for F(4, 2).

    Its largest error over the largest value is 1e-5 to 3e-5 for F(4, 3) in float32, and 1e-6 to
    3e-6 for F(2, 3), where a plain sum has 1e-7 to 1e-6. m + r - 1 is at most 6: with more points
    the constants and the error grow quickly. With m above 2 a NaN or infinity
    reaches results of its tiles that do not see it.

    Everything is linear in x and in the kernel, without control flow: the gradients are JAX's
    transposes, which multiply as little as the values do. The barriers keep XLA from computing the
    first half of a transform again for each of its second ones.

    Args:
        m: results of a tile along each axis.
        x: [B, H, W, C].
        kernel: [r, r, C, D].
        ends: how much is put around x, (before, after) of each axis.
        precision: of the products.

    Returns:
        [B, H', W', D].

    Source: Winograd 1980, Arithmetic complexity of computations; Lavin & Gray 2015, Fast algorithms
    for convolutional neural networks, eq. 8 and 12.
    """
    r, _, channels, depth = kernel.shape
    batch, size, a = x.shape[0], m + r - 1, _matrices(m, r)
    high, wide = (n + sum(e) - r + 1 for n, e in zip(x.shape[1:3], ends, strict=True))
    down, across = -(-high // m), -(-wide // m)
    more = -(-(r - 1) // m)  # of the tile after the last one, which that one reaches into
    around = _arrays.pad(x, ends, ((down + more) * m, (across + more) * m))

    rows = _shifted(around, m, size, down, 1)
    half = _arrays.cpu_barrier([_sum(c, rows) for c in a.tile])
    tiles = _arrays.cpu_barrier(
        [
            _sum(c, columns).reshape(-1, channels)
            for columns in (_shifted(row, m, size, across, 2) for row in half)
            for c in a.tile
        ]
    )

    taps = kernel.reshape(r * r, channels, depth)
    flat = [tap.reshape(channels, depth) for tap in lax.split(taps, (1,) * (r * r))]
    half = _arrays.cpu_barrier([[_sum(c, flat[j::r]) for j in range(r)] for c in a.kernel])
    kernels = _arrays.cpu_barrier([_sum(c, row) for row in half for c in a.kernel])

    products = _arrays.cpu_barrier(
        [jnp.dot(t, k, precision=precision) for t, k in zip(tiles, kernels, strict=True)]
    )
    half = _arrays.cpu_barrier([[_sum(c, products[j::size]) for j in range(size)] for c in a.out])
    shape = (batch, down, across, 1, depth)
    results = [
        jnp.concatenate([_sum(c, row).reshape(shape) for c in a.out], 3).reshape(
            batch, down, 1, across * m, depth
        )
        for row in half
    ]
    out = jnp.concatenate(results, 2).reshape(batch, down * m, across * m, depth)
    return out[:, :high, :wide]


@functools.lru_cache
def _matrices(m: int, r: int) -> _Matrices:
    """Polynomials of degree m + r - 2, multiplied by their values at these points and at infinity.

    The transpose of that product is the filter.
    """
    points = [0.0, 1.0, -1.0, 2.0, -2.0][: m + r - 2]
    others = [[q for q in points if q != p] for p in points]
    scales = [np.prod([p - q for q in rest]) for p, rest in zip(points, others, strict=True)]
    out = [[p**i for p in points] + [float(i == m - 1)] for i in range(m)]
    kernel = [
        [float(p**i / scale) for i in range(r)] for p, scale in zip(points, scales, strict=True)
    ]
    kernel.append([float(i == r - 1) for i in range(r)])
    tile = [[*map(float, np.poly(rest)[::-1]), 0.0] for rest in others]
    tile.append([*map(float, np.poly(points)[::-1])])
    return _Matrices(out, tile, kernel)


def _shifted(x: jax.Array, m: int, size: int, number: int, axis: int) -> list[jax.Array]:
    """Along an axis: the first element of each of `number` tiles, every second one, and so on."""
    phases = _arrays.phases(x, m, axis)
    return [
        lax.slice_in_dim(phases[i % m], i // m, i // m + number, axis=axis) for i in range(size)
    ]


def _sum(weights: Sequence[float], parts: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum, of those that have a weight."""
    total = None
    for weight, part in zip(weights, parts, strict=True):
        if weight:
            term = {1.0: part, -1.0: -part}.get(weight)
            term = part * weight if term is None else term
            total = term if total is None else total + term
    assert total is not None
    return total
