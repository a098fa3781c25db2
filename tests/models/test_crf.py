"""The CRF as a layer: what it computes, and that it learns end to end."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstruct.models import CRFRNN
from jaxstruct.ops import dense_crf
from tests.ops import crf_reference

SIZE, LABELS = (7, 6), 3
SIGMAS = {"sigma_xy": 5.0, "sigma_rgb": 20.0, "sigma_gaussian": 1.5}


def example(batch=(), seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (*batch, *SIZE, 3)).astype(np.uint8)
    return rng.normal(size=(*batch, *SIZE, LABELS)).astype(np.float32), image


# Mean field amplifies rounding, which differs between programs that are not optimized.
@pytest.mark.optimized
@pytest.mark.parametrize("filter", ["exact", "lattice"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_at_the_start_it_is_the_dense_crf(filter, batch):
    logits, image = example(batch)
    layer = CRFRNN(filter=filter, iterations=3, capacity=42, **SIGMAS)
    out, _ = jax.jit(layer.init_with_output)(jax.random.key(0), logits, image)
    options = {"filter": filter, "iterations": 3, "capacity": 42, **SIGMAS}
    expected = jax.jit(partial(dense_crf, **options))(-logits, image)
    np.testing.assert_allclose(jax.nn.softmax(out), expected, atol=2e-5)


def test_weights_and_costs_of_each_label_by_the_sums():
    logits, image = example(seed=1)
    rng = np.random.default_rng(2)
    params = {
        "bilateral_weight": rng.uniform(0.5, 2, LABELS),
        "gaussian_weight": rng.uniform(0.5, 2, LABELS),
        "compatibility": rng.normal(size=(LABELS, LABELS)),
    }
    layer = CRFRNN(filter="exact", iterations=3, **SIGMAS)
    out = jax.jit(layer.apply)({"params": params}, logits, image)
    features = crf_reference.pixel_kernels(image, 5.0, 20.0, 1.5)
    kernels = [crf_reference.normalized_kernel(f) for f in features]
    x = flat = logits.reshape(-1, LABELS).astype(np.float64)
    for _ in range(3):
        q = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        sums = params["bilateral_weight"] * (kernels[0] @ q)
        sums += params["gaussian_weight"] * (kernels[1] @ q)
        x = flat - sums @ params["compatibility"].T
    np.testing.assert_allclose(np.reshape(out, x.shape), x, atol=1e-4)


@pytest.mark.parametrize("filter", ["exact", "lattice"])
def test_it_learns_end_to_end(filter):
    # What is asked for is the blockwise image; the logits say it with noise.
    rng = np.random.default_rng(3)
    labels = np.repeat([[0, 1, 2]], 9, 0).repeat(3, 1)
    image = (labels[..., None] * 80 + rng.normal(0, 5, (9, 9, 3))).astype(np.float32)
    logits = jax.nn.one_hot(labels, LABELS) + rng.normal(size=(9, 9, LABELS))
    layer = CRFRNN(
        iterations=2,
        filter=filter,
        capacity=81,
        bilateral_init=jax.nn.initializers.constant(0.1),
        gaussian_init=jax.nn.initializers.constant(0.1),
        **SIGMAS,
    )
    params = jax.jit(layer.init)(jax.random.key(0), logits, image)
    optimizer = optax.adam(0.3)

    def loss(both):
        out = layer.apply(both[0], both[1], image)
        return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()

    @jax.jit
    def step(both, state):
        value, gradient = jax.value_and_grad(loss)(both)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(both, updates), state), (value, gradient)

    state = ((params, logits), optimizer.init((params, logits)))
    values = []
    for _ in range(12):
        state, (value, gradient) = step(*state)
        values.append(float(value))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    assert values[-1] < 0.2 * values[0]


def test_errors():
    logits, image = example()
    with pytest.raises(ValueError, match=r"got unary \(7, 6, 3\) and image \(6, 7, 3\)"):
        CRFRNN().init(jax.random.key(0), logits, np.zeros((6, 7, 3)))
    with pytest.raises(ValueError, match="multiply it by 255"):
        CRFRNN().init(jax.random.key(0), logits, image / np.float32(255))
    with pytest.raises(ValueError, match="capacity is 1, expected 42 at least"):
        CRFRNN(capacity=1).init(jax.random.key(0), logits, image)
    with pytest.raises(ValueError, match="sigma_xy is 0, expected a finite number above 0"):
        jax.jit(CRFRNN(sigma_xy=0, capacity=42).init)(jax.random.key(0), logits, image)
    out, _ = jax.jit(CRFRNN(capacity=1).init_with_output)(jax.random.key(0), logits, image)
    assert jnp.isnan(out).all()
