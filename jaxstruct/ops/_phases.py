"""The phases of an upconvolution: what lies between two inputs, as channels of a smaller grid.

What may be added: another way to sort a kernel's taps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Grid(NamedTuple):
    """What does not depend on the arrays: strides, what is cut off at the ends, precision."""

    stride: tuple[int, int]
    cut: tuple[tuple[int, int], tuple[int, int]]
    precision: lax.PrecisionLike

    def taps(self, kernel: tuple[int, ...]) -> tuple[int, int]:
        """How many inputs one output sees along each axis: ceil(k / stride)."""
        return -(-kernel[0] // self.stride[0]), -(-kernel[1] // self.stride[1])

    def interleaved(self, phases: jax.Array, kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
        """[B, Gh, Gw, sh sw D], whose channels are the positions between two inputs, as images."""
        batch, height, width, _ = phases.shape
        (down, across), depth = self.stride, kernel.shape[3]
        out = phases.reshape(batch, height, width, down, across, depth)
        out = out.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * down, width * across, depth)
        ends = [
            (-low, (n - 1) * s + k - high - rows, 0)
            for n, s, k, (low, high), rows in zip(
                size, self.stride, kernel.shape[:2], self.cut, out.shape[1:3], strict=True
            )
        ]
        return lax.pad(out, jnp.zeros((), out.dtype), [(0, 0, 0), *ends, (0, 0, 0)])


def by_taps(grid: Grid, kernel: jax.Array, convolve: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """[B, Gh, Gw, sh sw D]: the phases, those of as many taps together.

    Where the stride does not divide the kernel's size, the last phases have one tap less, or none.
    A zero in its place would be multiplied: 0 times NaN is NaN.
    """
    (s, t), depth = grid.stride, kernel.shape[3]
    taps = taps_by_phase(grid, kernel)
    taps = taps.reshape(*taps.shape[:3], s, t, depth)

    def some(i: int, rows: slice, j: int, columns: slice) -> jax.Array:
        mine = taps[:i, :j, :, rows, columns]
        a, b = mine.shape[3:5]
        phases = convolve(mine.reshape(*mine.shape[:3], a * b * depth))
        return phases.reshape(*phases.shape[:3], a, b, depth)

    down, across = (_parts(k, n) for k, n in zip(kernel.shape[:2], grid.stride, strict=True))
    rows = [jnp.concatenate([some(*one, *other) for other in across], 4) for one in down]
    out = jnp.concatenate(rows, 3)
    without = [(0, s - out.shape[3]), (0, t - out.shape[4])]
    out = jnp.pad(out, [(0, 0), (0, 0), (0, 0), *without, (0, 0)])
    return out.reshape(*out.shape[:3], s * t * depth)


def _parts(size: int, stride: int) -> list[tuple[int, slice]]:
    """(number of taps, phases along an axis that have so many), without those of none."""
    less, more = divmod(size, stride)
    parts = [(less + 1, slice(0, more)), (less, slice(more, stride))]
    return [(n, phases) for n, phases in parts if n and phases.start < phases.stop]


def taps_by_phase(grid: Grid, kernel: jax.Array) -> jax.Array:
    """[mh, mw, C, sh sw D]: the kernel's taps by the input they see, filled up with zeros."""
    (s, t), (down, across) = grid.stride, grid.taps(kernel.shape)
    high, wide, channels, depth = kernel.shape
    ends = ((0, down * s - high), (0, across * t - wide), (0, 0), (0, 0))
    taps = jnp.pad(kernel[::-1, ::-1], ends).reshape(down, s, across, t, channels, depth)
    return taps.transpose(0, 2, 4, 1, 3, 5).reshape(down, across, channels, s * t * depth)
