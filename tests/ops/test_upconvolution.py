"""Upconvolution by hand, against linen's and against PyTorch's recorded answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxstruct.ops import (
    bilinear_kernel,
    resize_bilinear,
    torch_upconv_kernel,
    upconv,
    upconvolution,
)
from tests.ops import conv_reference

# Channels and depth for which a kernel of 4 and a stride of 2 take each of the forms.
FORMS = {"gathered": (1, 5), "at once": (41, 1), "one by one": (3, 2)}
PRODUCTS = {"gathered": 1, "at once": 1, "one by one": 4}
SIZE = (5, 4)


def example(seed, channels, depth, kernel=(4, 4), size=SIZE, whole=False):
    rng = np.random.default_rng(seed)
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else (lambda s: rng.normal(size=s))
    shapes = (*size, channels), (*kernel, channels, depth)
    return [draw(shape).astype(np.float32) for shape in shapes]


def test_by_hand():
    # A line of two, a kernel of three, the strides 1 and 2: each input adds the kernel, backwards.
    x, kernel = jnp.array([1.0, 10]).reshape(1, 2, 1), jnp.array([1.0, 2, 3]).reshape(1, 3, 1, 1)
    up = lambda **options: upconv(x, kernel, **options)[0, :, 0].tolist()
    assert up(stride=1, padding=0) == [3, 2 + 30, 1 + 20, 10]
    assert up(stride=(1, 2), padding=0) == [3, 2, 1 + 30, 20, 10]
    assert up(stride=(1, 2), padding=(0, 1)) == [2, 31, 20]
    assert up(stride=(1, 2), padding=(0, 1), output_padding=(0, 1)) == [2, 31, 20, 10]
    assert up(stride=(1, 2)) == [3, 2, 31, 20]
    assert up(stride=(1, 4), padding="VALID") == [3, 2, 1, 0, 30, 20, 10, 0]
    assert up(stride=(1, 4), padding=0) == [3, 2, 1, 0, 30, 20, 10]
    # 8 pixels, k 4, stride 2, padding 1 make 16.
    assert upconv(*example(0, 1, 1, size=(8, 8)), stride=2, padding=1).shape == (16, 16, 1)


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("case", conv_reference.recorded("upconv"), ids=conv_reference.name)
def test_recorded_values_and_gradients_are_equal_to_the_bit(case, accelerator, on_accelerator):
    # Whole numbers, whose sums are exact.
    if accelerator:
        on_accelerator(upconvolution._form)
    options, answer = case
    f = lambda x, weight: upconv(x, torch_upconv_kernel(weight), **options)
    conv_reference.equal(f, answer)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1), (2, 5)])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 4), (5, 3)])
def test_values_and_gradients_of_linen(kernel, stride, padding):
    x, weights = example(1, 3, 2, kernel)
    strides = (stride, stride) if isinstance(stride, int) else stride
    layer = nn.ConvTranspose(2, kernel, strides, padding, use_bias=False)
    theirs = lambda x, kernel: layer.apply({"params": {"kernel": kernel}}, x)
    ours = partial(upconv, stride=stride, padding=padding)
    expected = theirs(x, weights)
    pulled = np.random.default_rng(2).normal(size=expected.shape).astype(np.float32)
    both = lambda f: jax.jit(lambda *g: (f(*g), jax.vjp(f, *g)[1](pulled)))(x, weights)
    for a, b in zip(*map(jax.tree.leaves, (both(ours), both(theirs))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_slow_reference(form):
    x, kernel = example(3, *FORMS[form], whole=True)
    f = partial(upconv, stride=2, padding=1)
    expected = conv_reference.slow_up(x, kernel, (2, 2), (1, 1), (10, 8))
    for way in (f, jax.jit(f)):
        np.testing.assert_array_equal(way(x, kernel), expected)
    images, kernels = jnp.stack([x, 2 * x]), jnp.stack([kernel, kernel + 1])
    np.testing.assert_array_equal(f(images, kernel), [expected, 2 * expected])
    for axes in ((0, None), (None, 0), (0, 0)):
        given = [v[0] if a is None else v for v, a in zip((images, kernels), axes, strict=True)]
        pick = lambda v, a, i: v if a is None else v[i]
        loop = [f(*(pick(v, a, i) for v, a in zip(given, axes, strict=True))) for i in (0, 1)]
        np.testing.assert_array_equal(jax.vmap(f, axes)(*given), np.stack(loop))


@pytest.mark.parametrize("form", [*FORMS, "accelerator"])
def test_gradients_in_both_modes_and_twice(form, on_accelerator):
    if form == "accelerator":
        on_accelerator(upconvolution._form)
    with jax.enable_x64(True):
        given = example(4, *FORMS.get(form, (3, 2)), size=(2, 3))
        given = [jnp.asarray(array, jnp.float64) for array in given]
        f = jax.jit(lambda x, kernel: (upconv(x, kernel, stride=2) ** 3).sum())
        rng = np.random.default_rng(5)
        way = [jnp.asarray(rng.normal(size=array.shape)) for array in given]
        along = lambda f, t: f(*(a + t * d for a, d in zip(given, way, strict=True)))
        dot = lambda gradients: sum((g * d).sum() for g, d in zip(gradients, way, strict=True))
        expected = (along(f, 1e-5) - along(f, -1e-5)) / 2e-5
        gradient = jax.grad(f, (0, 1))
        forward = lambda f: jax.jit(lambda given, way: jax.jvp(f, given, way)[1])(given, way)
        np.testing.assert_allclose(dot(jax.jit(gradient)(*given)), expected, rtol=1e-7)
        np.testing.assert_allclose(forward(f), expected, rtol=1e-7)
        second = jax.jit(lambda *given: dot(gradient(*given)))
        expected = (along(second, 1e-5) - along(second, -1e-5)) / 2e-5
        twice = jax.jit(jax.grad(second, (0, 1)))(*given)
        np.testing.assert_allclose(dot(twice), expected, rtol=1e-7)
        np.testing.assert_allclose(forward(second), expected, rtol=1e-7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtypes(form, dtype):
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(a, dtype) for a in example(6, *FORMS[form]))
        f = partial(upconv, stride=2, padding=1)
        out, back = jax.vjp(f, x, kernel)
        wide = [np.asarray(a, np.float64) for a in (x, kernel)]
        expected = conv_reference.slow_up(*wide, (2, 2), (1, 1), (10, 8))
        # Narrow ones are added up in float32, and rounded once.
        tolerance = {jnp.bfloat16: 2**-8, jnp.float16: 2**-11, jnp.float32: 1e-5}
        tolerance = tolerance.get(dtype, 1e-13)
        assert out.dtype == dtype
        out = np.asarray(out, np.float64)
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=1e-5 * (tolerance > 1e-9))
        pulled = jnp.asarray(np.random.default_rng(7).normal(size=out.shape), dtype)
        pull = jax.jit(lambda given, pulled: jax.vjp(f, *given)[1](pulled))
        gradients = pull(wide, np.asarray(pulled, np.float64))
        for ours, true in zip(back(pulled), gradients, strict=True):
            assert ours.dtype == dtype
            scale = np.abs(true).max()
            np.testing.assert_allclose(
                np.asarray(ours, np.float64) / scale, true / scale, rtol=0, atol=2 * tolerance
            )


def test_two_dtypes_are_promoted():
    x, kernel = example(8, 2, 3)
    out = upconv(x.astype(jnp.bfloat16), kernel, stride=2)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(
        out, upconv(jnp.asarray(x, jnp.bfloat16).astype(jnp.float32), kernel, stride=2)
    )


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 1000), st.integers(1, 6), st.integers(1, 4), st.sampled_from(["SAME", "VALID"])
)
def test_translation_and_linearity(seed, k, stride, padding):
    x, kernel = example(seed, 2, 3, (k, k), whole=True)
    x = np.pad(x, ((2, 2), (2, 2), (0, 0)))
    f = partial(upconv, stride=stride, padding=padding)
    out = f(x, kernel)
    moved = f(np.roll(x, (1, -1), (0, 1)), kernel)
    inner = lambda a: a[2 * stride : -2 * stride, 2 * stride : -2 * stride]
    rolled = np.roll(out, (stride, -stride), (0, 1))
    np.testing.assert_array_equal(inner(np.asarray(moved)), inner(rolled))
    np.testing.assert_array_equal(f(3 * x, kernel), 3 * out)
    np.testing.assert_array_equal(f(x, -2 * kernel), -2 * out)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_bilinear_kernel_interpolates(stride):
    image = example(9, 2, 2, size=(6, 7))[0]
    kernel = bilinear_kernel(stride, 2)
    assert kernel.dtype == jnp.float32
    out = upconv(image, kernel, stride=stride)
    expected = resize_bilinear(image, (6 * stride, 7 * stride))
    edge = stride // 2
    inner = lambda a: a[edge : a.shape[0] - edge, edge : a.shape[1] - edge]
    np.testing.assert_allclose(inner(out), inner(expected), atol=1e-5)


def test_bilinear_kernel_by_hand():
    np.testing.assert_array_equal(bilinear_kernel(2, 1)[0, :, 0, 0], np.array([1, 3, 3, 1]) / 16)
    np.testing.assert_allclose(bilinear_kernel(3, 1)[2, :, 0, 0], np.array([1, 2, 3, 2, 1]) / 3)
    np.testing.assert_array_equal(bilinear_kernel(3, 4)[2, 2], np.eye(4))
    with pytest.raises(ValueError, match="stride is 0, expected an integer of at least 1"):
        bilinear_kernel(0, 1)
    with pytest.raises(TypeError, match=r"channels is 2\.0, expected an integer"):
        bilinear_kernel(2, 2.0)


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "m"),
    [((4, 4), (2, 2), (8, 7), 3), ((5, 5), (2, 2), (4, 5), 4), ((3, 4), (2, 2), (3, 1), 2)],
)
def test_winograd_has_the_values_and_gradients_of_the_products(kernel, stride, size, m):
    with jax.enable_x64(True):
        given = [jnp.asarray(a, jnp.float64) for a in example(14, 3, 2, kernel, size)]
        grid = upconvolution.Grid(stride, ((1, 0), (2, 1)), None)
        expected = lambda x, kernel: upconvolution.scattered(grid, x[None], kernel, at_once=False)
        ours = lambda x, kernel: upconvolution.filtered(grid, m, x[None], kernel)
        both = lambda f: jax.jit(lambda *given: (f(*given), jax.jacobian(f, (0, 1))(*given)))
        results = [both(f)(*given) for f in (ours, expected)]
        for a, b in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "kernel", "depth", "products"),
    [
        ((8, 8), (4, 4), 16, 16),  # F(3, 2): 9 x 9 results of each phase
        ((9, 9), (4, 4), 16, 9),  # F(2, 2) and F(4, 2) have as many: 10 x 10
        ((4, 4), (4, 4), 16, 4),  # F(3, 2) has as many as there are
        ((16, 16), (5, 5), 16, 36),
        ((8, 8), (4, 4), 5, 4),  # few channels
    ],
)
def test_winograd_where_it_saves_products(size, kernel, depth, products):
    x, kernel = np.zeros((64, *size, 64), np.float32), np.zeros((*kernel, 64, depth), np.float32)
    count = lambda **options: (
        jax.jit(partial(upconv, stride=2, **options))
        .lower(x, kernel)
        .as_text()
        .count("stablehlo.dot_general")
    )
    assert count() == products
    assert count(precision="highest") == {4: 4, 5: 9}[kernel.shape[0]]


@pytest.mark.parametrize(("channels", "depth"), [(128, 8), (32, 32)])
def test_winograd_is_not_for_what_is_one_product(channels, depth):
    x, kernel = (np.zeros(s, np.float32) for s in ((64, 9, 9, channels), (4, 4, channels, depth)))
    text = jax.jit(partial(upconv, stride=2)).lower(x, kernel).as_text()
    assert text.count("stablehlo.dot_general") == 1


def test_winograd_multiplies_in_the_precision_and_remembers_the_arguments_alone():
    x, kernel = np.zeros((64, 8, 8, 64), np.float32), np.zeros((4, 4, 64, 16), np.float32)
    f = partial(upconv, stride=2, precision="high")
    text = jax.jit(f).lower(x, kernel).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == sum("precision = [HIGH, HIGH]" in line for line in products) == 16
    back = jax.eval_shape(lambda x, kernel: jax.vjp(f, x, kernel)[1], x, kernel)
    # And the kernel by its phases, for an accelerator.
    assert sum(leaf.size for leaf in jax.tree.leaves(back)) < x.size + 2 * kernel.size + 9


def test_no_examples():
    x, kernel = np.zeros((0, *SIZE, 3)), np.zeros((4, 4, 3, 2))
    f = lambda x, kernel: upconv(x, kernel, stride=2)
    out, back = jax.vjp(f, x, kernel)
    assert out.shape == (0, 10, 8, 2)
    np.testing.assert_array_equal(back(out)[1], 0)
    for channels, depth in FORMS.values():
        x, kernel = np.zeros((0, *SIZE, channels)), np.zeros((4, 4, channels, depth))
        assert f(x, kernel).shape == (0, 10, 8, depth)


@pytest.mark.parametrize("form", FORMS)
def test_a_cpu_convolves_nothing_and_an_accelerator_nothing_else(form):
    given = [jnp.asarray(a) for a in example(10, *FORMS[form])]
    f = jax.jit(jax.grad(lambda x, kernel: (upconv(x, kernel, stride=2) ** 2).sum(), (0, 1)))
    program = lambda platform: f.trace(*given).lower(lowering_platforms=(platform,)).as_text()
    forward = jax.jit(lambda x, kernel: upconv(x, kernel, stride=2)).lower(*given).as_text()
    assert forward.count("stablehlo.dot_general") == PRODUCTS[form]
    assert "stablehlo.convolution" not in program("cpu") + f.lower(*given).compile().as_text()
    for platform in ("tpu", "cuda", "rocm"):
        assert "stablehlo.convolution" in program(platform)
        assert "stablehlo.dot_general" not in program(platform)
        assert "lhs_dilate = [2" not in program(platform)


def test_outside_of_jit_a_second_call_traces_nothing(monkeypatch):
    traced = []
    scattered = upconvolution.scattered
    count = lambda *args, **options: traced.append(1) or scattered(*args, **options)
    monkeypatch.setattr(upconvolution, "scattered", count)
    upconvolution._form.cache_clear()
    given = [jnp.asarray(a) for a in example(12, 3, 2)]
    f = jax.grad(lambda x, kernel: upconv(x, kernel, stride=2).sum(), (0, 1))
    first, before = f(*given), len(traced)
    jax.tree.map(np.testing.assert_array_equal, f(*given), first)
    assert len(traced) == before > 0
    upconvolution._form.cache_clear()


@pytest.mark.parametrize(("size", "stride", "most"), [(12, 2, 36), (13, 2, 0), (6, 1, 0)])
def test_up_to_36_taps_of_a_phase_are_products(size, stride, most):
    f = partial(upconv, stride=stride)
    text = jax.jit(f).lower(*example(13, 3, 2, (size, size))).as_text()
    assert text.count("stablehlo.dot_general") == most
    assert text.count("stablehlo.convolution") == (0 if most else 1 if stride == 1 else 4)


def test_many_taps_are_one_convolution():
    x, kernel = example(13, 2, 3, (14, 14), whole=True)
    f = lambda x, kernel: upconv(x, kernel, stride=2, padding=6)
    assert "stablehlo.convolution" in jax.jit(f).lower(x, kernel).as_text()
    np.testing.assert_array_equal(
        f(x, kernel), conv_reference.slow_up(x, kernel, (2, 2), (6, 6), (10, 8))
    )


def test_pmap_and_shard_map(devices):
    x, kernel = example(11, 3, 2, whole=True)
    images = np.stack([x, 2 * x])
    f = lambda x, kernel: (upconv(x, kernel, stride=2) ** 2).sum()
    gradients = np.stack([jax.grad(f, 1)(image, kernel) for image in images])
    mapped = jax.pmap(jax.grad(f, 1), in_axes=(0, None))
    np.testing.assert_array_equal(mapped(images, kernel), gradients)
    mesh = jax.make_mesh((2,), ("i",), (AxisType.Auto,), devices=devices(2))
    placed = [
        jax.device_put(a, NamedSharding(mesh, s)) for a, s in ((images, P("i")), (kernel, P()))
    ]
    inner = jax.shard_map(jax.grad(f, 1), mesh=mesh, in_specs=(P("i"), P()), out_specs=P())
    np.testing.assert_array_equal(jax.jit(inner)(*placed), gradients.sum(0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride is 0, expected one or two integers, 1 at least"),
        ({"stride": 2.0}, TypeError, "stride is 2.0, expected an integer or a pair"),
        (
            {"padding": "FULL"},
            ValueError,
            "padding is 'FULL', expected 'SAME', 'VALID' or integers",
        ),
        ({"padding": -1}, ValueError, "padding is -1, expected one or two integers, 0 at least"),
        ({"padding": (1, 2, 3)}, ValueError, r"padding is \(1, 2, 3\), expected one or two"),
        ({"padding": 9}, ValueError, r"padding 9 for x \(5, 4, 3\), kernel .* nothing is left"),
        ({"output_padding": 1}, ValueError, r"output_padding \(1, 1\) with padding 'SAME'"),
        (
            {"output_padding": 2, "padding": 0},
            ValueError,
            r"output_padding is \(2, 2\), expected less than the stride of 2",
        ),
    ],
)
def test_option_errors(options, error, message):
    with pytest.raises(error, match=message):
        upconv(*example(0, 3, 2), **({"stride": 2} | options))


@pytest.mark.parametrize(
    ("x", "kernel"), [((5, 4), (4, 4, 3, 2)), ((5, 4, 3), (4, 3, 2)), ((5, 4, 3), (4, 4, 2, 3))]
)
def test_argument_errors(x, kernel):
    with pytest.raises(ValueError, match=r"got x \(5, .* and kernel \(4, .*expected \[H, W, C\]"):
        upconv(np.zeros(x), np.zeros(kernel), stride=2)


def test_dtype_and_weight_errors():
    with pytest.raises(TypeError, match="kernel has dtype int32, expected a floating dtype"):
        upconv(np.zeros((5, 4, 3)), np.zeros((4, 4, 3, 2), np.int32), stride=2)
    with pytest.raises(ValueError, match=r"weight has shape \(3, 2, 4\), expected \[C, D, kh, kw"):
        torch_upconv_kernel(np.zeros((3, 2, 4)))
