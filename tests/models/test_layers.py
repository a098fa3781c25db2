"""Layers against the ones of linen that they replace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct.models import UpConv
from jaxstruct.ops import bilinear_kernel


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_upconv_is_conv_transpose(padding, use_bias):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    theirs = nn.ConvTranspose(6, (4, 3), (2, 1), padding, use_bias=use_bias)
    ours = UpConv(6, (4, 3), (2, 1), padding, use_bias=use_bias)
    variables = theirs.init(jax.random.key(0), x)
    made = ours.init(jax.random.key(0), x)
    assert jax.tree.structure(made) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, made, variables)
    variables = jax.tree.map(lambda p: p + 0.1, variables)
    expected = theirs.apply(variables, x)
    np.testing.assert_allclose(ours.apply(variables, x), expected, atol=1e-5)
    np.testing.assert_allclose(ours.apply(variables, x[0]), expected[0], atol=1e-5)
    many = ours.apply(variables, x.reshape(2, 1, 5, 4, 3))
    np.testing.assert_allclose(many, expected[:, None], atol=1e-5)


def test_upconv_options():
    x = jnp.ones((1, 4, 4, 2))
    layer = UpConv(
        2, 4, 2, 1, use_bias=False, kernel_init=lambda key, shape, dtype: bilinear_kernel(2, 2)
    )
    out, variables = layer.init_with_output(jax.random.key(0), x)
    assert out.shape == (1, 8, 8, 2)
    np.testing.assert_array_equal(out[0, 1:-1, 1:-1], 1)
    np.testing.assert_array_equal(variables["params"]["kernel"], bilinear_kernel(2, 2))
    out = UpConv(3, 3, 2, 1, output_padding=1).init_with_output(jax.random.key(0), x)[0]
    assert out.shape == (1, 8, 8, 3)
    half = UpConv(3, 3, 2, dtype=jnp.bfloat16)
    out, variables = half.init_with_output(jax.random.key(0), x)
    assert out.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32
