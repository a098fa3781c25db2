"""ROI pooling by hand, against a slow reference and torchvision's recorded answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxstruct.ops import region_pooling, roi_pool, spatial_pyramid_pool
from tests.ops import recording, roi_reference

RECORDED = recording.recorded("ops_roi.npz", "pool")
SHAPE = (9, 12, 4)


@pytest.fixture(params=["eager", "jit", "batch", "vmap"])
def mode(request):
    """The one-example function in four ways of calling it."""

    def batched(f):
        return lambda x, rois: f(jnp.stack([x, x + 1]), jnp.stack([rois, rois]))[0]

    def mapped(f):
        return lambda x, rois: jax.vmap(f)(jnp.stack([x + 1, x]), jnp.stack([rois, rois]))[1]

    return {"eager": lambda f: f, "jit": jax.jit, "batch": batched, "vmap": mapped}[request.param]


def example(seed, regions, shape=SHAPE, ties=False):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=shape).astype(np.float32)
    if ties:
        features = np.maximum(np.round(2 * features), 0)
    rois = rng.uniform(-3, 15, (regions, 4)).astype(np.float32)
    return features, rois


def pull(f, features, pulled):
    """The gradient of f(features), whose cotangent is `pulled`."""
    return np.asarray(jax.jit(lambda x, p: jax.vjp(f, x)[1](p)[0])(features, pulled))


def test_by_hand():
    # Cells 0..15 in rows of four. x1 = 0, x2 = 3: four cells, two bins of two.
    x = jnp.arange(16.0).reshape(4, 4, 1)
    whole = roi_pool(x, jnp.array([[0.0, 0, 3, 3]]), output_size=2)
    np.testing.assert_array_equal(whole[0, :, :, 0], [[5, 7], [13, 15]])
    # Three cells in two bins of 1.5: [0, 2) and [1, 3), which share the middle one.
    shared = roi_pool(x, jnp.array([[0.0, 0, 2, 0]]), output_size=(1, 2))
    np.testing.assert_array_equal(shared[0, 0, :, 0], [1, 2])
    # At 16 pixels a cell, 24 and 40 are 1.5 and 2.5 cells, which round to 2 and 3.
    scaled = roi_pool(x, jnp.array([[24.0, 24, 24, 40]]), output_size=1, spatial_scale=1 / 16)
    assert scaled.item() == 14
    # -0.5 rounds to -1: of the cells -1, 0, 1 the bin keeps two.
    cut = roi_pool(x, jnp.array([[-0.5, 0, 1, 0]]), output_size=1)
    assert cut.item() == 1


def test_bins_of_a_region_smaller_than_the_output_repeat_cells():
    x = jnp.arange(16.0).reshape(4, 4, 1)
    out = roi_pool(x, jnp.array([[1.0, 2, 2, 2]]), output_size=4)
    np.testing.assert_array_equal(out[0, :, :, 0], [[9, 9, 10, 10]] * 4)
    gradient = pull(
        lambda x: roi_pool(x, jnp.array([[1.0, 2, 2, 2]]), output_size=4), x, out * 0 + 1
    )
    assert gradient[2, 1, 0] == gradient[2, 2, 0] == 8
    assert gradient.sum() == 16


@pytest.mark.parametrize("case", RECORDED, ids=roi_reference.name)
def test_recorded_values_and_gradients_are_equal_to_the_bit(case):
    options, answer = case
    f = lambda x: roi_pool(x, answer["rois"], **options)
    pulled = answer["pulled"].astype(np.float32)
    out, back = jax.vjp(f, answer["features"])
    np.testing.assert_array_equal(out, answer["out"])
    # Sums of whole numbers: equal, and each went where the recorded index is.
    gradient = back(jnp.asarray(pulled))[0]
    np.testing.assert_array_equal(gradient, answer["gradient"])
    expected = roi_reference.scatter(answer["index"].astype(int), pulled, gradient.shape)
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("case", RECORDED[:6:2], ids=roi_reference.name)
def test_recorded_answers_with_constant_regions(case):
    # What XLA knows while it compiles it folds, and simplifies in another order.
    options, answer = case
    rois = answer["rois"]
    out = jax.jit(lambda x: roi_pool(x, rois, **options))(answer["features"])
    np.testing.assert_array_equal(out, answer["out"])


def test_bin_edges_of_every_length():
    # The maximum of a rising ramp is the last cell of a bin, of its negative the first.
    length = 120
    ramp = np.arange(length, dtype=np.float32).reshape(1, length, 1)
    rois = np.array([[0, 0, n, 0] for n in range(length)], np.float32)
    for count in (3, 6, 7, 11, 13):
        expected = np.array(
            [roi_reference.pool_bins(0, n, count, length, 1) for n in range(length)]
        )
        last = roi_pool(ramp, rois, output_size=(1, count))[:, 0, :, 0]
        begin = -roi_pool(-ramp, rois, output_size=(1, count))[:, 0, :, 0]
        np.testing.assert_array_equal(begin, expected[..., 0])
        np.testing.assert_array_equal(last, expected[..., 1] - 1)


@pytest.mark.parametrize("size", [1, (2, 5)])
def test_slow_reference(size, mode):
    features, rois = example(1, 15, ties=True)
    expected, index = roi_reference.pool(features, rois, size, 0.7)
    f = mode(partial(roi_pool, output_size=size, spatial_scale=0.7))
    np.testing.assert_array_equal(f(features, rois), expected)
    pulled = np.random.default_rng(2).integers(1, 99, expected.shape).astype(np.float32)
    gradient = pull(lambda x: f(x, rois), features, pulled)
    np.testing.assert_array_equal(gradient, roi_reference.scatter(index, pulled, SHAPE))


def test_a_large_map_needs_many_steps():
    features, rois = example(3, 6, (70, 90, 2), ties=True)
    rois = rois * 6
    expected, index = roi_reference.pool(features, rois, 2, 1.0)
    f = partial(roi_pool, output_size=2)
    np.testing.assert_array_equal(f(features, rois), expected)
    pulled = np.arange(expected.size, dtype=np.float32).reshape(expected.shape)
    gradient = pull(lambda x: f(x, rois), features, pulled)
    np.testing.assert_array_equal(gradient, roi_reference.scatter(index, pulled, features.shape))


def test_outside_and_unknown_regions_are_zero_without_gradient():
    features = np.full(SHAPE, 5, np.float32)
    nan, inf = np.nan, np.inf
    rois = [[20, 0, 30, 5], [0, -9, 5, -3], [nan, 0, 3, 3], [0, 0, nan, 3], [0, 0, 3, inf]]
    rois = np.array([*rois, [-inf, 0, 3, 3], [1e30, 0, 2e30, 3], [0, -1e30, 3, 1e30]], np.float32)
    out = roi_pool(features, rois, output_size=2)
    np.testing.assert_array_equal(out[:-1], 0)
    # All that lies between -1e30 and 1e30 is in one of two bins, the border between them is 0.
    np.testing.assert_array_equal(out[-1], np.broadcast_to([[[0]], [[5]]], (2, 2, 4)))
    gradient = pull(lambda x: roi_pool(x, rois[:-1], output_size=2), features, out[:-1] * 0 + 1)
    np.testing.assert_array_equal(gradient, 0)


def test_nan_features_are_never_chosen():
    features = np.full((4, 4, 2), np.nan, np.float32)
    features[1, 2, 0] = -7
    rois = jnp.array([[0.0, 0, 3, 3]])
    f = partial(roi_pool, rois=rois, output_size=1)
    np.testing.assert_array_equal(f(features)[0, 0, 0], [-7, np.finfo(np.float32).min])
    gradient = pull(f, features, np.ones((1, 1, 1, 2), np.float32))
    assert gradient[1, 2, 0] == 1
    assert gradient.sum() == 1


@pytest.mark.parametrize("size", [1, 3])
def test_no_regions(size):
    features, rois = example(0, 0)
    f = partial(roi_pool, rois=rois, output_size=size)
    assert f(features).shape == (0, size, size, 4)
    np.testing.assert_array_equal(pull(f, features, f(features)), 0)
    batch = roi_pool(np.zeros((2, *SHAPE)), np.zeros((2, 0, 4)), output_size=size)
    assert batch.shape == (2, 0, size, size, 4)
    assert spatial_pyramid_pool(features, rois).shape == (0, 200)
    assert roi_pool(np.zeros((3, 3, 0)), np.zeros((5, 4)), output_size=2).shape == (5, 2, 2, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    features, rois = example(4, 12)
    with jax.enable_x64(True):
        x = jnp.asarray(features, dtype)
        f = partial(roi_pool, output_size=3)
        out = f(x, rois)
        assert out.dtype == dtype
        expected, index = roi_reference.pool(np.asarray(x, np.float64), rois, 3, 1.0)
        np.testing.assert_array_equal(np.asarray(out, np.float64), expected)
        pulled = jnp.asarray(np.random.default_rng(0).normal(size=out.shape), dtype)
        gradient = jax.vjp(lambda x: f(x, rois), x)[1](pulled)[0]
        assert gradient.dtype == dtype
        summed = roi_reference.scatter(index, np.asarray(pulled, np.float64), SHAPE)
        # bfloat16 is rounded once, at the end.
        tolerance = {jnp.bfloat16: 2**-8, jnp.float32: 1e-6, jnp.float64: 1e-14}[dtype]
        np.testing.assert_allclose(np.asarray(gradient, np.float64), summed, tolerance, tolerance)
        # Regions in bfloat16 are what they are in float32, and wide ones are used as they are.
        narrow = jnp.asarray(rois, jnp.bfloat16)
        np.testing.assert_array_equal(f(x, narrow), f(x, narrow.astype(jnp.float32)))
        assert f(x, jnp.asarray(rois, jnp.float64)).dtype == dtype


def test_large_coordinates_keep_their_cells_in_bfloat16_features():
    # bfloat16 has no 257; regions are computed with in float32 whatever the features are.
    x = jnp.arange(300).reshape(1, 300, 1).astype(jnp.bfloat16)
    out = roi_pool(x, jnp.array([[257.0, 0, 257, 0]]), output_size=1)
    assert out.item() == jnp.bfloat16(257)


def test_gradient_of_regions_is_zero():
    features, rois = example(5, 3)
    gradient = jax.jit(jax.grad(lambda r: roi_pool(features, r, output_size=2).sum()))(rois)
    np.testing.assert_array_equal(gradient, np.zeros_like(rois))


def test_gradient_is_finite_differences():
    features, rois = example(6, 5, (5, 6, 2))
    rois = rois / 2
    with jax.enable_x64(True):
        x = jnp.asarray(features, jnp.float64)
        f = lambda x: (roi_pool(x, rois, output_size=3) ** 2).sum()
        gradient = jax.jit(jax.grad(f))(x)
        steps = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
        moved = jax.jit(jax.vmap(lambda step: f(x + step) - f(x - step)))(steps) / 2e-6
        np.testing.assert_allclose(gradient, moved.reshape(x.shape), rtol=1e-6, atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(-3, 3), st.integers(-3, 3))
def test_permutation_and_translation(seed, down, right):
    features, rois = example(seed, 8)
    f = partial(roi_pool, output_size=3)
    out = np.asarray(f(features, rois))
    order = np.random.default_rng(seed).permutation(8)
    np.testing.assert_array_equal(f(features, rois[order]), out[order])
    # Moved features and regions pool the same, with room around, and with whole cells: halves
    # round away from zero on both of its sides.
    whole = np.round(rois) + 10
    around = np.pad(features, ((10, 10), (10, 10), (0, 0)))
    moved = np.roll(around, (down, right), (0, 1))
    by = np.array([right, down, right, down], np.float32)
    np.testing.assert_array_equal(f(moved, whole + by), f(around, whole))


POOL = partial(roi_pool, output_size=(2, 3))
PULL = jax.jit(lambda x, r, p: jax.vjp(lambda x: POOL(x, r), x)[1](p)[0])
MAPPED = {
    axes: (jax.jit(jax.vmap(POOL, axes)), jax.jit(jax.vmap(PULL, (*axes, 0))))
    for axes in ((0, 0), (None, 0), (0, None))
}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_vmap_is_the_loop_in_every_way_of_mapping(seed, batch):
    pairs = [example(seed + i, 6) for i in range(batch)]
    features, rois = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    pulled = np.random.default_rng(seed).integers(1, 9, (batch, 6, 2, 3, 4)).astype(np.float32)
    for axes, (mapped, pulled_back) in MAPPED.items():
        one = [
            (features[i if axes[0] == 0 else 0], rois[i if axes[1] == 0 else 0])
            for i in range(batch)
        ]
        given = [a if axis == 0 else a[0] for a, axis in zip((features, rois), axes, strict=True)]
        out = mapped(*given)
        np.testing.assert_array_equal(out, np.stack([POOL(*pair) for pair in one]))
        gradient = pulled_back(*given, pulled)
        loop = [PULL(*pair, p) for pair, p in zip(one, pulled, strict=True)]
        np.testing.assert_array_equal(gradient, np.stack(loop))
    np.testing.assert_array_equal(POOL(features, rois), MAPPED[0, 0][0](features, rois))


def test_vmap_of_vmap_and_of_a_batch():
    features, rois = example(7, 5, (2, 3, *SHAPE[:2], 1))[0], example(7, 2 * 3 * 5)[1]
    rois = rois.reshape(2, 3, 5, 4)
    f = partial(roi_pool, output_size=2)
    loop = np.stack(
        [[f(x, r) for x, r in zip(*pair, strict=True)] for pair in zip(features, rois, strict=True)]
    )
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(f)))(features, rois), loop)
    np.testing.assert_array_equal(jax.jit(jax.vmap(f))(features, rois), loop)
    total = lambda x, r: (f(x, r) ** 2).sum()
    twice = jax.jit(jax.vmap(jax.vmap(jax.grad(total))))(features, rois)
    once = jax.jit(jax.vmap(jax.grad(total)))(features, rois)
    np.testing.assert_array_equal(twice, once)
    summed = jax.jit(jax.grad(lambda x: jax.vmap(total)(x, rois).sum()))(features)
    np.testing.assert_allclose(summed, once, rtol=1e-6)


def test_features_that_a_vmap_shares_add_their_gradients():
    features, rois = example(8, 12)
    rois = rois.reshape(3, 4, 4)
    f = lambda x, r: (roi_pool(x, r, output_size=2) ** 2).sum()
    together = jax.jit(jax.grad(lambda x: jax.vmap(f, (None, 0))(x, rois).sum()))(features)
    alone = jax.jit(jax.grad(f))
    np.testing.assert_allclose(together, sum(alone(features, r) for r in rois), rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_pmap_and_shard_map(devices, shared):
    pairs = [example(i, 6) for i in range(4)]
    features, rois = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    if shared:
        features = features[:1].repeat(4, 0)
    f = lambda x, r: (roi_pool(x, r, output_size=3) ** 2).sum()
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(f)))(features, rois)
    if not shared:
        for a, b in zip(
            jax.pmap(jax.value_and_grad(f))(features, rois), (value, gradient), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5)
    mesh = jax.make_mesh((4,), ("i",), devices=devices(4), axis_types=(jax.sharding.AxisType.Auto,))

    def step(x, r):
        # Two examples' sum: with shared features, each device sees all of them and one region set.
        return jax.lax.psum(f(x[0], r[0]), "i")

    spec = P() if shared else P("i")
    whole = jax.shard_map(step, mesh=mesh, in_specs=(spec, P("i")), out_specs=P())
    put = lambda a, s: jax.device_put(a, NamedSharding(mesh, s))
    total, pulled = jax.jit(jax.value_and_grad(whole))(put(features, spec), put(rois, P("i")))
    np.testing.assert_allclose(total, value.sum(), rtol=1e-5)
    expected = np.concatenate([gradient.sum(0)[None], 0 * gradient[1:]]) if shared else gradient
    np.testing.assert_allclose(pulled, expected, rtol=1e-5, atol=1e-5)

    # The gradient inside of the shards, where features that are shared vary over no axis.
    inner = jax.shard_map(
        lambda x, r: jax.grad(lambda x: f(x[0], r[0]))(x),
        mesh=mesh,
        in_specs=(spec, P("i")),
        out_specs=spec,
    )
    pulled = jax.jit(inner)(put(features, spec), put(rois, P("i")))
    np.testing.assert_allclose(pulled, expected, rtol=1e-5, atol=1e-5)


def test_the_form_for_accelerators(on_accelerator):
    # The branch that a CPU never takes gives the same on one.
    options, answer = RECORDED[1]
    on_accelerator(region_pooling._roi_pool)
    out, back = jax.vjp(lambda x: roi_pool(x, answer["rois"], **options), answer["features"])
    gradient = back(jnp.asarray(answer["pulled"], jnp.float32))[0]
    np.testing.assert_array_equal(out, answer["out"])
    np.testing.assert_array_equal(gradient, answer["gradient"])


def test_pyramid_is_its_levels_in_order():
    features, rois = example(9, 5)
    out = spatial_pyramid_pool(features, rois, spatial_scale=0.5)
    assert out.shape == (5, 50 * 4)
    start = 0
    for level in (6, 3, 2, 1):
        pooled = roi_pool(features, rois, output_size=level, spatial_scale=0.5)
        stop = start + level**2 * 4
        np.testing.assert_array_equal(out[:, start:stop], pooled.reshape(5, -1))
        start = stop
    # Bin (row 1, column 2) of the level 3, channel 3, stands at 36 C + (1 * 3 + 2) C + 3.
    pooled = roi_pool(features, rois, output_size=3, spatial_scale=0.5)
    np.testing.assert_array_equal(out[:, (36 + 5) * 4 + 3], pooled[:, 1, 2, 3])
    batch = spatial_pyramid_pool(features[None], rois[None], levels=[2, 1])
    np.testing.assert_array_equal(batch[0], spatial_pyramid_pool(features, rois, levels=(2, 1)))


def test_pyramid_by_hand():
    x = jnp.arange(16.0).reshape(4, 4, 1)
    out = spatial_pyramid_pool(x, jnp.array([[0.0, 0, 3, 3]]), levels=(2, 1))
    np.testing.assert_array_equal(out, [[5, 7, 13, 15, 15]])


@pytest.mark.parametrize(
    ("features", "rois", "message"),
    [
        ((3, 3, 2), (4,), r"features \(3, 3, 2\) and rois \(4,\), expected \[H, W, C\]"),
        ((3, 3, 2), (5, 3), r"rois \(5, 3\)"),
        ((3, 3, 2), (1, 5, 4), r"rois \(1, 5, 4\)"),
        ((2, 3, 3, 2), (5, 4), r"features \(2, 3, 3, 2\)"),
        ((2, 3, 3, 2), (3, 5, 4), r"\[B, H, W, C\] and \[B, R, 4\]"),
        ((3, 3), (5, 4), r"features \(3, 3\)"),
        ((0, 3, 2), (5, 4), "expected at least one row and column"),
    ],
)
def test_shape_errors(features, rois, message):
    with pytest.raises(ValueError, match=message):
        roi_pool(np.zeros(features), np.zeros(rois), output_size=2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"output_size": 0},
            ValueError,
            "output_size is 0, expected one or two integers, 1 at least",
        ),
        ({"output_size": (2, 2, 2)}, ValueError, r"output_size is \(2, 2, 2\)"),
        ({"output_size": (2, -1)}, ValueError, r"output_size is \(2, -1\)"),
        ({"output_size": 2.0}, TypeError, "output_size is 2.0, expected an integer or a pair"),
        ({"output_size": True}, TypeError, "output_size is True"),
        ({"output_size": jnp.int32(2)}, TypeError, "output_size"),
        (
            {"output_size": 2, "spatial_scale": 0},
            ValueError,
            "spatial_scale is 0, expected a finite",
        ),
        ({"output_size": 2, "spatial_scale": np.inf}, ValueError, "spatial_scale is inf"),
        (
            {"output_size": 2, "spatial_scale": "1"},
            TypeError,
            "spatial_scale is '1', expected a num",
        ),
    ],
)
def test_option_errors(options, error, message):
    with pytest.raises(error, match=message):
        roi_pool(np.zeros((3, 3, 1)), np.zeros((1, 4)), **options)


def test_dtype_and_level_errors():
    x, rois = np.zeros((3, 3, 1)), np.zeros((1, 4))
    with pytest.raises(TypeError, match="features has dtype uint8, expected a floating dtype"):
        roi_pool(x.astype(np.uint8), rois, output_size=2)
    with pytest.raises(TypeError, match="rois has dtype int32"):
        roi_pool(x, rois.astype(np.int32), output_size=2)
    with pytest.raises(TypeError, match="levels is 3, expected a sequence"):
        spatial_pyramid_pool(x, rois, levels=3)
    with pytest.raises(ValueError, match="levels is 0, expected an integer of at least 1"):
        spatial_pyramid_pool(x, rois, levels=(2, 0))
    with pytest.raises(ValueError, match=r"levels is \(\), expected at least one"):
        spatial_pyramid_pool(x, rois, levels=())
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda s: roi_pool(x, rois, output_size=2, spatial_scale=s))(1.0)
