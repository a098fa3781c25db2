"""Winograd's algorithm against the sum that it saves products of."""

import jax
import numpy as np
import pytest

from jaxstruct.ops._cpu.winograd import best_tile, winograd
from tests.ops import conv_reference

# (m, r), and what the error in float32 may be: what the docstring says, or three times what it is.
BOUNDS = {(2, 2): 2e-6, (3, 2): 3e-6, (4, 2): 5e-6} | {
    (2, 3): 3e-6,
    (4, 3): 3e-5,
    (3, 4): 1.5e-5,
    (2, 5): 4e-5,
}
NO_ENDS = ((0, 0), (0, 0))


def example(r, size, channels=4, depth=3, batch=2, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = (batch, *size, channels), (r, r, channels, depth)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize(("m", "r"), BOUNDS)
def test_float32(m, r):
    ends = ((1, 2), (0, 1))
    x, kernel = example(r, (18, 17), 24, 20, dtype=np.float32)
    f = lambda x, kernel: winograd(m, x, kernel, ends)
    assert conv_reference.largest_error(f, x, kernel, ends=ends) < BOUNDS[m, r]


@pytest.mark.parametrize(("m", "r"), BOUNDS)
def test_the_matrices_are_exact(m, r):
    ends = ((2, 1), (0, 3))
    f = lambda x, kernel: winograd(m, x, kernel, ends)
    with jax.enable_x64(True):
        assert conv_reference.largest_error(f, *example(r, (9, 7)), ends=ends) < 1e-12


@pytest.mark.parametrize(
    ("m", "r", "size", "ends"),
    [
        (2, 2, (2, 2), NO_ENDS),  # one result of one tile
        (2, 2, (1, 1), ((0, 1), (3, 0))),  # one pixel
        (2, 2, (5, 3), NO_ENDS),  # of whole tiles
        (2, 3, (3, 11), NO_ENDS),  # smaller than a tile, and not
        (2, 3, (1, 1), ((1, 1), (1, 1))),
    ],
)
def test_small_images(m, r, size, ends):
    f = lambda x, kernel: winograd(m, x, kernel, ends)
    with jax.enable_x64(True):
        assert conv_reference.largest_error(f, *example(r, size, 1, 2), ends=ends) < 1e-12


def test_forward_mode_and_twice():
    ends = ((1, 0), (1, 0))
    f = lambda x, kernel: winograd(2, x, kernel, ends)
    with jax.enable_x64(True):
        assert conv_reference.largest_derivative_error(f, *example(2, (5, 4)), ends=ends) < 1e-12


@pytest.mark.parametrize(
    ("batch", "number", "kernel", "expected"),
    [
        (1, (32, 32), (3, 3, 64, 64), (4, 64 * 36)),
        (1, (31, 32), (3, 3, 64, 64), (4, 64 * 36)),  # whole tiles, the last one partly for nothing
        (1, (16, 32), (3, 3, 64, 64), (2, 128 * 16)),  # F(4, 3) has 32 tiles alone
        (64, (9, 9), (2, 2, 256, 512), (3, 9 * 64 * 16)),
        (64, (5, 5), (2, 2, 512, 1024), (3, 4 * 64 * 16)),
        (1, (15, 15), (3, 3, 64, 64), (2, 64 * 16)),
        (1, (14, 14), (3, 3, 64, 64), (0, 0)),  # 49 tiles
        (64, (9, 9), (2, 3, 64, 64), (0, 0)),
        (64, (9, 9), (1, 1, 64, 64), (0, 0)),
        (64, (9, 9), (6, 6, 64, 64), (0, 0)),
        (64, (9, 9), (2, 2, 20, 64), (0, 0)),  # 30 channels in the harmonic mean
        (64, (9, 9), (2, 2, 22, 64), (3, 9 * 64 * 16)),
    ],
)
def test_the_tile_of_the_fewest_products(batch, number, kernel, expected):
    assert best_tile(batch, number, kernel, None) == expected
    assert best_tile(batch, number, kernel, "highest") == (0, 0)
