"""Forms of upconvolution: products of matrices instead of a convolution.

What may be added: another form of the same sum, and where it is the fastest.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstruct.ops._cpu.winograd import best_tile, winograd
from jaxstruct.ops._phases import Grid, by_taps, taps_by_phase

_LEAST_SAVED = 1.2


def winograd_tile(grid: Grid, x: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """The m of Winograd's F(m, taps) for the phases, or 0 where it saves no products."""
    down, across = grid.taps(kernel)
    number = x[1] + down - 1, x[2] + across - 1
    phases = math.prod(grid.stride)
    m, products = best_tile(
        x[0], number, (down, across, kernel[2], phases * kernel[3]), grid.precision
    )
    plain = math.prod(x[:3]) * math.prod(kernel[:2])
    return m if plain >= _LEAST_SAVED * products * phases else 0


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=(0, 1))
def filtered(grid: Grid, m: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same by Winograd's algorithm.

    What a gradient needs is computed again: the transforms are larger than x.
    """
    ends = [(n - 1, n - 1) for n in grid.taps(kernel.shape)]
    phases = winograd(m, x, taps_by_phase(grid, kernel)[::-1, ::-1], ends, grid.precision)
    return grid.interleaved(phases, kernel, (x.shape[1], x.shape[2]))


def gathered(grid: Grid, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The inputs that an output sees side by side, and one product with the whole kernel."""
    batch, height, width, channels = x.shape
    down, across = grid.taps(kernel.shape)
    around = jnp.pad(x, ((0, 0), (down - 1, down - 1), (across - 1, across - 1), (0, 0)))
    high, wide = height + down - 1, width + across - 1

    def multiply(taps: jax.Array) -> jax.Array:
        seen = [
            around[:, down - 1 - i : down - 1 - i + high, across - 1 - j : across - 1 - j + wide]
            for i, j in np.ndindex(taps.shape[:2])
        ]
        rows = jnp.concatenate(seen, -1).reshape(-1, len(seen) * channels)
        columns = taps.reshape(rows.shape[1], taps.shape[3])
        products = jnp.dot(rows, columns, precision=grid.precision)
        return products.reshape(batch, high, wide, taps.shape[3])

    return grid.interleaved(by_taps(grid, kernel, multiply), kernel, (height, width))


def scattered(grid: Grid, x: jax.Array, kernel: jax.Array, *, at_once: bool) -> jax.Array:
    """The product of the inputs with the kernel's taps, each added where it belongs."""
    batch, height, width, channels = x.shape
    down, across = grid.taps(kernel.shape)
    flipped, depth = kernel[::-1, ::-1], kernel.shape[3]
    s, t = grid.stride
    places = [(i, j) for i in range(down) for j in range(across)]
    # The last tap may be a narrower one: no product with the zeros that would fill it.
    parts = [flipped[i * s : (i + 1) * s, j * t : (j + 1) * t] for i, j in places]
    rows = x.reshape(-1, channels)  # a product of four axes copies its operands in the gradient
    columns = [part.transpose(2, 0, 1, 3).reshape(channels, -1) for part in parts]
    if at_once:
        together = jnp.dot(rows, jnp.concatenate(columns, 1), precision=grid.precision)
        products = lax.split(together, [c.shape[1] for c in columns], axis=1)
    else:
        products = [jnp.dot(rows, c, precision=grid.precision) for c in columns]
    out = jnp.zeros((), x.dtype)
    for (i, j), part, product in zip(places, parts, products, strict=True):
        a, b = part.shape[:2]
        product = product.reshape(batch, height, width, a, b, depth)
        product = jnp.pad(product, ((0, 0), (0, 0), (0, 0), (0, s - a), (0, t - b), (0, 0)))
        product = product.reshape(batch, height, width, s * t * depth)
        out += jnp.pad(product, ((0, 0), (i, down - 1 - i), (j, across - 1 - j), (0, 0)))
    return grid.interleaved(out, kernel, (height, width))
