"""Atrous convolution by hand and against PyTorch's recorded answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct.ops import atrous_conv
from tests.ops import conv_reference


def test_by_hand():
    x, kernel = jnp.arange(1.0, 7).reshape(1, 6, 1), jnp.array([1.0, 10, 100]).reshape(1, 3, 1, 1)
    conv = lambda **options: atrous_conv(x, kernel, **options)[0, :, 0].tolist()
    assert conv(rate=2, padding="VALID") == [531, 642]
    assert conv(rate=2) == [310, 420, 531, 642, 53, 64]
    assert conv(rate=(7, 2), stride=(1, 2)) == [420, 642, 64]
    assert conv(rate=2, padding=(0, 1)) == [420, 531, 642, 53]


@pytest.mark.parametrize("case", conv_reference.recorded("atrous_conv"), ids=conv_reference.name)
def test_recorded_values_and_gradients_are_equal_to_the_bit(case):
    # Whole numbers, whose sums are exact.
    options, answer = case
    f = lambda x, weight: atrous_conv(x, weight.transpose(2, 3, 1, 0), **options)
    conv_reference.equal(f, answer)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_values_of_linen_alone_in_a_batch_and_mapped(padding):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 2, 3, 4)).astype(np.float32)
    layer = nn.Conv(4, (3, 2), (2, 1), padding, kernel_dilation=(2, 3), use_bias=False)
    expected = layer.apply({"params": {"kernel": kernel}}, images)
    f = partial(atrous_conv, rate=(2, 3), stride=(2, 1), padding=padding)
    for way in (f, jax.jit(f), jax.vmap(f, (0, None))):
        np.testing.assert_allclose(way(images, kernel), expected, atol=1e-5)
    np.testing.assert_allclose(f(images[1], kernel), expected[1], atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    with jax.enable_x64(True):
        x, kernel = jnp.ones((4, 4, 1), dtype), jnp.ones((3, 3, 1, 1), dtype)
        out = atrous_conv(x, kernel, rate=1)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out[0, :, 0], np.array([4, 6, 6, 4], dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate 0, expected one or two integers, 1 at least"),
        ({"padding": "CAUSAL"}, "padding 'CAUSAL', expected 'SAME', 'VALID' or integers"),
        ({"rate": 3, "padding": "VALID"}, r"padding 'VALID' for x \(5, 4, 3\), .*nothing is left"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        atrous_conv(np.zeros((5, 4, 3)), np.zeros((3, 3, 3, 2)), **({"rate": 2} | options))
    with pytest.raises(ValueError, match=r"got x \(5, 4, 3\) and kernel \(3, 3, 2, 2\)"):
        atrous_conv(np.zeros((5, 4, 3)), np.zeros((3, 3, 2, 2)), rate=2)
