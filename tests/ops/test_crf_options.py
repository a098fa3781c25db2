"""Dense CRFs: what their arguments may be, and a standard deviation for each axis."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import PermutohedralLattice, crf, dense_crf, mean_field
from tests.ops import crf_reference as reference
from tests.ops.conv_reference import quick
from tests.ops.test_crf import SIGMAS, WEIGHTS, example, scene, twice


def test_images_within_zero_and_one():
    unary, image = example()
    call = partial(dense_crf, unary, filter="exact", iterations=1)
    scaled = (image / 255).astype(np.float32)
    text = r"image reaches from 0 to 1, expected \[0, 255\], .*multiply it by 255"
    with pytest.raises(ValueError, match=text):
        call(scaled)
    with pytest.raises(ValueError, match="multiply it by 255"):
        call(scaled.astype(jnp.bfloat16))
    traced = jax.jit(call)(scaled)
    near = np.asarray(call(np.full_like(scaled, 0.5)))
    np.testing.assert_allclose(traced, near, atol=1e-2)
    np.testing.assert_array_equal(call(np.ones_like(scaled)), call(np.zeros_like(scaled)))
    assert call((image > 127).astype(np.uint8)).shape == unary.shape
    assert call(scaled * 2).shape == unary.shape
    assert call(scaled - 0.5).shape == unary.shape


@pytest.mark.parametrize(
    ("unary", "image"),
    [
        ((5, 6), (5, 6, 3)),
        ((1, 2, 5, 6, 3), (1, 2, 5, 6, 3)),
        ((5, 6, 3), (6, 5, 3)),
        ((5, 6, 3), (5, 6, 1)),
        ((5, 6, 3), (5, 6, 4)),
        ((5, 6, 3), (2, 5, 6, 3)),
        ((2, 5, 6, 3), (5, 6, 3)),
        ((5, 0, 3), (5, 0, 3)),
        ((5, 6, 0), (5, 6, 3)),
    ],
)
def test_shape_errors(unary, image):
    with pytest.raises(ValueError, match="expected") as caught:
        dense_crf(np.zeros(unary, np.float32), np.zeros(image, np.uint8))
    assert str(unary) in str(caught.value)
    if len(unary) in (3, 4) and 0 not in unary:
        assert f"got unary {unary} and image {image}" in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(5, 6), (5, 6, 1), (5, 5, 1), (5, 6, 4), (0, 6, 3), (2, 5, 6, 3), (2, 5, 6, 4)]
)
def test_images_that_have_no_kernels(shape):
    for filter in ("lattice", "exact"):
        with pytest.raises(ValueError, match="expected") as caught:
            crf.pixel_kernels(np.zeros(shape, np.uint8), filter=filter)
        assert str(caught.value) == f"image has shape {shape}, expected [H, W, 3]"


def test_features_of_any_number_of_colors_of_one_image():
    for colors in (1, 4):
        pixels = np.arange(6 * colors, dtype=np.float32).reshape(2, 3, colors)
        features = crf.pixel_features(pixels, 2.0, 4.0)
        np.testing.assert_array_equal(features[..., 2:], pixels / 4)
        np.testing.assert_array_equal(features[1, :, :2], [[0, 0.5], [0.5, 0.5], [1, 0.5]])
    for shape in ((5, 6), (2, 5, 6, 3)):
        with pytest.raises(ValueError, match=r"expected \[H, W, C\]$") as caught:
            crf.pixel_features(np.zeros(shape), 2.0, 4.0)
        assert f"image has shape {shape}, " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"filter": "grid"}, ValueError, "filter is 'grid', expected 'lattice' or 'exact'"),
        ({"iterations": 2.0}, TypeError, r"iterations is 2\.0, expected an integer"),
        ({"iterations": -1}, ValueError, "iterations is -1, expected an integer of at least 0"),
        ({"compatibility": 1.0}, ValueError, r"shape \(\), expected \(5,\) or \(5, 5\)"),
        ({"compatibility": np.ones(4)}, ValueError, r"shape \(4,\), expected \(5,\) or"),
        ({"compatibility": np.ones((3, 2))}, ValueError, r"shape \(3, 2\), expected"),
        ({"bilateral_weight": np.ones(2)}, ValueError, r"shape \(2,\), expected \(\), \(5,\) or"),
        ({"sigma_gaussian": 0.0}, ValueError, r"sigma_gaussian is 0\.0, expected a finite number"),
        ({"sigma_gaussian": "3"}, TypeError, "sigma_gaussian is '3', expected a number"),
        ({"sigma_xy": "3"}, TypeError, "sigma_xy is '3', expected a number"),
        (
            {"sigma_xy": (3, 5, 7)},
            ValueError,
            r"sigma_xy has shape \(3,\), expected \(\) or \(2,\)",
        ),
        ({"sigma_rgb": (3, 5)}, ValueError, r"sigma_rgb has shape \(2,\), expected \(\) or \(3,\)"),
        (
            {"sigma_gaussian": (3, 0.0)},
            ValueError,
            r"sigma_gaussian is \(3, 0\.0\), expected a fin",
        ),
        ({"bilateral_weight": np.nan}, ValueError, "NaN or infinite, expected finite costs"),
        ({"gaussian_weight": np.inf}, ValueError, "NaN or infinite, expected finite costs"),
        ({"compatibility": np.full(5, np.nan)}, ValueError, "NaN or infinite, expected finite"),
        ({"capacity": 0}, ValueError, "capacity is 0, expected an integer of at least 1"),
        ({"capacity": 3}, ValueError, r"capacity is 3, expected \d+ at least"),
    ],
)
def test_option_errors(options, error, text):
    image, unary = scene("chelsea")
    with pytest.raises(error, match=text):
        dense_crf(unary, image, **options)


@pytest.mark.parametrize("filter", ["exact", "lattice"])
@pytest.mark.parametrize("name", SIGMAS)
def test_a_standard_deviation_is_above_zero_and_finite(name, filter):
    unary, image = example()
    for wrong in (0, 0.0, -3.0, np.nan, np.inf, np.float32(0), jnp.zeros(()), (3.0, -5.0, 3.0)):
        wrong = wrong[: 3 if name == "sigma_rgb" else 2] if isinstance(wrong, tuple) else wrong
        with pytest.raises(ValueError, match=rf"{name} is .*, expected a finite number above 0"):
            dense_crf(unary, image, filter=filter, **{name: wrong})
    # What Python knows is known in a trace, too.
    with pytest.raises(ValueError, match=f"{name} is 0, expected a finite"):
        jax.jit(partial(dense_crf, filter=filter, **{name: 0}))(unary, image)


def test_a_standard_deviation_for_each_axis_and_color():
    unary, image = example()
    options = {"filter": "exact", "iterations": 2}
    equal = {"sigma_xy": (80, 80.0), "sigma_rgb": np.full(3, 13.0), "sigma_gaussian": [3.0, 3]}
    found, expected = (dense_crf(unary, image, **s, **options) for s in (equal, {}))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    sigmas = {"sigma_xy": (4.0, 2.0), "sigma_rgb": (9.0, 30.0, 70.0), "sigma_gaussian": (3.0, 1.0)}
    out = twice(unary, image, **sigmas)
    rows, columns = np.mgrid[:5, :6]
    places, colors = np.stack([columns, rows], -1), image.astype(float)
    features = [
        np.concatenate([places / (4, 2), colors / (9, 30, 70)], -1).reshape(-1, 5),
        (places / (3, 1)).reshape(-1, 2),
    ]
    kernels = list(zip(features, WEIGHTS.values(), strict=True))
    true = reference.mean_field(unary.reshape(-1, 3), kernels, 2)[-1]
    np.testing.assert_allclose(out, true.reshape(out.shape), atol=1e-5)
    # The lattice has the second kernel exactly, this near.
    near = quick(partial(dense_crf, iterations=2, capacity=60, bilateral_weight=0.0, **sigmas))
    expected = reference.mean_field(unary.reshape(-1, 3), [(features[1], 3.0)], 2)[-1]
    np.testing.assert_allclose(near(unary, image), expected.reshape(out.shape), atol=1e-4)


def test_dtype_errors():
    _, image = example()
    with pytest.raises(TypeError, match="unary has dtype uint8, expected a floating dtype"):
        dense_crf(image, image)
    with pytest.raises(TypeError, match="unary has dtype int32, expected a floating dtype"):
        mean_field(np.zeros((4, 3), np.int32), [])


def test_the_capacity_that_images_need():
    _, image = example()
    other = np.zeros_like(image)
    sigmas = {"sigma_xy": 4.0, "sigma_rgb": 9.0}
    used = [
        int(
            PermutohedralLattice.build(
                crf.pixel_features(one, *sigmas.values()).reshape(-1, 5)
            ).used
        )
        for one in (image, other)
    ]
    assert used[0] > used[1]
    assert crf.lattice_capacity(image, **sigmas) == used[0]
    assert crf.lattice_capacity(np.stack([other, image]), **sigmas) == used[0]
    build = partial(PermutohedralLattice.build, crf.pixel_features(image, 4.0, 9.0).reshape(-1, 5))
    with pytest.raises(ValueError, match=f"expected {used[0]} at least"):
        build(capacity=used[0] - 1)
    with pytest.raises(ValueError, match=r"expected \[H, W, 3\] or \[B, H, W, 3\]"):
        crf.lattice_capacity(image[..., :2])
    with pytest.raises(ValueError, match="too small for a lattice of these images"):
        crf.lattice_capacity(image, sigma_xy=1e-6, sigma_rgb=1.0)
