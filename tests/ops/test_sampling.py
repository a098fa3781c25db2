"""Sampling and resizing by hand, against slow references and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstruct.ops import bilinear_sample, resize_bilinear
from tests.ops import sampling_reference as reference

SAMPLE = jax.jit(bilinear_sample, static_argnames="outside")


def example(seed, shape=(5, 7, 2), points=(4, 3)):
    rng = np.random.default_rng(seed)
    coords = rng.uniform(-2, 8, (*points, 2)).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), coords


def test_sample_by_hand():
    image = jnp.arange(6.0).reshape(2, 3, 1)
    coords = jnp.array([[0.0, 0], [2, 1], [0.5, 0], [1.25, 0.5], [-0.5, 0], [2.75, 1], [3, 0]])
    zero = bilinear_sample(image, coords)[:, 0]
    np.testing.assert_allclose(zero, [0, 5, 0.5, 1.25 + 1.5, 0, 1.25, 0])
    edge = bilinear_sample(image, coords, outside="edge")[:, 0]
    np.testing.assert_allclose(edge, [0, 5, 0.5, 1.25 + 1.5, 0, 5, 2])


def test_a_flow_of_whole_pixels_shifts_an_image():
    image, _ = example(0)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(7.0), jnp.arange(5.0)), -1)
    # What moved by (2, 1) between two frames is read where it now is.
    warped = bilinear_sample(image, grid + jnp.array([2.0, 1.0]).reshape(1, 1, 2))
    np.testing.assert_array_equal(warped[:-1, :-2], image[1:, 2:])
    np.testing.assert_array_equal(warped[-1], 0)


@pytest.mark.parametrize("outside", ["zero", "edge"])
def test_sample_slow_reference(outside):
    image, coords = example(1)
    f = partial(bilinear_sample, outside=outside)
    expected = reference.sample(image, coords, outside)
    for way in (f, jax.jit(f)):
        np.testing.assert_allclose(way(image, coords), expected, atol=1e-6)
    images, many = jnp.stack([image, 2 * image]), jnp.stack([coords, coords + 1])
    loop = [f(*pair) for pair in zip(images, many, strict=True)]
    np.testing.assert_allclose(jax.jit(f)(images, many), np.stack(loop), atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(f))(images, many), np.stack(loop), atol=1e-6)
    np.testing.assert_array_equal(f(image, coords[0, 0]), f(image, coords)[0, 0])


@pytest.mark.parametrize("outside", ["zero", "edge"])
def test_sample_gradients_are_finite_differences(outside):
    image, coords = example(2, (3, 4, 2), (5,))
    with jax.enable_x64(True):
        values = [jnp.asarray(image, jnp.float64), jnp.asarray(coords, jnp.float64)]
        f = lambda image, coords: (bilinear_sample(image, coords, outside=outside) ** 2).sum()
        for i in range(2):
            steps = 1e-6 * np.eye(values[i].size).reshape(-1, *values[i].shape)
            put = lambda v, i=i: f(*values[:i], v, *values[i + 1 :])
            move = lambda s, i=i, put=put: put(values[i] + s) - put(values[i] - s)
            moved = jax.jit(jax.vmap(move))(steps)
            expected = moved.reshape(values[i].shape) / 2e-6
            for derive in (jax.jacrev, jax.jacfwd):
                found = jax.jit(derive(f, i))(*values)
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_at_whole_coordinates_the_derivative_is_the_one_to_the_right_and_downwards():
    image = jnp.array([[1.0, 4], [16, 64]]).reshape(2, 2, 1)
    by_coords = jax.grad(lambda coords: bilinear_sample(image, coords).sum())
    assert by_coords(jnp.array([0.0, 0])).tolist() == [3, 15]
    assert by_coords(jnp.array([-1.0, 0])).tolist() == [1, 0]
    assert by_coords(jnp.array([1.0, 1])).tolist() == [-64, -64]


@pytest.mark.parametrize("outside", ["zero", "edge"])
def test_unknown_coordinates_are_zero_without_gradient(outside):
    image = jnp.ones((3, 3, 1))
    coords = jnp.array([[jnp.nan, 0], [0, jnp.nan], [jnp.inf, 0], [0, -jnp.inf]])
    f = jax.jit(lambda image, coords: bilinear_sample(image, coords, outside=outside))
    out, back = jax.vjp(f, image, coords)
    np.testing.assert_array_equal(out, 0)
    for gradient in back(jnp.ones_like(out)):
        np.testing.assert_array_equal(gradient, 0)
    far = f(image, jnp.array([[1e20, 0.0]])).item()
    assert far == (1 if outside == "edge" else 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    image, coords = example(3)
    with jax.enable_x64(True):
        image = jnp.asarray(image, dtype)
        out = bilinear_sample(image, coords)
        resized = resize_bilinear(image, (3, 9))
        assert out.dtype == resized.dtype == dtype
        gradient = jax.grad(lambda v: bilinear_sample(v, coords).sum())
        assert jax.eval_shape(gradient, image).dtype == dtype
        expected = reference.sample(np.asarray(image, np.float64), coords, "zero")
        tolerance = 2**-7 if dtype == jnp.bfloat16 else 1e-6
        np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=tolerance)


def test_resize_by_hand():
    image = jnp.array([[0.0, 4]]).reshape(1, 2, 1)
    half = resize_bilinear(image, (1, 4))[0, :, 0]
    np.testing.assert_allclose(half, [0, 1, 3, 4])
    corners = resize_bilinear(image, (1, 5), align_corners=True)[0, :, 0]
    np.testing.assert_allclose(corners, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(resize_bilinear(image, (3, 1))[:, 0, 0], [2, 2, 2])
    np.testing.assert_allclose(resize_bilinear(image, 1, align_corners=True).item(), 0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(10, 14), (3, 4), (1, 9), (5, 7), (40, 21), (5, 35)])
def test_resize_slow_reference(size, align_corners):
    image, _ = example(4)
    f = partial(resize_bilinear, size=size, align_corners=align_corners)
    expected = reference.resize(image, size, align_corners)
    np.testing.assert_allclose(f(image), expected, atol=2e-6)
    np.testing.assert_allclose(jax.jit(f)(image), expected, atol=2e-6)
    batch = jnp.stack([image, image + 1])
    np.testing.assert_allclose(f(batch)[0], expected, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(f)(batch), f(batch), atol=2e-6)
    if size == (5, 7):
        np.testing.assert_array_equal(f(image), image)


@pytest.mark.parametrize("size", [(8, 3), (10, 28), (15, 7)])
def test_resize_gradient_is_the_transpose(size):
    # A linear map: <f(a), b> = <a, gradient at b>.
    image, _ = example(5)
    f = partial(resize_bilinear, size=size)
    out, back = jax.vjp(f, image)
    other = np.random.default_rng(0).normal(size=out.shape).astype(np.float32)
    expected = np.sum(image * np.asarray(back(other)[0]))
    assert np.sum(np.asarray(out) * other) == pytest.approx(expected, rel=1e-4)


def test_a_single_pixel_fills_any_size():
    pixel = jnp.array([3.0, jnp.inf]).reshape(1, 1, 2)
    np.testing.assert_array_equal(resize_bilinear(pixel, (2, 3))[..., 0], 3)
    gradient = jax.grad(lambda v: resize_bilinear(v, (2, 3))[..., 0].sum())(pixel)
    np.testing.assert_array_equal(gradient[0, 0], [6, 0])


@pytest.mark.parametrize("size", [(8, 6), (9, 3)])
def test_nothing_is_a_product_of_matrices_or_a_scatter(size):
    f = jax.jit(jax.grad(lambda x: resize_bilinear(x, size).sum()))
    for platform in ("cpu", "cuda", "tpu"):
        text = f.trace(jnp.ones((4, 2, 1))).lower(lowering_platforms=(platform,)).as_text()
        assert "dot_general" not in text
        assert "scatter" not in text


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_points_are_independent_and_images_enter_linearly(seed):
    image, coords = example(seed, points=(6,))
    order = np.random.default_rng(seed).permutation(6)
    out = np.asarray(SAMPLE(image, coords))
    np.testing.assert_array_equal(SAMPLE(image, coords[order]), out[order])
    np.testing.assert_allclose(SAMPLE(3 * image, coords), 3 * out, rtol=1e-5, atol=1e-6)
    ramp = image * 0 + np.arange(7, dtype=np.float32)[None, :, None]
    inside = SAMPLE(ramp, coords, outside="edge")[:, 0]
    np.testing.assert_allclose(inside, np.clip(coords[:, 0], 0, 6), atol=1e-5)


def test_empty_points():
    image, _ = example(0)
    assert bilinear_sample(image, np.zeros((0, 2))).shape == (0, 2)
    assert bilinear_sample(image[None], np.zeros((1, 2))).shape == (1, 2)


def test_errors_name_what_was_given():
    image, coords = np.zeros((3, 3, 1)), np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"image \(3, 3\) and coords \(2, 2\), expected"):
        bilinear_sample(image[..., 0], coords)
    with pytest.raises(ValueError, match=r"coords \(2, 3\)"):
        bilinear_sample(image, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\[B, H, W, C\] and \[B, ..., 2\]"):
        bilinear_sample(image[None], coords)
    with pytest.raises(ValueError, match="outside is 'wrap', expected 'zero' or 'edge'"):
        bilinear_sample(image, coords, outside="wrap")
    with pytest.raises(TypeError, match="coords has dtype int32"):
        bilinear_sample(image, coords.astype(np.int32))
    with pytest.raises(ValueError, match=r"image has shape \(3, 3\), expected \[H, W, C\]"):
        resize_bilinear(image[..., 0], 2)
    with pytest.raises(ValueError, match=r"size is \(2, 0\)"):
        resize_bilinear(image, (2, 0))
    with pytest.raises(TypeError, match="align_corners is 0, expected True or False"):
        resize_bilinear(image, 2, align_corners=0)
