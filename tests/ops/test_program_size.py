"""The size of a program: it does not grow with a kernel's taps, a window or a number of features.

Lines of the lowered text stand for the time that compiling takes.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import conv, gaussian_filter, max_pool, upconv
from tests.ops.conv_reference import slow


def lines(f, *shapes):
    """Of a function that returns its value and all gradients, on a CPU."""

    def both(*arrays):
        out, pull = jax.vjp(f, *arrays)
        return out, pull(out)

    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    traced = jax.jit(both).trace(*given)
    return len(traced.lower(lowering_platforms=("cpu",)).as_text().splitlines())


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2, 64])
def test_taps_of_a_convolution(stride, groups):
    f = partial(conv, stride=stride, groups=groups)
    found = [lines(f, (1, 96, 96, 4), (k, k, 4 // groups, 4)) for k in (7, 8, 21, 41)]
    # A sum of shifted images of 49 taps has most; beyond, one convolution or product has a few.
    assert found[0] <= {1: 420, 4: 2000}[groups]  # the gradient by a depthwise kernel has bands
    assert found[1] == found[2] == found[3] <= 65


def test_taps_of_an_upconvolution():
    f = partial(upconv, stride=2)
    found = [lines(f, (1, 9, 9, 4), (k, k, 4, 3)) for k in (4, 12, 21, 41)]
    assert found[0] <= 210
    assert found[1] <= 1350  # of 36 taps
    assert found[3] == found[2] <= 135


def test_the_window_of_a_max_pool():
    for stride in (1, 2, 32):
        f = lambda window: partial(max_pool, window=window, stride=stride)  # noqa: B023
        found = [lines(f(k), (1, 600, 600, 1)) for k in (4, 32, 64, 512)]
        assert found[0] <= 235
        # From 32 to 64 is one doubling, along two axes, and from 64 to 512 are three.
        assert found[2] - found[1] <= 70
        assert found[3] - found[2] <= 3 * 70


@pytest.mark.parametrize("filter", ["lattice", "exact"])
def test_features_of_a_gaussian_filter(filter):
    f = partial(gaussian_filter, filter=filter, capacity=30)
    if filter == "lattice":  # whose gradient reaches the values alone
        g = lambda values, features: f(values, jax.lax.stop_gradient(features))
    else:
        g = f
    found = [lines(g, (20, 2), (20, depth)) for depth in (5, 8, 12, 30, 100)]
    # 6000 lines compile in some five seconds. The two last sizes have many words a key.
    most = {"lattice": (4100, 5900, 2600, 2050, 2050), "exact": (365, 500, 165, 165, 165)}
    assert all(n <= bound for n, bound in zip(found, most[filter], strict=True)), found
    assert found[4] == found[3], found


@pytest.mark.parametrize(
    ("size", "stride", "dilation"),
    [
        ((8, 8), (8, 8), (1, 1)),
        ((9, 8), (9, 10), (1, 1)),
        ((9, 9), (1, 1), (1, 1)),
        ((8, 7), (2, 2), (1, 2)),
    ],
)
def test_values_and_gradients_of_many_taps(size, stride, dilation):
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 26, 31, 3)).astype(np.float32)
    kernel = rng.integers(-3, 4, (*size, 3, 2)).astype(np.float32)
    padding = ((2, 1), (0, 3))
    f = jax.jit(partial(conv, stride=stride, dilation=dilation, padding=padding))
    expected, back = slow(x, kernel, stride, padding, dilation)
    out, pull = jax.vjp(f, x, kernel)
    np.testing.assert_array_equal(out, expected)
    pulled = rng.integers(-3, 4, expected.shape).astype(np.float32)
    for gradient, slow_gradient in zip(pull(pulled), back(pulled), strict=True):
        np.testing.assert_array_equal(gradient, slow_gradient)


def pooled(x, window, stride):
    """[H, W] by hand: of each window its largest value, and where that stands first."""
    rows, columns = ((n - window) // stride + 1 for n in x.shape)
    gradient, out = np.zeros_like(x), np.zeros((rows, columns), x.dtype)
    for i, j in np.ndindex(rows, columns):
        part = x[i * stride : i * stride + window, j * stride : j * stride + window]
        first = np.unravel_index(part.argmax(), part.shape)
        out[i, j] = part[first]
        gradient[i * stride + first[0], j * stride + first[1]] += 1 + i + 10 * j
    return out, gradient


@pytest.mark.parametrize("window", [2, 3, 5, 6, 7, 12])
@pytest.mark.parametrize("stride", [1, 2, 5, 7])
def test_values_and_gradients_of_large_windows(window, stride):
    # So few values that most windows have several largest ones.
    x = np.random.default_rng(window).integers(0, 4, (23, 19)).astype(np.float32)
    out, gradient = pooled(x, window, stride)
    rows, columns = np.indices(out.shape)
    weights = (1 + rows + 10 * columns).astype(np.float32)[..., None]
    f = lambda x: max_pool(x[..., None], window, stride=stride)
    np.testing.assert_array_equal(f(x)[..., 0], out)
    np.testing.assert_array_equal(jax.grad(lambda x: (f(x) * weights).sum())(x), gradient)


def test_the_last_of_several_nans_gets_the_gradient():
    x = jnp.arange(64.0).reshape(8, 8, 1).at[([1, 2, 2], [5, 1, 3])].set(jnp.nan)
    f = lambda x: max_pool(x, 8, stride=8).sum()
    assert np.isnan(f(x))
    gradient = jax.grad(f)(x)[..., 0]
    assert np.argwhere(gradient).tolist() == [[2, 3]]
