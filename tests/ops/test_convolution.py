"""Convolution by hand, against a plain sum, linen's and PyTorch's recorded answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jaxstruct.ops import atrous_conv, conv, convolution
from jaxstruct.ops._cpu import convolution as on_cpu
from jaxstruct.ops._cpu.convolution import gathered
from tests.ops import conv_reference
from tests.ops.conv_forms import FORMS, example, plain


def test_by_hand():
    x, kernel = jnp.arange(1.0, 7).reshape(1, 6, 1), jnp.array([1.0, 10, 100]).reshape(1, 3, 1, 1)
    line = lambda **options: conv(x, kernel, **options)[0, :, 0].tolist()
    assert line() == [210, 321, 432, 543, 654, 65]
    assert line(padding="VALID") == [321, 432, 543, 654]
    assert line(stride=2) == [321, 543, 65]
    assert line(stride=(2, 1), padding="VALID") == [321, 432, 543, 654]
    assert line(stride=(1, 4), padding=(0, 1)) == [210, 654]
    assert line(dilation=2, padding="VALID") == [531, 642]
    assert line(dilation=(1, 2), stride=(1, 3), padding=(0, 2)) == [310, 642]
    assert line(padding=((0, 0), (0, 2))) == [321, 432, 543, 654, 65, 6]
    assert line(padding=((0, 0), (2, 0)), stride=(1, 3)) == [100, 432]
    assert conv(x, kernel, padding=((2, 1), (0, 0)))[:, 1, 0].tolist() == [0, 0, 432, 0]
    assert conv(x, kernel, padding=1)[:, 1, 0].tolist() == [0, 321, 0]


def test_groups_by_hand():
    x, kernel = jnp.array([1.0, 2, 3, 4]), jnp.array([[1.0, 2, 3, 4], [10, 10, 10, 10]])
    out = lambda groups: conv(
        x.reshape(1, 1, 4), kernel[: 4 // groups].reshape(1, 1, -1, 4), groups=groups
    )
    assert out(2)[0, 0].tolist() == [1 + 20, 2 + 20, 9 + 40, 12 + 40]
    assert out(4)[0, 0].tolist() == [1, 4, 9, 16]


def test_atrous_conv_by_hand():
    x, kernel = jnp.arange(1.0, 7).reshape(1, 6, 1), jnp.array([1.0, 10, 100]).reshape(1, 3, 1, 1)
    line = lambda **options: atrous_conv(x, kernel, **options)[0, :, 0].tolist()
    assert line(rate=2, padding="VALID") == [531, 642]
    assert line(rate=2) == [310, 420, 531, 642, 53, 64]
    assert line(rate=(7, 2), stride=(1, 2)) == [420, 642, 64]
    assert line(rate=2, padding=(0, 1)) == [420, 531, 642, 53]
    text = str(jax.make_jaxpr(partial(atrous_conv, rate=2, precision="highest"))(x, kernel))
    assert "precision=(Precision.HIGHEST" in text


RECORDED = conv_reference.recorded("conv")
ATROUS = [case for case in conv_reference.recorded("atrous_conv") if case[0]["rate"] != 1]


@pytest.mark.parametrize("case", RECORDED, ids=conv_reference.name)
def test_recorded_values_and_gradients_are_equal_to_the_bit(case):
    # Whole numbers, whose sums are exact.
    options, answer = case
    f = lambda x, weight: conv(x, weight.transpose(2, 3, 1, 0), **options)
    conv_reference.equal(f, answer)


@pytest.mark.parametrize("case", RECORDED[::3], ids=conv_reference.name)
def test_recorded_on_an_accelerator(case, on_accelerator):
    on_accelerator(convolution._form)
    test_recorded_values_and_gradients_are_equal_to_the_bit(case)


@pytest.mark.parametrize("case", ATROUS, ids=conv_reference.name)
def test_recorded_atrous_conv(case):
    options, answer = case
    f = lambda x, weight: atrous_conv(x, weight.transpose(2, 3, 1, 0), **options)
    conv_reference.equal(f, answer)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_linen(padding):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 8, 4)).astype(np.float32)
    kernel = rng.normal(size=(3, 2, 2, 6)).astype(np.float32)
    for stride, dilation in (((2, 1), (2, 3)), ((3, 2), (1, 1))):
        layer = nn.Conv(
            6, (3, 2), stride, padding, (1, 1), dilation, feature_group_count=2, use_bias=False
        )
        expected = layer.apply({"params": {"kernel": kernel}}, images)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
        np.testing.assert_allclose(conv(images, kernel, **options), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_alone_in_a_batch_and_mapped(form):
    x, kernel, f = example(form, whole=True)
    images, kernels = np.stack([x, 2 * x]), np.stack([kernel, kernel + 1])
    expected, back = conv_reference.slow(images, kernel, **plain(form))
    other, _ = conv_reference.slow(images, kernels[1], **plain(form))
    pulled = np.random.default_rng(1).integers(-4, 5, expected.shape).astype(np.float32)
    np.testing.assert_array_equal(f(x, kernel), expected[0])

    @conv_reference.quick
    def ways(images, kernels):
        out, gradients = jax.vjp(f, images, kernels[0])
        return (
            out,
            gradients(pulled),
            jax.vmap(f, (0, None))(images, kernels[0]),
            jax.vmap(f)(images, kernels),
        )

    out, gradients, mapped, both = ways(images, kernels)
    np.testing.assert_array_equal(out, expected)
    for gradient, true in zip(gradients, back(pulled), strict=True):
        np.testing.assert_array_equal(gradient, true)
    np.testing.assert_array_equal(mapped, expected)
    np.testing.assert_array_equal(both, [expected[0], other[1]])


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_remembers_the_arguments_alone(form):
    x, kernel, f = example(form)
    back = jax.eval_shape(lambda x, kernel: jax.vjp(f, x, kernel)[1], x, kernel)
    # And the index of the platform.
    assert sum(leaf.size for leaf in jax.tree.leaves(back)) <= x.size + kernel.size + 1


@pytest.mark.parametrize(
    "form", ["winograd", "1x1", "cut apart", "gathered", "by tap", "accelerator"]
)
def test_both_modes_and_twice(form, on_accelerator):
    if form == "accelerator":
        on_accelerator(convolution._form)
        form = "gathered"
    with jax.enable_x64(True):
        x, kernel, f = example(form, np.float64)
        error = conv_reference.largest_derivative_error(f, x[None], kernel, **plain(form))
    assert error < 1e-12


def test_finite_differences():
    with jax.enable_x64(True):
        *given, f = example("gathered", np.float64)
        cube = jax.jit(lambda *given: (f(*given) ** 3).sum())
        check_grads(cube, given, 1, rtol=1e-6)


@pytest.mark.parametrize("form", ["winograd", "gathered", "convolved"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtypes(form, dtype):
    # Narrow ones are added up in float32, and rounded once.
    bound = {jnp.bfloat16: 2**-8, jnp.float16: 2**-11, jnp.float32: 1e-6}.get(dtype, 1e-14)
    with jax.enable_x64(True):
        x, kernel, f = example(form, dtype)
        error = conv_reference.largest_error(f, x[None], kernel, **plain(form))
    assert error < 1.01 * bound


def test_two_dtypes_are_promoted():
    x, kernel, f = example("gathered", whole=True)
    out = f(x.astype(jnp.bfloat16), kernel)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, f(x, kernel))


@pytest.mark.parametrize("form", FORMS)
def test_no_examples(form):
    x, kernel, f = example(form)
    out, back = jax.vjp(f, np.zeros((0, *x.shape), np.float32), kernel)
    assert out.shape == (0, *f(x, kernel).shape)
    np.testing.assert_array_equal(back(out)[1], np.zeros_like(kernel))


def test_outside_of_jit_a_second_call_traces_nothing(monkeypatch):
    traced = []
    count = lambda *args: traced.append(1) or gathered(*args)
    monkeypatch.setattr(on_cpu, "gathered", count)
    convolution._form.cache_clear()
    x, kernel, f = example("gathered")
    gradient = jax.grad(lambda x, kernel: f(x, kernel).sum(), (0, 1))
    first, before = gradient(x, kernel), len(traced)
    jax.tree.map(np.testing.assert_array_equal, gradient(x, kernel), first)
    assert len(traced) == before > 0
    assert len(jax.make_jaxpr(f)(x[None], kernel).eqns) == 1
    convolution._form.cache_clear()


@pytest.mark.parametrize("form", ["winograd", "gathered"])
def test_pmap_and_shard_map(form, devices):
    x, kernel, f = example(form, whole=True)
    images = np.stack([x, 2 * x])
    gradient = jax.grad(lambda x, kernel: (f(x, kernel) ** 2).sum(), 1)
    each = [conv_reference.slow(image[None], kernel, **plain(form)) for image in images]
    gradients = np.stack([back(2 * out)[1] for out, back in each])
    mapped = jax.pmap(gradient, in_axes=(0, None))
    np.testing.assert_array_equal(mapped(images, kernel), gradients)
    mesh = jax.make_mesh((2,), ("i",), (AxisType.Auto,), devices=devices(2))
    placed = [
        jax.device_put(a, NamedSharding(mesh, s)) for a, s in ((images, P("i")), (kernel, P()))
    ]
    inner = jax.shard_map(gradient, mesh=mesh, in_specs=(P("i"), P()), out_specs=P())
    np.testing.assert_array_equal(jax.jit(inner)(*placed), gradients.sum(0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride is 0, expected one or two integers, 1 at least"),
        ({"stride": 2.0}, TypeError, r"stride is 2\.0, expected an integer or a pair"),
        (
            {"dilation": (1, 0)},
            ValueError,
            r"dilation is \(1, 0\), expected one or two integers, 1",
        ),
        ({"groups": 0}, ValueError, "groups is 0, expected an integer of at least 1"),
        ({"groups": 1.0}, TypeError, r"groups is 1\.0, expected an integer"),
        ({"padding": "CAUSAL"}, ValueError, "padding is 'CAUSAL', expected 'SAME', 'VALID' or int"),
        ({"padding": -1}, ValueError, "padding is -1, expected one or two integers, 0 at least"),
        ({"padding": (1, 2, 3)}, ValueError, r"padding is \(1, 2, 3\), expected one or two"),
        (
            {"padding": ((1, 2),)},
            ValueError,
            r"padding is \(\(1, 2\),\), expected \(before, after\)",
        ),
        ({"padding": ((1, 2), (3, -1))}, ValueError, r"padding is \(3, -1\), .* 0 at least"),
        (
            {"padding": ((1, 2), (3, 0.5))},
            TypeError,
            r"padding is \(3, 0\.5\), expected an integer",
        ),
        (
            {"padding": "VALID", "dilation": 3},
            ValueError,
            r"padding 'VALID' for x \(5, 4, 4\), kernel \(3, 3, 4, 6\) and dilation 3: nothing is",
        ),
        ({"padding": ((0, 0), (0, 0)), "dilation": (1, 2)}, ValueError, "nothing is left"),
    ],
)
def test_option_errors(options, error, message):
    with pytest.raises(error, match=message):
        conv(np.zeros((5, 4, 4)), np.zeros((3, 3, 4, 6)), **options)


@pytest.mark.parametrize(
    ("x", "kernel", "groups", "expected"),
    [
        ((5, 4), (3, 3, 4, 6), 1, r"\[kh, kw, C, D\], none of them empty$"),
        ((1, 1, 5, 4, 4), (3, 3, 4, 6), 1, r"\[kh, kw, C, D\], none of them empty$"),
        ((5, 4, 4), (3, 4, 6), 1, r"\[kh, kw, C, D\], none of them empty$"),
        ((5, 4, 4), (3, 3, 2, 6), 1, r"\[kh, kw, C, D\], none of them empty$"),
        ((5, 0, 4), (3, 3, 4, 6), 1, r"\[kh, kw, C, D\], none of them empty$"),
        ((5, 4, 4), (3, 0, 4, 6), 1, r"\[kh, kw, C, D\], none of them empty$"),
        ((5, 4, 4), (3, 3, 4, 6), 2, r"\[kh, kw, C / 2, D\], .*, and D a multiple of 2$"),
        ((5, 4, 4), (3, 3, 1, 6), 4, r"\[kh, kw, C / 4, D\], .*, and D a multiple of 4$"),
        ((5, 4, 4), (3, 3, 1, 6), 3, r"\[kh, kw, C / 3, D\], .*, and D a multiple of 3$"),
    ],
)
def test_argument_errors(x, kernel, groups, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        conv(np.zeros(x), np.zeros(kernel), groups=groups)
    assert f"got x {x} and kernel {kernel}, expected [H, W, C] or [B" in str(caught.value)


def test_dtype_errors():
    whole, real = np.zeros((5, 4, 4), np.int32), np.zeros((3, 3, 4, 6))
    with pytest.raises(TypeError, match="x has dtype int32, expected a floating dtype"):
        conv(whole, real)
    with pytest.raises(TypeError, match="kernel has dtype int32, expected a floating dtype"):
        conv(np.zeros((5, 4, 4)), real.astype(np.int32))


def test_atrous_conv_errors():
    x, kernel = np.zeros((5, 4, 4)), np.zeros((3, 3, 4, 6))
    with pytest.raises(ValueError, match="rate is 0, expected one or two integers, 1 at least"):
        atrous_conv(x, kernel, rate=0)
    with pytest.raises(ValueError, match=r"and dilation \(3, 3\): nothing is left"):
        atrous_conv(x, kernel, rate=3, padding="VALID")
