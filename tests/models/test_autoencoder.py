"""Perceptrons and autoencoders: sums by hand, gradients against NumPy, tied weights, shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxstruct.losses import bernoulli_log_likelihood, squared_error
from jaxstruct.models import Autoencoder, Perceptron
from tests.models import autoencoder_reference as reference

SIZE, HIDDEN, EXAMPLES = 7, 4, 5


def parameters(tied, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"encoder/layer1/kernel": (SIZE, HIDDEN), "encoder/layer1/bias": (HIDDEN,)}
    if tied:
        shapes["bias1"] = (SIZE,)
    else:
        shapes |= {"decoder/layer1/kernel": (HIDDEN, SIZE), "decoder/layer1/bias": (SIZE,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def as_tree(params):
    return unflatten_dict({k: jnp.asarray(v, jnp.float32) for k, v in params.items()}, sep="/")


def test_a_perceptron_by_hand():
    layers = {
        "layer1": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.array([0.5, 0.5])},
        "layer2": {"kernel": jnp.array([[2.0], [3.0]]), "bias": jnp.array([-1.0])},
    }
    model = Perceptron((2, 1))
    # relu(2 + .5) = 2.5 and relu(-2 + .5) = 0: 2 * 2.5 + 3 * 0 - 1
    np.testing.assert_allclose(model.apply({"params": layers}, jnp.array([2.0])), [4.0])
    # relu(-3 + .5) = 0 and relu(3 + .5) = 3.5: 3 * 3.5 - 1, through tanh
    ended = Perceptron((2, 1), last=jnp.tanh).apply({"params": layers}, jnp.array([-3.0]))
    np.testing.assert_allclose(ended, np.tanh([9.5]), rtol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "squares"])
def test_value_and_gradients_are_those_of_the_equations(tied, loss):
    params = parameters(tied)
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(EXAMPLES, SIZE))
    given = x * (rng.uniform(size=x.shape) > 0.3)
    model = Autoencoder(SIZE, (HIDDEN,), code=nn.sigmoid, tied=tied)
    losses = {
        "cross_entropy": lambda p, x: -bernoulli_log_likelihood(p, x),
        "squares": squared_error,
    }

    def mean(tree):
        prediction = model.apply({"params": tree}, given.astype(np.float32))
        return jnp.mean(losses[loss](prediction, x.astype(np.float32)))

    expected, by_hand = reference.gradients(params, given, x, getattr(reference, loss), tied=tied)
    value, found = jax.jit(jax.value_and_grad(mean))(as_tree(params))
    assert value == pytest.approx(expected, rel=1e-5)
    found = flatten_dict(found, sep="/")
    assert found.keys() == by_hand.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, by_hand[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_decoder_mirrors_the_encoder():
    model = Autoencoder(SIZE, (6, 5, 2))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, SIZE)))["params"]
    kernels = {k: v.shape for k, v in flatten_dict(shapes, sep="/").items() if "kernel" in k}
    assert kernels == {
        "encoder/layer1/kernel": (SIZE, 6),
        "encoder/layer2/kernel": (6, 5),
        "encoder/layer3/kernel": (5, 2),
        "decoder/layer1/kernel": (2, 5),
        "decoder/layer2/kernel": (5, 6),
        "decoder/layer3/kernel": (6, SIZE),
    }


def test_tied_weights_are_the_untied_ones_with_transposed_kernels():
    rng = np.random.default_rng(2)
    tied = Autoencoder(SIZE, (6, 5, 2), nn.sigmoid, jnp.tanh, tied=True)
    params = jax.eval_shape(tied.init, jax.random.key(0), jnp.zeros((1, SIZE)))["params"]
    params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(p.dtype), params)
    assert sorted(params) == ["bias1", "bias2", "bias3", "encoder"]
    decoder = {
        f"layer{4 - i}": {
            "kernel": params["encoder"][f"layer{i}"]["kernel"].T,
            "bias": params[f"bias{i}"],
        }
        for i in (1, 2, 3)
    }
    x = rng.uniform(size=(3, SIZE)).astype(np.float32)
    untied = Autoencoder(SIZE, (6, 5, 2), nn.sigmoid, jnp.tanh)
    both = {"encoder": params["encoder"], "decoder": decoder}
    expected = jax.jit(untied.apply)({"params": both}, x)
    found = jax.jit(tied.apply)({"params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_encode_and_decode_are_the_halves(tied):
    model = Autoencoder(SIZE, (6, 2), tied=tied)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 3, SIZE)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    code = model.apply(variables, x, method="encode")
    assert code.shape == (2, 3, 2)
    np.testing.assert_array_equal(
        model.apply(variables, code, method="decode"), model.apply(variables, x)
    )


@pytest.mark.parametrize("tied", [False, True])
def test_the_compute_dtype(tied):
    model = Autoencoder(SIZE, (6, 2), tied=tied, dtype=jnp.bfloat16)
    x = jnp.ones((2, SIZE))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    assert model.apply(variables, x).dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_bad_arguments():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"widths \(\), expected one or more"):
        Autoencoder(SIZE, ()).init(key, jnp.zeros((1, SIZE)))
    with pytest.raises(ValueError, match=r"widths \(3, 0\)"):
        Perceptron((3, 0)).init(key, jnp.zeros((1, SIZE)))
    with pytest.raises(ValueError, match=r"shape \(1, 6\), expected \[\.\.\., 7\]"):
        Autoencoder(SIZE, (2,)).init(key, jnp.zeros((1, 6)))
    with pytest.raises(ValueError, match=r"expected \[\.\.\., D\]"):
        Perceptron((3,)).init(key, jnp.zeros(()))
    model = Autoencoder(SIZE, (2,))
    variables = model.init(key, jnp.zeros((1, SIZE)))
    with pytest.raises(ValueError, match=r"a code of shape \(1, 3\), expected \[\.\.\., 2\]"):
        model.apply(variables, jnp.zeros((1, 3)), method="decode")
