"""What ops over windows of an image are told besides their arrays, and every form of them reads.

What may be added: the setting of another such op.
"""

from typing import NamedTuple

import jax
from jax import lax

Pair = tuple[int, int]  # down, across


class Setting(NamedTuple):
    """Of a convolution."""

    stride: Pair
    ends: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    precision: lax.PrecisionLike

    def number(self, x: tuple[int, ...], kernel: tuple[int, ...]) -> Pair:
        """How many results there are along each axis."""
        axes = zip(x[1:3], kernel[:2], self.stride, self.ends, self.dilation, strict=True)
        high, wide = ((n + sum(e) - (k - 1) * d - 1) // s + 1 for n, k, s, e, d in axes)
        return high, wide


class Windows(NamedTuple):
    """Of a pooling."""

    size: Pair
    stride: Pair
    ends: tuple[Pair, Pair]

    def number(self, images: jax.Array) -> list[int]:
        """How many there are along each axis."""
        axes = zip(images.shape[1:3], self.size, self.stride, self.ends, strict=True)
        return [(n + sum(ends) - k) // s + 1 for n, k, s, ends in axes]
