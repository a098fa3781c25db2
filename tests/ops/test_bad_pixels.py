"""What one NaN or infinity of an image reaches: who has a share in it, and nobody else.

Who has, a slow reference says: those whose value another pixel than 0 changes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import ops
from jaxstruct.ops import gaussian, pooling, region_alignment, upconvolution
from tests.ops import conv_reference, lattice_reference, roi_reference, sampling_reference
from tests.ops.conv_reference import quick

BAD = np.nan, np.inf, -np.inf


class Case(NamedTuple):
    """An op of an image, linear, and what it is to equal."""

    op: Callable[[Any], Any]
    slow: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]
    form: Any = None  # whose branch for accelerators is taken


def resize(shape, size, align_corners=False):
    return Case(
        partial(ops.resize_bilinear, size=size, align_corners=align_corners),
        partial(sampling_reference.resize, size=size, align_corners=align_corners),
        (*shape, 2),
    )


def slow_means(x, size):
    rows, columns = (
        [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        for n, m in zip(x.shape[:2], size, strict=True)
    )
    return np.array([[x[row, column].mean((0, 1)) for column in columns] for row in rows])


def means(shape, size):
    return Case(
        partial(ops.adaptive_mean_pool, size=size), partial(slow_means, size=size), (*shape, 2)
    )


# On pixels, between them, around the border, far outside, and unknown.
COORDS = [[0, 0], [2, 1], [3, 3], [1.5, 1], [0.25, 2.5], [-0.5, 1], [3.5, 2.25], [1, -0.75]]
COORDS += [[-1, 1], [4, 1], [-9, -9], [50, 1], [1, 1e20], [np.nan, 1], [1, -np.inf]]
COORDS = np.array(COORDS, np.float32)


def sample(outside):
    return Case(
        partial(ops.bilinear_sample, coords=COORDS, outside=outside),
        partial(sampling_reference.sample, coords=COORDS, outside=outside),
        (4, 4, 2),
    )


ROIS = [[0, 0, 4, 4], [1, 1, 3, 3], [0.5, 1, 3.75, 2], [-3, -2, 2, 3], [3, 2, 8, 9]]
ROIS += [
    [-9, -4, 9, 14],
    [3, 4, 1, 2],
    [20, 20, 30, 30],
    [-9, 0, -4, 2],
    [np.nan, 0, 2, 2],
    [0, 0, np.inf, 2],
]
ROIS = np.array(ROIS, np.float32)


def align(ratio, aligned, form=None):
    slow = lambda x: roi_reference.align(x, ROIS, 2, 1.0, ratio, aligned)[0]
    op = partial(ops.roi_align, rois=ROIS, output_size=2, sampling_ratio=ratio, aligned=aligned)
    return Case(op, slow, (5, 6, 1), form)


def conv(kernel, stride=(1, 1), low=0, dilation=(1, 1), groups=1):
    kernel = np.ones(kernel, np.float32)
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    slow = partial(conv_reference.slow, kernel=kernel, ends=((low, low),) * 2, **options)
    op = partial(ops.conv, kernel=kernel, padding=low, **options)
    return Case(op, lambda x: slow(x[None])[0], (6, 5, kernel.shape[2] * groups))


def up(kernel, stride, form=None):
    kernel = np.ones(kernel, np.float32)
    size = [(n - 1) * stride + k for n, k in zip((3, 4), kernel.shape[:2], strict=True)]
    return Case(
        partial(ops.upconv, kernel=kernel, stride=stride, padding=0),
        partial(conv_reference.slow_up, kernel=kernel, stride=(stride,) * 2, low=(0, 0), size=size),
        (3, 4, kernel.shape[2]),
        form,
    )


def cut_gaussian(reach):
    near = [abs(np.subtract.outer(np.arange(n), np.arange(n))) <= reach for n in (7, 6)]
    slow = lambda x: np.einsum("ij,jlc,kl->ikc", *(near[0] * 1.0, x, near[1] * 1.0))
    return Case(gaussian.GridGaussian(2.0, reach), slow, (7, 6, 1))


def lattice():
    features = 4 * np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)

    def slow(values):
        grid = lattice_reference.blur(lattice_reference.splat(features, values), range(3))
        return lattice_reference.slice_(features, grid)

    return Case(partial(ops.gaussian_filter, features=features, capacity=40), slow, (40, 1))


CASES = {
    "resize 6 to 9": resize((6, 6), (9, 9)),
    "resize up and down": resize((5, 7), (8, 3)),
    "resize by whole factors": resize((3, 4), (9, 8)),
    "resize a row": resize((1, 4), (3, 7)),
    "resize corner to corner": resize((4, 5), (7, 8), True),
    "resize from many to few": resize((40, 3), (2, 2), True),
    "resize from few to many": resize((2, 1), (200, 1)),
    "means of equal cells": means((6, 4), (3, 2)),
    "means of cells that overlap": means((7, 5), (3, 4)),
    "means of all": means((150, 2), (1, 1)),
    "means of many": means((151, 1), (1, 2)),
    "means of many that overlap": means((271, 1), (2, 1)),
    "means of more cells than pixels": means((3, 2), (5, 3)),
    "sample, zero outside": sample("zero"),
    "sample, edge outside": sample("edge"),
    "align": align(2, False),
    "align one sample": align(1, False),
    "align adaptively": align(0, False),
    "align, aligned": align(3, True),
    "align adaptively, aligned": align(0, True),
    "align elsewhere": align(0, False, region_alignment._roi_align),
    "conv": conv((3, 3, 2, 2), low=1),
    "conv of stride 2": conv((3, 2, 2, 1), (2, 2)),
    "conv with dilation": conv((2, 3, 1, 2), dilation=(3, 2), low=2),
    "conv of 1x1": conv((1, 1, 2, 2), (2, 1)),
    "conv in groups": conv((3, 3, 2, 4), low=1, groups=2),
    "conv of each channel": conv((3, 3, 1, 2), low=1, groups=2),
    "upconv": up((4, 4, 3, 2), 2),
    "upconv of stride 1": up((3, 3, 2, 1), 1),
    "upconv of 3x3": up((3, 3, 3, 2), 2),
    "upconv of 3x3, at once": up((3, 3, 33, 1), 2),
    "upconv of 3x3, gathered": up((3, 3, 1, 4), 2),
    "upconv of 5x2, gathered": up((5, 2, 1, 4), 3),
    "upconv of a kernel below the stride": up((2, 1, 1, 4), 3),
    "upconv of 3x3, elsewhere": up((3, 3, 2, 1), 2, upconvolution._form),
    "upconv of 2x4, elsewhere": up((2, 4, 1, 1), 3, upconvolution._form),
    "Gaussian, cut off": cut_gaussian(2),
    "lattice": lattice(),
}


def shares(case):
    """bool [values of the image, results]: who has a share in what."""
    size = np.prod(case.shape)
    return np.array([case.slow(x).ravel() != 0 for x in np.eye(size).reshape(size, *case.shape)])


def with_one(bad, shape):
    """Arrays [n, *shape] of n values, of which in each another one is bad."""
    good = np.random.default_rng(0).normal(size=shape)
    one = np.eye(good.size, dtype=bool).reshape(good.size, *shape)
    return np.where(one, bad, good[None]).astype(np.float32)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_bad_value_reaches_those_who_have_a_share_in_it(case, on_accelerator):
    if case.form:
        on_accelerator(case.form)
    expected = shares(case)
    assert not expected.all()  # one channel does not reach the other
    given = np.stack([with_one(bad, case.shape) for bad in BAD])
    spec = jax.ShapeDtypeStruct(case.shape, np.float32)
    pulled = np.stack([with_one(bad, jax.eval_shape(case.op, spec).shape) for bad in BAD])
    zero = np.zeros(case.shape, np.float32)

    @quick
    def both(given, pulled):
        back = lambda one: jax.vjp(case.op, zero)[1](one)[0]
        return jax.lax.map(case.op, given), jax.lax.map(back, pulled)

    for i in range(len(BAD)):
        for array, who in zip(both(given[i], pulled[i]), (expected, expected.T), strict=True):
            np.testing.assert_array_equal(~np.isfinite(array).reshape(who.shape), who)


def places(out):
    """(rows, columns) of the pixels that are not finite, [H, W, C]."""
    return tuple(np.unique(at).tolist() for at in np.nonzero(~np.isfinite(out).all(-1)))


@pytest.mark.parametrize("bad", BAD)
def test_winograds_algorithm_gives_it_to_tiles_and_the_highest_precision_does_not(bad):
    x = np.ones((32, 32, 32), np.float32)
    x[9, 10, 3] = bad
    see = partial(ops.conv, x, np.ones((3, 3, 32, 32), np.float32))
    give = partial(ops.upconv, x, np.ones((4, 4, 32, 16), np.float32), stride=2)
    tiled, plain = (
        [places(quick(partial(f, precision=precision))()) for f in (see, give)]
        for precision in (None, "highest")
    )
    assert plain[0] == ([8, 9, 10], [9, 10, 11])
    assert plain[1] == ([17, 18, 19, 20], [19, 20, 21, 22])
    for mine, few in zip(tiled, plain, strict=True):
        assert all(set(a) > set(b) for a, b in zip(mine, few, strict=True))


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_largest_of_a_window_is_a_bad_value_unless_it_is_minus_infinity(
    elsewhere, on_accelerator
):
    if elsewhere:
        on_accelerator(pooling._form)
    see = conv((3, 3, 1, 1), (2, 2), 1)
    f = jax.vmap(lambda x: ops.max_pool(x, 3, stride=2, padding=1))
    for bad in BAD:
        found = ~np.isfinite(f(with_one(bad, see.shape)))
        expected = shares(see) & (bad != -np.inf)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_only_infinity_is_pooled_from_a_region():
    rois = ROIS[np.isfinite(ROIS).all(1)]
    f = jax.vmap(lambda x: ops.roi_pool(x, rois, output_size=2))
    for bad in BAD:
        given = with_one(bad, (5, 6, 1))
        found = ~np.isfinite(f(given))
        expected = [~np.isfinite(roi_reference.pool(x, rois, 2, 1.0)[0]) for x in given]
        np.testing.assert_array_equal(found, expected)
        assert found.any() == (bad == np.inf)


@pytest.mark.parametrize("outside", ["zero", "edge"])
def test_a_bad_value_reaches_the_derivatives_by_the_coordinates_that_see_it(outside):
    coords = [[1.5, 1.25], [2, 0.5], [-0.5, 1.5], [3.5, 2.25], [-9, 1.5], [np.nan, 1], [1, np.inf]]
    coords = np.array(coords, np.float32)
    case = sample(outside)
    f = lambda y, x, image: ops.bilinear_sample(image, jnp.stack([x, y], -1), outside=outside).sum()
    by_y = jax.jit(jax.vmap(jax.grad(f), (None, None, 0)))
    seen = shares(case._replace(slow=partial(case.slow, coords=coords)))
    seen = seen.reshape(len(seen), len(coords), -1).any(-1)
    for bad in BAD:
        found = ~np.isfinite(by_y(coords[:, 1], coords[:, 0], with_one(bad, case.shape)))
        np.testing.assert_array_equal(found, seen)


@pytest.mark.parametrize("noise", [ops.masking_noise, ops.salt_and_pepper_noise])
def test_what_noise_replaces_may_be_bad(noise):
    x = np.full((3, 8), np.nan, np.float32)
    out, back = jax.vjp(lambda x: noise(jax.random.key(0), x, 0.5), x)
    assert np.isfinite(out).sum(1).tolist() == [4, 4, 4]
    gone = np.isfinite(out)
    np.testing.assert_array_equal(back(jnp.where(gone, jnp.nan, 1))[0], ~gone)
