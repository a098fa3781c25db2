"""Convolution by hand, against a plain sum, linen's and PyTorch's recorded answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jaxstruct.ops import atrous_conv, conv, convolution
from jaxstruct.ops._cpu import convolution as on_cpu
from jaxstruct.ops._cpu.convolution import by_batch, by_depth, by_tap, cut_apart, gathered
from jaxstruct.ops.convolution import _convolved
from tests.ops import conv_reference

# Shapes of x and the kernel, and options, for which a CPU takes each of the forms. Winograd's are
# F(2, 2), which compiles the fastest and is exact for whole numbers: no matrix has a fraction.
FORMS = {
    "winograd": ((16, 16, 32), (2, 2, 32, 32), {"padding": ((0, 1), (1, 0))}),
    "by batch": (
        (15, 16, 32),
        (2, 2, 32, 32),
        {"padding": ((1, 1), (0, 2)), "dilation": (2, 2)},
    ),
    "by depth": ((31, 32, 32), (4, 4, 32, 32), {"padding": ((1, 1), (0, 2)), "stride": (2, 2)}),
    "1x1": ((5, 4, 3), (1, 1, 3, 2), {"padding": ((0, 0), (1, 0)), "stride": (2, 1)}),
    "cut apart": ((17, 9, 3), (3, 2, 3, 2), {"padding": ((2, 0), (1, 0)), "stride": (8, 7)}),
    "gathered": ((5, 4, 3), (3, 2, 3, 2), {"padding": ((1, 0), (0, 1)), "dilation": (1, 2)}),
    "by tap": ((5, 4, 4), (3, 2, 1, 4), {"padding": ((1, 0), (0, 1)), "groups": 4}),
    "convolved": ((5, 4, 4), (3, 2, 2, 6), {"padding": ((1, 0), (0, 1)), "groups": 2}),
}
PRODUCTS = {"winograd": 9, "by batch": 9, "by depth": 9, "1x1": 1, "cut apart": 1, "gathered": 1}


def example(form, dtype=np.float32, whole=False):
    """x, kernel and the op with its options."""
    rng = np.random.default_rng(0)
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else (lambda s: rng.normal(size=s))
    *shapes, options = FORMS[form]
    x, kernel = (draw(shape).astype(np.float32).astype(dtype) for shape in shapes)
    return x, kernel, partial(conv, **options)


def plain(form):
    """The options as those of `conv_reference.slow`."""
    return {"ends" if name == "padding" else name: v for name, v in FORMS[form][2].items()}


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


@pytest.mark.parametrize(
    ("form", "size", "kernel", "options"),
    [
        (cut_apart, (5, 4), (1, 1), {"ends": ((1, 0), (0, 2))}),
        (cut_apart, (5, 4), (1, 1), {"stride": (3, 2), "ends": ((0, 2), (1, 0))}),
        (cut_apart, (2, 1), (1, 1), {"stride": (4, 5)}),
        (cut_apart, (7, 8), (3, 2), {"stride": (3, 4), "ends": ((1, 0), (0, 2))}),
        (cut_apart, (9, 7), (2, 7), {"stride": (5, 7), "ends": ((0, 2), (3, 1))}),
        (gathered, (5, 4), (3, 3), {"ends": ((1, 1), (1, 1))}),
        (gathered, (5, 6), (1, 4), {"ends": ((0, 0), (3, 0))}),
        (gathered, (7, 8), (3, 2), {"stride": (2, 3), "ends": ((1, 0), (0, 2))}),
        (gathered, (8, 7), (2, 1), {"stride": (5, 4), "ends": ((0, 1), (0, 0))}),
        (gathered, (9, 8), (2, 3), {"stride": (1, 2), "dilation": (3, 2)}),
        (gathered, (9, 8), (3, 2), {"stride": (2, 3), "dilation": (3, 5)}),
        (gathered, (1, 1), (3, 3), {"ends": ((1, 1), (1, 1))}),
        (gathered, (17, 19), (3, 2), {"stride": (8, 9), "ends": ((1, 0), (0, 2))}),
        (gathered, (17, 19), (2, 2), {"stride": (8, 9), "dilation": (3, 10)}),
        (by_tap, (7, 8), (3, 2), {"stride": (2, 1), "ends": ((1, 0), (0, 2)), "groups": 4}),
        (by_tap, (9, 8), (2, 3), {"stride": (1, 2), "dilation": (3, 2), "groups": 4}),
        (by_tap, (5, 4), (1, 1), {"groups": 4}),
        (by_tap, (21, 5), (3, 2), {"groups": 4}),  # 19 rows, in bands of 3
        (by_tap, (17, 19), (3, 2), {"stride": (8, 9), "ends": ((1, 0), (0, 2)), "groups": 4}),
        (_convolved, (7, 8), (3, 2), {"stride": (2, 1), "ends": ((1, 0), (0, 2)), "groups": 2}),
        (_convolved, (7, 8), (3, 2), {"dilation": (1, 3)}),
        (partial(by_batch, 2), (7, 8), (2, 2), {"dilation": (2, 3)}),
        (partial(by_batch, 2), (1, 1), (2, 2), {"dilation": (3, 2), "ends": ((3, 1), (0, 2))}),
        (partial(by_batch, 2), (5, 9), (3, 3), {"dilation": (1, 2), "ends": ((2, 0), (1, 4))}),
        (partial(by_batch, 2), (8, 5), (2, 2), {"ends": ((0, 1), (1, 1))}),
        (partial(by_depth, 2), (7, 5), (4, 4), {"stride": (2, 2), "ends": ((1, 1), (0, 2))}),
        (partial(by_depth, 2), (4, 9), (2, 6), {"stride": (1, 3), "ends": ((0, 1), (2, 0))}),
        (partial(by_depth, 2), (9, 8), (4, 2), {"stride": (2, 1)}),
        # No multiples of the stride.
        (partial(by_depth, 2), (9, 8), (5, 7), {"stride": (2, 3), "ends": ((1, 2), (0, 1))}),
    ],
)
def test_each_form(form, size, kernel, options):
    all_options = {"stride": (1, 1), "ends": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    all_options |= options
    f = partial(form, convolution.Setting(**all_options, precision=None))
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = rng.normal(size=(2, *size, 4))
        depth = 4 if form is by_tap else 6
        kernel = rng.normal(size=(*kernel, 4 // all_options["groups"], depth))
        assert conv_reference.largest_error(f, x, kernel, **options) < 1e-12


def test_no_sum_of_a_depthwise_gradient_runs_over_the_whole_image():
    x, kernel = jnp.ones((2, 32, 16, 4)), jnp.ones((3, 3, 1, 4))
    f = lambda kernel: jnp.sum(conv(x, kernel, groups=4))
    found = operations(jax.make_jaxpr(jax.grad(f))(kernel).jaxpr)
    summed = [
        one.invars[0].aval.size
        for one in found
        if one.primitive.name == "reduce_sum" and one.outvars[0].aval.size == 4
    ]
    assert summed == [x.size // 8] * 9


def operations(jaxpr):
    """All operations of a program, and of the programs in it."""
    for one in jaxpr.eqns:
        yield one
        for inner in jaxprs_in_params(one.params):
            yield from operations(inner)


def choose(x, kernel, stride=(1, 1), dilation=(1, 1), groups=1, precision=None):
    """The form for SAME, and its tile where it has one."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel[:2], dilation, strict=True)]
    ends = jax.lax.padtype_to_pads(x[1:3], reach, stride, "SAME")
    setting = convolution.Setting(stride, tuple(ends), dilation, groups, precision)
    form = on_cpu.choose(setting, x, kernel) or _convolved
    return (form.func, *form.args) if isinstance(form, partial) else (form,)


