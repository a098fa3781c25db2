"""What mean-field inference costs: operations counted in the compiled program, on any machine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import crf, mean_field

# Programs are compared as users get them: what is computed twice is seen in no other.
pytestmark = pytest.mark.optimized
SIZE, LABELS, REACH = (40, 50), 5, 9  # the Gaussian of 3 pixels is cut off at 9
SIGMAS = {"sigma_xy": 80.0, "sigma_rgb": 13.0, "sigma_gaussian": 3.0}


def operations(f, *given):
    """Additions, multiplications and the like; those in a loop count once."""
    return jax.jit(f).lower(*given).compile().cost_analysis()["flops"]


def operations_of_messages(lattice):
    """Of both kernels' sums, for all labels, by hand."""
    pixels, corners = SIZE[0] * SIZE[1], len(lattice.vertices)
    windows, vertices = lattice.points.shape, lattice.neighbors.shape[2]
    splat = 2 * windows[0] * windows[1]  # times its share, plus what is there
    blur = 3 * corners * vertices  # two neighbours' sum, times 1/2, plus the vertex
    at_pixels = 2 * corners * pixels
    places = 2 * 3 * REACH * pixels  # along both axes: two sides' sum, times a weight, plus the sum
    return LABELS * (splat + blur + at_pixels + places)


@pytest.mark.skipif(
    jax.default_backend() != "cpu",
    reason="counts the operations of XLA's program for a CPU, and another device has another",
)
def test_messages_are_computed_once_forwards_and_once_backwards():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 40, (*SIZE, 3)).astype(np.uint8)
    unary = jnp.asarray(rng.normal(size=(*SIZE, LABELS)), jnp.float32)
    kernels = crf.pixel_kernels(image, **SIGMAS)
    infer = lambda unary: mean_field(unary, kernels, iterations=10)
    gradient = jax.grad(lambda unary: (infer(unary)[..., 0] ** 2).sum())
    messages = operations_of_messages(kernels[0].filter)
    # A few operations for each marginal beside them: two softmaxes and their gradients.
    assert messages < operations(infer, unary) < messages + 20 * unary.size
    assert 2 * messages < operations(gradient, unary) < 2 * messages + 60 * unary.size
