"""Max pooling by hand, against linen's and against PyTorch's recorded answers."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct.ops import adaptive_mean_pool, max_pool, pooling
from tests.ops import conv_reference


def test_by_hand():
    x = jnp.array([3.0, 1, 4, 1, 5, 9]).reshape(1, 6, 1)
    pool = lambda *args, **options: max_pool(x, *args, **options)[0, :, 0].tolist()
    assert pool((1, 2), stride=2) == [3, 4, 9]
    assert pool((1, 3), stride=(1, 1)) == [4, 4, 5, 9]
    assert pool((1, 3), stride=(1, 2), padding=(0, 1)) == [3, 4, 9]
    assert pool((1, 4), stride=(1, 4), padding="SAME") == [4, 9]
    assert pool((1, 2), stride=(1, 3)) == [3, 5]
    # Of two equal ones the first has the gradient, and a value of two windows has it twice.
    x = jnp.array([2.0, 2, 1, 7, 0]).reshape(1, 5, 1)
    gradient = jax.grad(lambda x: max_pool(x, (1, 2), stride=1).sum())(x)
    assert gradient[0, :, 0].tolist() == [1, 1, 0, 2, 0]


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("case", conv_reference.recorded("max_pool"), ids=conv_reference.name)
def test_recorded_values_and_gradients_are_equal_to_the_bit(case, accelerator, on_accelerator):
    options, answer = case
    if accelerator:
        on_accelerator(pooling._form)
    f = lambda x: max_pool(x, **options)
    if accelerator and np.isnan(answer["x"]).any():  # where the gradient goes is not promised
        np.testing.assert_array_equal(f(answer["x"]), answer["out"])
    else:
        conv_reference.equal(f, answer, gradients=["x"])


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("window", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((1, 4), (3, 1))]
)
def test_linen_alone_in_a_batch_and_mapped(window, stride, padding):
    images = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
    expected = nn.max_pool(images, window, stride, padding)
    f = partial(max_pool, window=window, stride=stride, padding=padding)
    for way in (f, jax.jit(f), jax.vmap(f)):
        np.testing.assert_array_equal(way(images), expected)
    np.testing.assert_array_equal(f(images[1]), expected[1])


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes_and_derivatives(dtype, accelerator, on_accelerator):
    if accelerator:
        on_accelerator(pooling._form)
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).permutation(70).reshape(5, 7, 2), dtype)
        f = lambda x: max_pool(x, 3, stride=2, padding=1)
        assert f(x).dtype == dtype
        assert jax.grad(lambda x: f(x).sum())(x).dtype == dtype
        square = lambda x: (f(x.astype(jnp.float64)) ** 2).sum()
        wide = x.astype(jnp.float64)
        way = jnp.asarray(np.random.default_rng(2).normal(size=x.shape))
        expected = (square(wide + 1e-4 * way) - square(wide - 1e-4 * way)) / 2e-4
        gradient = jax.grad(square)(wide)
        np.testing.assert_allclose((gradient * way).sum(), expected, rtol=1e-8)
        np.testing.assert_allclose(jax.jvp(square, [wide], [way])[1], expected, rtol=1e-8)
        second = lambda x: (jax.grad(square)(x) * way).sum()
        expected = (second(wide + 1e-4 * way) - second(wide - 1e-4 * way)) / 2e-4
        np.testing.assert_allclose((jax.grad(second)(wide) * way).sum(), expected, rtol=1e-8)


def test_an_accelerator_runs_xlas_own():
    x = jnp.ones((1, 8, 8, 2))
    f = jax.jit(jax.grad(lambda x: max_pool(x, 2, stride=2).sum()))
    program = lambda platform: f.trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert "reduce_window" not in program("cpu")
    assert "select_and_scatter" not in program("cpu")
    for platform in ("tpu", "cuda"):
        assert "select_and_scatter" in program(platform)


@pytest.mark.parametrize(
    ("window", "stride", "comparisons"),
    [
        # One for each further tap, where a window or a step has four at most.
        ((2, 2), (2, 2), 3),
        ((1, 4), (1, 1), 3),
        ((2, 2), (1, 2), 3),
        # Along an axis of a step of 1 the row grows from 1 to 2, 4 and so on.
        ((1, 5), (1, 1), 3),
        ((2, 3), (1, 1), 1 + 2),
        ((8, 1), (1, 1), 3),
        # In a step of 5 two neighbours become one, three times; two taps are one comparison.
        ((1, 2), (1, 5), 1),
        ((1, 5), (1, 5), 3),
    ],
)
def test_how_often_a_cpu_compares(window, stride, comparisons):
    f = partial(max_pool, window=window, stride=stride)
    lowered = jax.jit(f).trace(jnp.ones((1, 30, 40, 2))).lower(lowering_platforms=("cpu",))
    assert len(re.findall(r"stablehlo\.compare +GT", lowered.as_text())) == comparisons


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, ValueError, "window is 0, expected one or two integers, 1 at least"),
        ({"stride": 1.0}, TypeError, r"stride is 1\.0, expected an integer or a pair"),
        (
            {"padding": "FULL"},
            ValueError,
            "padding is 'FULL', expected 'SAME', 'VALID' or integers",
        ),
        ({"padding": 2}, ValueError, "padding is 2, expected less than the window of 2"),
        ({"window": 6}, ValueError, r"window 6 and padding 'VALID' for x \(5, 4, 3\): nothing"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        max_pool(np.zeros((5, 4, 3)), **({"window": 2, "stride": 2} | options))


def test_argument_errors():
    with pytest.raises(ValueError, match=r"x has shape \(5, 4\), expected \[H, W, C\]"):
        max_pool(np.zeros((5, 4)), 2, stride=2)
    with pytest.raises(TypeError, match="x has dtype int32, expected a floating dtype"):
        max_pool(np.zeros((5, 4, 3), np.int32), 2, stride=2)


def test_adaptive_mean_pool():
    mean = lambda row, size: adaptive_mean_pool(
        jnp.array(row, jnp.float32).reshape(1, -1, 1), (1, size)
    )[0, :, 0].tolist()
    assert mean([1, 3, 5, 7], 2) == [2, 6]
    assert mean([1, 3, 8], 2) == [2, 5.5]  # the middle one counts in both
    assert mean([1, 3], 3) == [1, 2, 3]
    assert mean([1, 3], 4) == [1, 1, 3, 3]
    x = np.random.default_rng(0).normal(size=(2, 7, 10, 3)).astype(np.float32)
    pool = partial(adaptive_mean_pool, size=(7, 5))
    np.testing.assert_allclose(pool(x), x.reshape(2, 7, 5, 2, 3).mean(3), atol=1e-6)
    np.testing.assert_allclose(jax.vmap(pool)(x), pool(x), atol=1e-6)
    np.testing.assert_allclose(pool(x[1]), pool(x)[1], atol=1e-6)
    assert pool(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: pool(x).sum())(x)
    np.testing.assert_allclose(gradient, np.full(x.shape, 0.5), atol=1e-6)
    with pytest.raises(ValueError, match=r"x has shape \(5, 4\), expected \[H, W, C\]"):
        adaptive_mean_pool(np.zeros((5, 4)), 2)
    with pytest.raises(ValueError, match="size is 0, expected one or two integers"):
        adaptive_mean_pool(np.zeros((5, 4, 1)), 0)