X, TWO = (2, 30, 40, 64), {"stride": (2, 2)}


@pytest.mark.parametrize(
    ("x", "kernel", "options", "expected"),
    [
        (X, (1, 1, 64, 64), {}, (cut_apart,)),
        (X, (1, 1, 64, 64), TWO | {"precision": "highest"}, (cut_apart,)),
        (X, (3, 3, 64, 64), {}, (by_batch, 4)),
        (X, (3, 3, 64, 64), {"precision": "high"}, (by_batch, 4)),
        (X, (3, 3, 64, 64), {"precision": "highest"}, (gathered,)),
        (X, (3, 3, 64, 64), {"precision": ("default", "float32")}, (gathered,)),
        (X, (3, 3, 64, 64), {"precision": ("highest", "default")}, (gathered,)),
        ((1, 16, 16, 64), (3, 3, 64, 64), {}, (by_batch, 2)),
        ((1, 14, 16, 64), (3, 3, 64, 64), {}, (gathered,)),
        ((2, 30, 40, 16), (3, 3, 16, 16), {}, (gathered,)),
        ((2, 30, 40, 3), (3, 3, 3, 64), {}, (gathered,)),
        (X, (2, 2, 64, 64), {}, (by_batch, 4)),
        (X, (4, 4, 64, 64), {}, (by_batch, 3)),
        (X, (5, 5, 64, 64), {}, (by_batch, 2)),
        (X, (6, 6, 64, 64), {}, (gathered,)),
        (X, (3, 2, 64, 64), {}, (gathered,)),
        # 4 x 12 images of 8 x 4.
        (X, (3, 3, 64, 64), {"dilation": (4, 12)}, (by_batch, 4)),
        # 4 images of 8 x 8: of 4 x 4 tiles of 2 each.
        ((1, 16, 16, 64), (3, 3, 64, 64), {"dilation": (2, 2)}, (by_batch, 2)),
        # 16 images of 3 x 3: of 2 x 2 tiles each, the last ones partly for nothing.
        ((1, 9, 9, 64), (3, 3, 64, 64), {"dilation": (4, 4)}, (by_batch, 2)),
        (X, (3, 3, 64, 64), TWO, (gathered,)),
        (X, (4, 4, 64, 128), TWO, (by_depth, 3)),
        ((8, *X[1:]), (4, 4, 64, 128), TWO, (by_depth, 4)),
        (X, (2, 4, 64, 128), {"stride": (1, 2)}, (by_depth, 4)),
        (X, (5, 5, 64, 64), TWO, (by_depth, 2)),
        (X, (7, 7, 64, 64), TWO, (by_depth, 3)),
        (X, (3, 4, 64, 64), TWO, (gathered,)),
        (X, (4, 4, 64, 128), TWO | {"precision": "highest"}, (gathered,)),
        (X, (4, 4, 64, 128), TWO | {"dilation": (2, 2)}, (gathered,)),
        (X, (4, 4, 64, 128), {"stride": (2, 1)}, (gathered,)),
        ((2, 30, 40, 16), (4, 4, 16, 128), TWO, (gathered,)),
        ((2, 224, 224, 3), (7, 7, 3, 64), TWO, (gathered,)),
        # 40 channels in the harmonic mean of 4 x 32 and 24, but 27 in that of 32 and 24.
        ((2, 30, 40, 32), (4, 4, 32, 24), TWO, (by_depth, 3)),
        ((36, 224, 224, 3), (7, 7, 3, 64), TWO, (gathered,)),
        ((37, 224, 224, 3), (7, 7, 3, 64), TWO, (_convolved,)),
        (X, (3, 3, 32, 64), {"groups": 2}, (_convolved,)),
        (X, (3, 3, 1, 128), {"groups": 64}, (_convolved,)),
        (X, (3, 3, 1, 64), {"groups": 64}, (by_tap,)),
        (X, (7, 7, 1, 64), TWO | {"groups": 64, "precision": "highest"}, (by_tap,)),
        (X, (7, 8, 1, 64), {"groups": 64}, (_convolved,)),
        # Of a stride a kernel sees no more than its own size, or that with the dilation.
        (X, (3, 3, 1, 64), {"stride": (8, 8), "groups": 64}, (by_tap,)),
        (X, (7, 7, 1, 64), {"stride": (64, 64), "groups": 64}, (by_tap,)),
        (X, (3, 3, 1, 64), {"stride": (8, 8), "dilation": (3, 3), "groups": 64}, (by_tap,)),
        (X, (3, 3, 1, 64), {"stride": (7, 7), "dilation": (4, 4), "groups": 64}, (by_tap,)),
        (X, (3, 3, 1, 64), {"stride": (7, 8), "dilation": (4, 4), "groups": 64}, (_convolved,)),
        (X, (1, 1, 64, 64), {"stride": (1, 7)}, (cut_apart,)),
        (X, (7, 7, 64, 64), {"stride": (7, 7)}, (gathered,)),
        (X, (7, 7, 64, 64), {"stride": (7, 8)}, (cut_apart,)),
        (X, (2, 1, 64, 64), {"stride": (7, 8)}, (cut_apart,)),
        (X, (8, 7, 64, 64), {"stride": (7, 8)}, (_convolved,)),
        (X, (7, 7, 64, 64), {"stride": (7, 8), "dilation": (1, 2)}, (_convolved,)),
        (X, (3, 3, 64, 64), {"stride": (7, 8), "dilation": (1, 3)}, (gathered,)),
    ],
)
def test_what_a_cpu_chooses(x, kernel, options, expected):
    assert choose(x, kernel, **options) == expected


