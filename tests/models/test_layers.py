"""Layers against the ones of linen that they replace."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct.models import Conv, UpConv
from jaxstruct.ops import bilinear_kernel


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_upconv_is_conv_transpose(padding, use_bias):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    theirs = nn.ConvTranspose(6, (4, 3), (2, 1), padding, use_bias=use_bias)
    ours = UpConv(6, (4, 3), (2, 1), padding, use_bias=use_bias)
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    made = jax.jit(ours.init)(jax.random.key(0), x)
    assert jax.tree.structure(made) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, made, variables)
    variables = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.1), variables)
    expected, apply = jax.jit(theirs.apply)(variables, x), jax.jit(ours.apply)
    np.testing.assert_allclose(apply(variables, x), expected, atol=1e-5)
    np.testing.assert_allclose(apply(variables, x[0]), expected[0], atol=1e-5)
    many = apply(variables, x.reshape(2, 1, 5, 4, 3))
    np.testing.assert_allclose(many, expected[:, None], atol=1e-5)


def test_upconv_options():
    x = jnp.ones((1, 4, 4, 2))
    layer = UpConv(
        2, 4, 2, 1, use_bias=False, kernel_init=lambda key, shape, dtype: bilinear_kernel(2, 2)
    )
    out, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert out.shape == (1, 8, 8, 2)
    np.testing.assert_array_equal(out[0, 1:-1, 1:-1], 1)
    np.testing.assert_array_equal(variables["params"]["kernel"], bilinear_kernel(2, 2))
    padded = UpConv(3, 3, 2, 1, output_padding=1)
    out, _ = jax.jit(padded.init_with_output)(jax.random.key(0), x)
    assert out.shape == (1, 8, 8, 3)
    half = UpConv(3, 3, 2, dtype=jnp.bfloat16)
    out, variables = jax.jit(half.init_with_output)(jax.random.key(0), x)
    assert out.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2, "use_bias": False},
        {"padding": "CIRCULAR", "kernel_dilation": 2},
        {"padding": [(1, 2), (0, 1)], "strides": (2, 1)},
        {"feature_group_count": 2, "padding": 1},
        {"input_dilation": 2, "padding": 1},
        {"dtype": jnp.bfloat16, "padding": "VALID"},
    ],
)
def test_conv_is_linens(options):
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 4)).astype(np.float32)
    theirs, ours = nn.Conv(6, (3, 3), **options), Conv(6, (3, 3), **options)
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    made = jax.jit(ours.init)(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, made, variables)
    variables = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.1), variables)
    apply = jax.jit(ours.apply)
    expected, out = jax.jit(theirs.apply)(variables, x), apply(variables, x)
    assert out.dtype == expected.dtype
    tolerance = 1e-5 if out.dtype == jnp.float32 else 0.1
    np.testing.assert_allclose(
        np.asarray(out, np.float32), np.asarray(expected, np.float32), atol=tolerance
    )
    many = apply(variables, x.reshape(2, 1, 9, 8, 4))
    np.testing.assert_array_equal(many[:, 0], out)
    np.testing.assert_allclose(
        np.asarray(apply(variables, x[0]), np.float32),
        np.asarray(expected[0], np.float32),
        atol=tolerance,
    )


def test_a_network_of_linens_convolutions_swaps_them():
    class Network(nn.Module):
        conv: type[nn.Conv]

        @nn.compact
        def __call__(self, x):
            x = nn.relu(self.conv(32, (3, 3))(x))
            x = nn.relu(self.conv(48, (4, 4), strides=2)(x))
            return self.conv(3, (1, 1), name="last")(x)

    x = np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(np.float32)
    variables = jax.jit(Network(nn.Conv).init)(jax.random.key(0), x)
    made = jax.jit(Network(Conv).init)(jax.random.key(0), x)
    assert jax.tree.structure(made) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, made, variables)
    f = lambda conv: jax.jit(jax.grad(lambda v: (Network(conv).apply(v, x) ** 2).mean()))
    for ours, theirs in zip(
        jax.tree.leaves(f(Conv)(variables)), jax.tree.leaves(f(nn.Conv)(variables)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_conv_along_other_numbers_of_axes_is_linens():
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    for size, given in ((3,), x), ((2, 2, 2), x.reshape(1, 2, 7, 1, 3).repeat(2, 3)):
        variables = jax.jit(nn.Conv(4, size).init)(jax.random.key(0), given)
        expected = jax.jit(nn.Conv(4, size).apply)(variables, given)
        found = jax.jit(Conv(4, size).apply)(variables, given)
        np.testing.assert_array_equal(found, expected)


def test_no_model_convolves_with_linens():
    root = Path(__file__).parents[2]
    files = [*root.glob("jaxstruct/models/*.py"), *root.glob("experiments/*.py")]
    assert len(files) > 8
    used = {f.name: re.findall(r"nn\.Conv\w*\(", f.read_text()) for f in files}
    assert not {name for name, found in used.items() if found}
