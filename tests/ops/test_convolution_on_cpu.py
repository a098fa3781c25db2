"""The forms of convolution for a CPU: each against a plain sum, and where each is chosen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxstruct.ops import conv, convolution
from jaxstruct.ops._cpu import convolution as on_cpu
from jaxstruct.ops._cpu.convolution import (
    by_batch,
    by_depth,
    by_tap,
    cut_apart,
    gathered,
    moved,
)
from jaxstruct.ops.convolution import _convolved
from tests.ops import conv_reference
from tests.ops.conv_forms import example

PRODUCTS = {"winograd": 9, "by batch": 9, "by depth": 9, "1x1": 1, "cut apart": 1, "gathered": 1}
PRODUCTS["moved"] = 9


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
        (moved, (7, 8), (3, 2), {"ends": ((1, 1), (0, 2))}),
        (moved, (7, 8), (3, 3), {"dilation": (4, 5), "ends": ((4, 4), (5, 5))}),
        (moved, (5, 3), (3, 2), {"dilation": (7, 4), "ends": ((9, 9), (4, 0))}),  # taps see nothing
        (moved, (9, 8), (2, 3), {"dilation": (3, 2)}),
        (moved, (2, 3), (1, 2), {"dilation": (1, 6), "ends": ((4, 1), (5, 3))}),  # nor all results
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


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_gradient_pads_the_image_once(stride):
    x, kernel = jnp.ones((2, 32, 16, 4)), jnp.ones((3, 3, 1, 4))
    pulled, pull = jax.vjp(lambda x: conv(x, kernel, stride=stride, groups=4), x)
    found = operations(jax.make_jaxpr(pull)(pulled).jaxpr)
    ends = [one.params["padding_config"] for one in found if one.primitive.name == "pad"]
    grown = [one for one in ends if any(low > 0 or high > 0 for low, high, _ in one)]
    assert len(grown) == 1


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
        # 16 images of 3 x 3: of 2 x 2 tiles each, 1,024 products; its taps see 19 x 19 pixels.
        ((1, 9, 9, 64), (3, 3, 64, 64), {"dilation": (4, 4)}, (moved,)),
        # LargeFOV has 10,368 products and its taps see 12,672; at a rate of 18, 20,736 and 9,072.
        ((2, 30, 40, 512), (3, 3, 512, 64), {"dilation": (12, 12)}, (by_batch, 4)),
        ((2, 30, 40, 512), (3, 3, 512, 64), {"dilation": (18, 18)}, (moved,)),
        ((2, 30, 40, 512), (3, 3, 512, 64), {"dilation": (50, 50)}, (moved,)),
        (X, (3, 3, 16, 16), {"dilation": (18, 18)}, (gathered,)),
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
