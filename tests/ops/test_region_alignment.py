"""ROIAlign by hand, against a slow reference and torchvision's recorded answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxstruct.ops import region_alignment, roi_align
from tests.ops import recording, roi_reference

RECORDED = recording.recorded("ops_roi.npz", "align")
SHAPE = (7, 9, 3)
MODES = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "batch": lambda f: lambda x, r: f(jnp.stack([x + 1, x]), jnp.stack([r, r]))[1],
    "vmap": lambda f: lambda x, r: jax.vmap(f)(jnp.stack([x, x + 1]), jnp.stack([r, r]))[0],
}


def example(seed, regions, shape=SHAPE):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-3, 11, (regions, 2, 2))
    rois = np.concatenate([corners.min(1), corners.max(1)], -1).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32), rois


def test_by_hand():
    # Cells 0..15 in rows of four, a plane: a sample at (x, y) is x + 4 y, and so is a bin's mean.
    x = jnp.arange(16.0).reshape(4, 4, 1)
    rois = jnp.array([[0.0, 0, 2, 2]])
    out = roi_align(x, rois, output_size=2, sampling_ratio=2)
    np.testing.assert_allclose(out[0, :, :, 0], [[2.5, 3.5], [6.5, 7.5]])
    # aligned moves all by half a cell, where the first samples are at -1/4 and clamp to 0.
    out = roi_align(x, rois, output_size=2, sampling_ratio=1, aligned=True)
    np.testing.assert_allclose(out[0, :, :, 0], [[0, 1], [4, 5]])
    # No width: at least 1 if not aligned, so the one sample is half a cell further.
    out = roi_align(x, jnp.array([[1.0, 1, 1, 1]]), output_size=1, sampling_ratio=1)
    assert out.item() == 1.5 + 4 * 1.5
    # Within a cell outside the border's value, beyond it 0: samples at -1, -0.5, 0.
    line = jnp.full((1, 4, 1), 6.0)
    out = roi_align(line, jnp.array([[-1.75, 0, 1.25, 1]]), output_size=(1, 3), sampling_ratio=1)
    np.testing.assert_allclose(out[0, 0, :, 0], [0, 6, 6])


def test_adaptive_sampling_by_hand():
    # Bins of 2.5 cells take ceil(2.5) = 3 samples, at 5/12, 15/12, 25/12 of a squared ramp.
    x = (jnp.arange(8.0) ** 2).reshape(1, 8, 1)
    out = roi_align(x, jnp.array([[0.0, 0, 5, 1]]), output_size=(1, 2), sampling_ratio=0)
    at = (np.arange(6) + 0.5) * 5 / 6
    expected = np.interp(at, np.arange(8), np.arange(8) ** 2).reshape(2, 3).mean(1)
    np.testing.assert_allclose(out[0, 0, :, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("case", RECORDED, ids=roi_reference.name)
def test_recorded_values_and_gradients(case):
    options, answer = case
    f = lambda x: roi_align(x, answer["rois"], **options)
    out, back = jax.vjp(f, answer["features"])
    np.testing.assert_allclose(out, answer["out"], rtol=0, atol=2e-5)
    pulled = answer["pulled"].astype(np.float32)
    gradient = back(jnp.asarray(pulled))[0]
    # Up to 1000 each and many a cell: relative to the largest sum.
    scale = np.abs(answer["gradient"]).max()
    np.testing.assert_allclose(gradient / scale, answer["gradient"] / scale, rtol=0, atol=2e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("ratio", "aligned"), [(0, True), (3, False)])
def test_slow_reference(ratio, aligned, mode):
    features, rois = example(1, 8)
    options = {"output_size": (2, 3), "spatial_scale": 0.7, "sampling_ratio": ratio}
    expected, weights = roi_reference.align(features, rois, *options.values(), aligned)
    f = MODES[mode](partial(roi_align, **options, aligned=aligned))
    out, back = jax.vjp(lambda x: f(x, rois), features)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    pulled = np.random.default_rng(2).normal(size=expected.shape).astype(np.float32)
    gradient = np.einsum("rijhw,rijc->hwc", weights, pulled)
    np.testing.assert_allclose(back(jnp.asarray(pulled))[0], gradient, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_the_number_of_samples_is_exact_where_bins_are_whole(ratio):
    # Widths of j T cells have bins of exactly j: a quotient that is above it takes one sample more.
    count = 7
    rois = np.array([[0, 0, count * j, 1] for j in range(1, 9)], np.float32)
    x = np.random.default_rng(0).normal(size=(2, 60, 2)).astype(np.float32)
    out = roi_align(x, rois, output_size=(1, count), sampling_ratio=ratio)
    expected, _ = roi_reference.align(x, rois, (1, count), 1.0, ratio, False)
    np.testing.assert_allclose(out, expected, atol=3e-6)


@pytest.mark.parametrize("ratio", [0, 2])
def test_outside_and_unknown_regions_are_zero_without_gradient(ratio):
    features, nan, inf = np.full(SHAPE, 5, np.float32), np.nan, np.inf
    rois = [[20, 0, 30, 5], [0, -9, 5, -3], [nan, 0, 3, 3], [0, 0, nan, 3], [0, 0, 3, inf]]
    rois = np.array([*rois, [-inf, 0, 3, 3]], np.float32)
    f = lambda x: roi_align(x, rois, output_size=2, sampling_ratio=ratio)
    out, back = jax.vjp(f, features)
    np.testing.assert_array_equal(out, 0)
    np.testing.assert_array_equal(back(jnp.ones_like(out))[0], 0)


def test_regions_without_width_and_far_ones():
    features = np.full(SHAPE, 5, np.float32)
    malformed = np.array([[3, 3, 3, 6], [6, 3, 3, 6]], np.float32)
    adaptive = roi_align(features, malformed, output_size=2, aligned=True)
    np.testing.assert_array_equal(adaptive, 0)
    one_cell = roi_align(features, malformed, output_size=2, aligned=False)
    np.testing.assert_allclose(one_cell, 5, rtol=1e-6)
    # A region as wide as a continent ends, and what it has of the features is next to nothing.
    far = roi_align(features, np.array([[-1e9, 0, 1e9, 5]], np.float32), output_size=2)
    assert np.all(np.abs(far) < 5)


def test_no_regions_and_no_channels():
    features, rois = example(0, 0)
    out, back = jax.vjp(lambda x: roi_align(x, rois, output_size=3), features)
    assert out.shape == (0, 3, 3, 3)
    np.testing.assert_array_equal(back(out)[0], np.zeros(SHAPE))
    assert roi_align(np.zeros((3, 3, 0)), np.zeros((5, 4)), output_size=2).shape == (5, 2, 2, 0)
    batch = roi_align(np.zeros((2, *SHAPE)), np.zeros((2, 0, 4)), output_size=2)
    assert batch.shape == (2, 0, 2, 2, 3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    features, rois = example(4, 6)
    with jax.enable_x64(True):
        x = jnp.asarray(features, dtype)
        boxes = jnp.asarray(rois, jnp.float64 if dtype == jnp.float64 else jnp.float32)
        out, back = jax.vjp(lambda x: roi_align(x, boxes, output_size=2), x)
        expected, weights = roi_reference.align(np.asarray(x), rois, 2, 1.0, 0, False)
        # bfloat16 is rounded once, at the end.
        tolerance = {jnp.bfloat16: 2**-7, jnp.float32: 2e-6, jnp.float64: 1e-12}[dtype]
        assert out.dtype == dtype
        np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=tolerance)
        pulled = jnp.asarray(np.random.default_rng(0).normal(size=out.shape), dtype)
        gradient = back(pulled)[0]
        assert gradient.dtype == dtype
        summed = np.einsum("rijhw,rijc->hwc", weights, np.asarray(pulled, np.float64))
        np.testing.assert_allclose(
            np.asarray(gradient, np.float64), summed, rtol=tolerance, atol=tolerance
        )


def test_gradient_is_finite_differences_and_that_of_regions_zero():
    features, rois = example(6, 3, (4, 5, 2))
    with jax.enable_x64(True):
        x = jnp.asarray(features, jnp.float64)
        f = lambda x: (roi_align(x, rois, output_size=2, sampling_ratio=2) ** 2).sum()
        steps = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
        moved = jax.jit(jax.vmap(lambda step: f(x + step) - f(x - step)))(steps) / 2e-6
        gradient = jax.jit(jax.grad(f))(x)
        np.testing.assert_allclose(gradient, moved.reshape(x.shape), rtol=1e-6, atol=1e-8)
    by_rois = jax.jit(jax.grad(lambda r: roi_align(features, r, output_size=2).sum()))(rois)
    np.testing.assert_array_equal(by_rois, np.zeros_like(rois))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(-3, 3), st.integers(-3, 3))
def test_permutation_translation_and_linearity(seed, down, right):
    features, rois = example(seed, 6)
    f = partial(roi_align, output_size=2, sampling_ratio=2)
    out = np.asarray(f(features, rois))
    order = np.random.default_rng(seed).permutation(6)
    np.testing.assert_array_equal(f(features, rois[order]), out[order])
    around = np.pad(features, ((9, 9), (9, 9), (0, 0)))
    by = np.array([right, down, right, down], np.float32)
    moved = f(np.roll(around, (down, right), (0, 1)), rois + 9 + by)
    np.testing.assert_allclose(moved, f(around, rois + 9), atol=1e-5)
    np.testing.assert_allclose(f(3 * features, rois), 3 * out, rtol=1e-5, atol=1e-6)


def test_vmap_is_the_loop_in_every_way_of_mapping():
    pairs = [example(i, 5) for i in range(3)]
    features, rois = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    f = partial(roi_align, output_size=2)
    pulled = np.random.default_rng(0).normal(size=(3, 5, 2, 2, 3)).astype(np.float32)
    g = jax.jit(lambda x, r, p: jax.vjp(lambda x: f(x, r), x)[1](p)[0])
    for axes in ((0, 0), (None, 0), (0, None)):
        one = [
            (features[0 if axes[0] is None else i], rois[0 if axes[1] is None else i])
            for i in range(3)
        ]
        given = [a if axis == 0 else a[0] for a, axis in zip((features, rois), axes, strict=True)]
        loop = np.stack([f(*pair) for pair in one])
        np.testing.assert_allclose(jax.jit(jax.vmap(f, axes))(*given), loop, atol=1e-6)
        loop = np.stack([g(*pair, p) for pair, p in zip(one, pulled, strict=True)])
        mapped = jax.jit(jax.vmap(g, (*axes, 0)))
        np.testing.assert_allclose(mapped(*given, pulled), loop, atol=1e-5)
    np.testing.assert_array_equal(f(features, rois), jax.jit(jax.vmap(f))(features, rois))


@pytest.mark.parametrize("shared", [False, True])
def test_pmap_and_shard_map(devices, shared):
    pairs = [example(i, 5) for i in range(2)]
    features, rois = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    features = features[:1] if shared else features
    f = lambda x, r: (roi_align(x, r, output_size=2) ** 2).sum()
    both = jax.jit(jax.value_and_grad(f))
    one = [both(features[0 if shared else i], rois[i]) for i in range(2)]
    gradient = np.stack([g for _, g in one])
    if not shared:
        np.testing.assert_allclose(jax.pmap(jax.grad(f))(features, rois), gradient, rtol=1e-5)
    mesh = jax.make_mesh((2,), ("i",), (AxisType.Auto,), devices=devices(2))
    spec = P() if shared else P("i")
    placed = [
        jax.device_put(a, NamedSharding(mesh, s)) for a, s in ((features, spec), (rois, P("i")))
    ]
    inner = jax.shard_map(
        lambda x, r: jax.grad(lambda x: f(x[0], r[0]))(x),
        mesh=mesh,
        in_specs=(spec, P("i")),
        out_specs=spec,
    )
    expected = gradient.sum(0, keepdims=True) if shared else gradient
    np.testing.assert_allclose(jax.jit(inner)(*placed), expected, rtol=1e-4, atol=1e-5)


def test_the_form_for_accelerators(on_accelerator):
    # The branch that a CPU never takes gives the same on one.
    options, answer = RECORDED[2]
    on_accelerator(region_alignment._roi_align)
    out, back = jax.vjp(lambda x: roi_align(x, answer["rois"], **options), answer["features"])
    gradient = back(jnp.asarray(answer["pulled"], jnp.float32))[0]
    np.testing.assert_allclose(out, answer["out"], atol=2e-5)
    np.testing.assert_allclose(gradient, answer["gradient"], rtol=1e-4, atol=1e-1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"sampling_ratio": -1},
            ValueError,
            "sampling_ratio is -1, expected an integer of at least 0",
        ),
        ({"sampling_ratio": 2.0}, TypeError, "sampling_ratio is 2.0, expected an integer"),
        ({"aligned": 1}, TypeError, "aligned is 1, expected True or False"),
        ({"output_size": (0, 2)}, ValueError, r"output_size is \(0, 2\)"),
        ({"spatial_scale": -1.0}, ValueError, "spatial_scale is -1.0, expected a finite number"),
    ],
)
def test_option_errors(options, error, message):
    with pytest.raises(error, match=message):
        roi_align(np.zeros((3, 3, 1)), np.zeros((1, 4)), **({"output_size": 2} | options))


def test_argument_errors():
    with pytest.raises(ValueError, match=r"features \(3, 3\) and rois \(1, 4\), expected"):
        roi_align(np.zeros((3, 3)), np.zeros((1, 4)), output_size=2)
    with pytest.raises(TypeError, match="features has dtype int32, expected a floating"):
        roi_align(np.zeros((3, 3, 1), np.int32), np.zeros((1, 4)), output_size=2)