def test_a_default_precision_counts():
    x, kernel, f = example("winograd")
    products = lambda: jax.jit(f).lower(x, kernel).as_text().count("stablehlo.dot_general")
    for precision, expected in (("high", 9), ("highest", 1), (None, 9), ("float32", 1)):
        with jax.default_matmul_precision(precision):
            assert products() == expected
            form = (by_batch, 4) if expected == 9 else (gathered,)
            assert choose(X, (3, 3, 64, 64)) == form
            assert choose(X, (3, 3, 64, 64), precision="default") == (by_batch, 4)


@pytest.mark.parametrize("form", PRODUCTS)
def test_a_cpu_multiplies_and_an_accelerator_convolves(form):
    x, kernel, f = example(form)
    f = partial(f, precision="high")
    gradient = jax.grad(lambda x, kernel: (f(x, kernel) ** 2).sum(), (0, 1))

    def count(f, platform, *words):
        text = jax.jit(f).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        lines = [line for line in text.splitlines() if f"stablehlo.{words[0]}" in line]
        return sum(all(word in line for word in words[1:]) for line in lines)

    assert count(f, "cpu", "dot_general") == PRODUCTS[form]
    for g in (f, gradient):
        assert count(g, "cpu", "convolution") == 0
        # The precision is that of each of them.
        products = count(g, "cpu", "dot_general")
        assert count(g, "cpu", "dot_general", "precision = [HIGH, HIGH]") == products
        for platform in ("tpu", "cuda", "rocm"):
            convolutions = count(g, platform, "convolution")
            assert convolutions == (1 if g is f else 3)
            assert count(g, platform, "convolution", "precision HIGH>") == convolutions
            assert count(g, platform, "dot_general") == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_remembers_the_arguments_alone(form):
    x, kernel, f = example(form)
    back = jax.eval_shape(lambda x, kernel: jax.vjp(f, x, kernel)[1], x, kernel)
    # And the index of the platform.
    assert sum(leaf.size for leaf in jax.tree.leaves(back)) <= x.size + kernel.size + 1


@pytest.mark.parametrize("form", ["winograd", "1x1", "cut apart", "gathered", "accelerator"])
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
