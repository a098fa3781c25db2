"""Products with matrices that are mostly zeros, against products with all of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxstruct.ops import _bands
from tests.ops.conv_reference import quick


def example(shape, share=0.3):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=shape) * (rng.random(shape) < share)
    matrix[0] = matrix[:, 1] = 0
    return matrix, rng.normal(size=(2, shape[1], 3)).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (2, 150), (150, 2)])
def test_values_and_derivatives_are_the_products(shape):
    matrix, x = example(shape, 0.99 if 150 in shape else 0.3)
    full = lambda x: jnp.einsum("ij,bjc->bic", matrix.astype(np.float32), x)

    @quick
    def ways(x):
        found = []
        for f in (partial(_bands.multiply, matrix, axis=1), full):
            square = lambda x, f=f: (f(x) ** 2).sum()
            out, along = jax.jvp(f, [x], [x + 1])
            forward_back = jax.jvp(jax.grad(square), [x], [x + 1])[1]
            back_back = jax.grad(lambda x, g=square: (jax.grad(g)(x) ** 2).sum())(x)
            mapped = jax.vmap(lambda x, f=f: f(x[None])[0])(x)
            found.append((out, along, jax.grad(square)(x), forward_back, back_back, mapped))
        return found

    for ours, true in zip(*ways(x), strict=True):
        np.testing.assert_allclose(ours, true, rtol=1e-4, atol=1e-4 * np.abs(true).max())


@pytest.mark.parametrize("shape", [(7, 4), (2, 150)])
def test_shard_map(shape, devices):
    matrix, x = example(shape)
    f = jax.grad(lambda scale, x: (_bands.multiply(matrix, scale * x, 1) ** 2).sum(), (0, 1))
    scale = np.ones((1, shape[1], 3), np.float32)
    mesh = jax.make_mesh((2,), ("i",), (AxisType.Auto,), devices=devices(2))
    inner = jax.shard_map(f, mesh=mesh, in_specs=(P(), P("i")), out_specs=(P(), P("i")))
    for ours, true in zip(quick(inner)(scale, x), quick(f)(scale, x), strict=True):
        np.testing.assert_allclose(ours, true, rtol=1e-4, atol=1e-4)


def test_a_zero_is_no_factor():
    matrix = np.array([[1.0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0]])
    f = jax.jit(partial(_bands.multiply, matrix, axis=0))
    for bad in (np.nan, np.inf):
        out, back = jax.vjp(f, jnp.array([bad, 1, 1, bad]))
        np.testing.assert_array_equal(out, [bad, 0, 3])
        np.testing.assert_array_equal(back(jnp.array([1.0, bad, bad]))[0], [1, 2, bad, 0])
