"""The Fréchet distance in closed form and by SciPy's root; moments in parts and far from zero."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Moments, frechet_distance


def covariance(dimensions, examples, seed):
    """Of so many random examples: singular where they are fewer than the dimensions."""
    return np.cov(np.random.default_rng(seed).normal(size=(examples, dimensions)), rowvar=False)


def test_by_hand():
    # In one dimension: (3 - 1)^2 + (sqrt(9) - sqrt(4))^2.
    assert frechet_distance([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx(5)
    # Of equal covariances only the means are left, of equal means and one point the spread.
    assert frechet_distance([1, 2], np.eye(2), [4, 6], np.eye(2)) == pytest.approx(25)
    assert frechet_distance([0, 0], np.zeros((2, 2)), [0, 0], [[2, 1], [1, 3]]) == pytest.approx(5)


@pytest.mark.parametrize("zeros", [0, 3])
def test_covariances_that_commute(zeros):
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    a, b = rng.uniform(0.1, 4, (2, 8))
    a[:zeros] = 0
    mean_a, mean_b = rng.normal(size=(2, 8))
    expected = np.sum((mean_a - mean_b) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    found = frechet_distance(mean_a, axes * a @ axes.T, mean_b, axes * b @ axes.T)
    # A root of what should be 0 and is rounded, 1e-16, is 1e-8.
    assert found == pytest.approx(expected, rel=1e-7)


def test_covariances_that_do_not_commute():
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    a, b = covariance(12, 40, 0), 3 * covariance(12, 20, 1)
    expected = np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(np.zeros(12), a, np.zeros(12), b) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_are_the_limit_of_others():
    # 5 examples of 20 dimensions on either side: the product of the covariances has rank 4, and
    # its eigenvalues' roots are of rounding 1e-8.
    a, b, zero = covariance(20, 5, 0), covariance(20, 5, 1), np.zeros(20)
    found = frechet_distance(zero, a, zero, b)
    near = frechet_distance(zero, a + 1e-13 * np.eye(20), zero, b + 1e-13 * np.eye(20))
    assert found == pytest.approx(near, abs=1e-5)
    # Examples in subspaces at right angles: nothing overlaps.
    left, right = np.diag([1.0, 2, 0, 0]), np.diag([0, 0, 3.0, 4])
    assert frechet_distance(zero[:4], left, zero[:4], right) == pytest.approx(10, rel=1e-14)


@pytest.mark.parametrize("examples", [5, 100])
def test_equal_gaussians_have_no_distance_and_order_does_not_matter(examples):
    a, b = covariance(20, examples, 0), covariance(20, examples, 1)
    mean = np.arange(20.0)
    assert 0 <= frechet_distance(mean, a, mean, a) < 1e-12
    one, other = frechet_distance(mean, a, -mean, b), frechet_distance(-mean, b, mean, a)
    assert one == pytest.approx(other, rel=1e-13)
    assert one > 1


def test_scale_is_squared():
    a, b, mean = covariance(6, 30, 0), covariance(6, 30, 1), np.ones(6)
    one = frechet_distance(mean, a, 0 * mean, b)
    assert frechet_distance(7 * mean, 49 * a, 0 * mean, 49 * b) == pytest.approx(49 * one)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2,), (2, 2), (3,), (3, 3)), r"means \(2,\), \(3,\) and covariances \(2, 2\), \(3, 3\)"),
        (((2,), (2,), (2,), (2, 2)), r"expected \[D\], \[D\] and \[D, D\], \[D, D\]"),
        (((2, 1), (2, 2), (2, 1), (2, 2)), r"means \(2, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(*(np.zeros(shape) for shape in shapes))


def test_what_is_no_covariance():
    root = np.linalg.cholesky(covariance(4, 20, 0))
    for pair in ((root, np.eye(4)), (np.eye(4), root)):
        with pytest.raises(ValueError, match=r"differs from its transpose by .*, expected a symm"):
            frechet_distance(np.zeros(4), pair[0], np.zeros(4), pair[1])
    with pytest.raises(ValueError, match="covariance with the eigenvalue -2, expected none below"):
        frechet_distance(np.zeros(2), np.diag([5.0, -2.0]), np.zeros(2), np.eye(2))


def test_a_covariance_of_float32_is_one_but_for_rounding():
    # Of rank 4 in 20 dimensions: neither its transpose nor its eigenvalues are exact.
    x = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32) * np.float32(1e3)
    a = np.asarray((x - x.mean(0)).T @ (x - x.mean(0)) / np.float32(4), np.float64)
    a += np.random.default_rng(1).normal(size=a.shape) * np.abs(a).max() * 1e-6
    assert np.abs(a - a.T).max() > 0
    assert np.linalg.eigvalsh(a).min() < 0
    zero = np.zeros(20)
    assert frechet_distance(zero, a, zero, a) < 1e-3 * np.trace(a)


def test_values_that_are_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance([0.0], [[np.nan]], [0.0], [[1.0]])


def test_moments_by_hand():
    moments = Moments.of([[1, 0], [3, 4]])
    assert moments.count == 2
    np.testing.assert_array_equal(moments.mean, [2, 2])
    np.testing.assert_array_equal(moments.covariance, [[2, 4], [4, 8]])


@pytest.mark.parametrize("far", [0, 1e6])
def test_moments_in_parts_are_those_of_all(far):
    x = np.random.default_rng(0).normal(size=(60, 5)) @ np.diag([1, 2, 3, 0.1, 1]) + far
    parts = [Moments.of(part) for part in np.split(x, [1, 20, 50])]
    there = parts[0].add(parts[1]).add(parts[2]).add(parts[3])
    back = parts[3].add(parts[2].add(parts[1].add(parts[0])))
    for moments in (there, back):
        assert moments.count == 60
        np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-12, atol=1e-12)
        expected = np.cov(x, rowvar=False)
        # A sum of squares in float64 would be wrong by 1e-4 where x is a million.
        np.testing.assert_allclose(moments.covariance, expected, rtol=1e-8, atol=1e-8)


def test_moments_of_the_device_s_floats_are_float64():
    moments = Moments.of(jnp.full((3, 2), 0.1, jnp.bfloat16))
    assert moments.mean.dtype == moments.scatter.dtype == np.float64
    np.testing.assert_allclose(moments.covariance, 0, atol=1e-30)


@pytest.mark.parametrize("width", [1, 3])
def test_moments_of_other_widths_do_not_add_up(width):
    two, other = Moments.of(np.eye(2)), Moments.of(np.ones((4, width)))
    message = rf"means \(2,\), \({width},\) and scatters \(2, 2\), \({width}, {width}\), expected"
    with pytest.raises(ValueError, match=message):
        two.add(other)
    with pytest.raises(ValueError, match=r"scatters \(2, 2\), \(1, 1\), expected"):
        two.add(two._replace(scatter=np.ones((1, 1))))


def test_moments_of_nothing():
    with pytest.raises(ValueError, match=r"features \(0, 3\), expected \[N, D\] with N above 0"):
        Moments.of(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"features \(3,\), expected"):
        Moments.of(np.zeros(3))
    with pytest.raises(ValueError, match="1 example, expected two"):
        _ = Moments.of(np.zeros((1, 3))).covariance
