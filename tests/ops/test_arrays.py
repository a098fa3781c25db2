"""The ground that the ops share: what a barrier does to values, gradients and programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxstruct.ops import _arrays

# Programs are compared as users get them: what is computed twice is seen in no other.
pytestmark = pytest.mark.optimized
ROWS, COLUMNS, TERMS = 50, 40, 20


def many_terms(x):
    """The sum of slices, which is cheap in XLA's eyes."""
    around = jnp.pad(x, ((0, TERMS), (0, 0)))
    return sum((i + 1) * lax.slice_in_dim(around, i, i + ROWS) for i in range(TERMS))


@pytest.mark.skipif(
    jax.default_backend() != "cpu",
    reason="counts the operations of XLA's program for a CPU, and another device has another",
)
@pytest.mark.parametrize("barrier", [_arrays.barrier, _arrays.cpu_barrier])
def test_a_sum_behind_a_barrier_is_computed_once(barrier):
    f = jax.jit(lambda x: many_terms(barrier(many_terms(x))))
    program = f.lower(jnp.ones((ROWS, COLUMNS))).compile()
    # Without it, the inner sum is computed a second time for some of the outer one's slices.
    assert program.cost_analysis()["flops"] < 2 * (2 * TERMS) * ROWS * COLUMNS


@pytest.mark.parametrize("barrier", [_arrays.barrier, _arrays.cpu_barrier])
def test_a_barrier_passes_values_trees_and_derivatives(barrier):
    x = jnp.arange(6.0).reshape(2, 3)
    tree = {"a": x, "b": [x + 1, (x * 2,)]}
    jax.tree.map(np.testing.assert_array_equal, barrier(tree), tree)
    cube = lambda x: barrier(barrier([x * x, x])[0] * x).sum()
    np.testing.assert_allclose(jax.jit(jax.grad(cube))(x), 3 * x**2, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(cube))(x), 3 * x**2, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(cube, (x,), (x,))[1], (3 * x**3).sum(), rtol=1e-6)
