"""The VAE's linen modules against a hand-written backward pass, and their shapes and options."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxstruct.losses import (
    bernoulli_log_likelihood,
    gaussian_log_likelihood,
    kl_to_standard_normal,
)
from jaxstruct.models import (
    VAE,
    BernoulliDecoder,
    GaussianDecoder,
    GaussianEncoder,
    vae_initializer,
)
from tests.models import vae_reference

SIZE, HIDDEN, LATENT, EXAMPLES = 11, 7, 3, 5
DECODERS = {
    "bernoulli": (BernoulliDecoder(HIDDEN, SIZE), ["logits"], vae_reference.bernoulli),
    "gaussian": (
        GaussianDecoder(HIDDEN, SIZE),
        ["mean", "log_variance"],
        vae_reference.gaussian,
    ),
    "bounded": (
        GaussianDecoder(HIDDEN, SIZE, min_log_variance=-0.5),
        ["mean", "log_variance"],
        partial(vae_reference.gaussian, bound=-0.5),
    ),
}


def vae(name="bernoulli", **options):
    return VAE(GaussianEncoder(HIDDEN, LATENT, **options), DECODERS[name][0])


def batch(dtype=np.float32):
    rng = np.random.default_rng(7)
    x, noise = rng.uniform(size=(EXAMPLES, SIZE)), rng.normal(size=(EXAMPLES, LATENT))
    return x.astype(dtype), noise.astype(dtype)


def negative_bound(model, params, x, noise):
    mean, log_variance, _, prediction = model.apply({"params": params}, x, noise)
    if isinstance(model.decoder, BernoulliDecoder):
        log_likelihood = bernoulli_log_likelihood(prediction, x)
    else:
        log_likelihood = gaussian_log_likelihood(*prediction, x)
    return -jnp.mean(log_likelihood - kl_to_standard_normal(mean, log_variance))


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bound_and_every_gradient_equal_the_hand_written_pass(name, dtype):
    _, heads, likelihood = DECODERS[name]
    made = vae_reference.parameters(SIZE, HIDDEN, LATENT, heads)
    made = {layer: value.astype(dtype).astype(np.float64) for layer, value in made.items()}
    x, noise = (value.astype(np.float64) for value in batch())
    expected, expected_gradients = vae_reference.negative_bound(made, x, noise, likelihood)
    with jax.enable_x64(dtype == "float64"):
        params = unflatten_dict({k: jnp.asarray(v, dtype) for k, v in made.items()}, sep="/")
        value, gradients = jax.jit(jax.value_and_grad(partial(negative_bound, vae(name))))(
            params, jnp.asarray(x, dtype), jnp.asarray(noise, dtype)
        )
    value, gradients = jax.device_get((value, gradients))
    assert value.dtype == dtype
    tolerance = 1e-11 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    gradients = flatten_dict(gradients, sep="/")
    assert gradients.keys() == expected_gradients.keys()
    for layer, gradient in gradients.items():
        reference = expected_gradients[layer]
        difference = np.linalg.norm(gradient - reference)
        assert difference <= tolerance * np.linalg.norm(reference), layer


def test_reference_gradient_is_finite_differences():
    _, heads, likelihood = DECODERS["bounded"]
    made = vae_reference.parameters(SIZE, HIDDEN, LATENT, heads)
    x, noise = batch(np.float64)
    _, gradients = vae_reference.negative_bound(made, x, noise, likelihood)
    for layer, value in made.items():
        direction = vae_reference.parameter(layer, value.shape, seed=1)
        up, down = (
            vae_reference.negative_bound(
                {**made, layer: value + step * direction}, x, noise, likelihood
            )[0]
            for step in (1e-5, -1e-5)
        )
        assert np.sum(gradients[layer] * direction) == pytest.approx((up - down) / 2e-5, rel=1e-7)


@pytest.mark.parametrize("name", DECODERS)
def test_init_reaches_all_parameters(name):
    model = vae(name)
    params = jax.eval_shape(model.init, jax.random.key(0), *batch())["params"]
    made = vae_reference.parameters(SIZE, HIDDEN, LATENT, DECODERS[name][1])
    shapes = {layer: value.shape for layer, value in flatten_dict(params, sep="/").items()}
    assert shapes == {layer: value.shape for layer, value in made.items()}


@pytest.mark.parametrize("name", DECODERS)
def test_call_is_encode_then_sample_then_decode(name):
    model, (x, noise) = vae(name), batch()
    variables = jax.jit(model.init)(jax.random.key(0), x, noise)
    mean, log_variance, z, prediction = model.apply(variables, x, noise)
    encoded = model.apply(variables, x, method="encode")
    np.testing.assert_array_equal(encoded[0], mean)
    np.testing.assert_array_equal(encoded[1], log_variance)
    np.testing.assert_allclose(z, mean + np.sqrt(np.exp(log_variance)) * noise, rtol=1e-6)
    decoded = model.apply(variables, z, method="decode")
    jax.tree.map(np.testing.assert_array_equal, decoded, prediction)


@pytest.mark.parametrize("name", DECODERS)
def test_jit_and_vmap_are_the_loop(name):
    model, (x, noise) = vae(name), batch()
    variables = jax.jit(model.init)(jax.random.key(0), x, noise)

    def apply(x, noise):
        return model.apply(variables, x, noise)

    loop = [apply(*one) for one in zip(x, noise, strict=True)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for mode in (apply, jax.jit(apply), jax.vmap(apply)):
        jax.tree.map(close, mode(x, noise), expected)
    twice = apply(np.stack([x, x]), np.stack([noise, noise]))
    jax.tree.map(close, jax.tree.map(lambda leaf: leaf[1], twice), expected)


def test_compute_dtype_leaves_the_parameters_in_float32():
    model = VAE(
        GaussianEncoder(HIDDEN, LATENT, dtype=jnp.bfloat16),
        GaussianDecoder(HIDDEN, SIZE, min_log_variance=-6.0, dtype=jnp.bfloat16),
    )
    x, noise = batch()
    variables = jax.jit(model.init)(jax.random.key(0), x, noise)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    mean, log_variance, _, prediction = jax.jit(model.apply)(variables, x, noise)
    for leaf in (mean, log_variance, *prediction):
        assert leaf.dtype == jnp.bfloat16
    wide = VAE(GaussianEncoder(HIDDEN, LATENT), DECODERS["gaussian"][0])
    expected = jax.jit(wide.apply)(variables, x, noise)[0]
    np.testing.assert_allclose(mean.astype(np.float32), expected, atol=0.05)


def test_initializers():
    model = VAE(
        GaussianEncoder(300, 40, kernel_init=vae_initializer, bias_init=vae_initializer),
        BernoulliDecoder(300, 50),
    )
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros(50), jnp.zeros(40))["params"]
    # N(0, 0.01), kernels and biases: 0.1, within four deviations of a sample's deviation.
    for leaf in (params["encoder"]["mean"]["kernel"], params["encoder"]["hidden_layer"]["bias"]):
        assert abs(np.std(leaf) - 0.1) < 4 * 0.1 / np.sqrt(2 * leaf.size)
        assert abs(np.mean(leaf)) < 4 * 0.1 / np.sqrt(leaf.size)
    # Linen's default: variance 1 / inputs, and no bias.
    kernel, bias = (params["decoder"]["logits"][leaf] for leaf in ("kernel", "bias"))
    assert np.std(kernel) == pytest.approx(300**-0.5, rel=0.05)
    assert not np.any(bias)


def test_gaussian_mean_lies_between_0_and_1():
    decoder = GaussianDecoder(HIDDEN, SIZE, kernel_init=jax.nn.initializers.normal(3.0))
    draw = jax.jit(decoder.init_with_output)
    (mean, _), _ = draw(jax.random.key(0), 5 * jnp.ones((4, LATENT)))
    assert np.all((mean >= 0) & (mean <= 1))
    assert np.ptp(mean) > 0.9


@pytest.mark.parametrize(("raw", "bounded"), [(9.0, 9.0), (-3.0, -2.306853), (-90.0, -3.0)])
def test_min_log_variance(raw, bounded):
    # The bound is -3: far above it the paper's output; at it -3 + log 2; far below it -3.
    decoder = GaussianDecoder(HIDDEN, SIZE, min_log_variance=-3.0)
    variables = jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros(LATENT))
    params = flatten_dict(jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), variables), sep="/")
    params["params/log_variance/bias"] += raw
    _, log_variance = decoder.apply(unflatten_dict(params, sep="/"), jnp.zeros(LATENT))
    np.testing.assert_allclose(log_variance, bounded, rtol=1e-5)


def test_bounded_log_variance_keeps_a_gradient_below_its_bound():
    decoder = GaussianDecoder(HIDDEN, SIZE, min_log_variance=5.0)
    variables = jax.jit(decoder.init)(jax.random.key(0), jnp.zeros(LATENT))
    total = lambda v: decoder.apply(v, jnp.zeros(LATENT))[1].sum()
    gradient = jax.jit(jax.grad(total))(variables)
    assert np.all(gradient["params"]["log_variance"]["bias"] > 1e-3)


def test_errors_name_what_was_given():
    x, noise = batch()
    with pytest.raises(ValueError, match=r"noise \(5, 2\), expected the shape of z, \(5, 3\)"):
        vae().init(jax.random.key(0), x, noise[:, :2])
    with pytest.raises(ValueError, match="hidden=0, expected at least 1"):
        GaussianEncoder(0, 2).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="size=-1, expected at least 1"):
        BernoulliDecoder(2, -1).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"shape \(\), expected \[\.\.\., D\]"):
        GaussianDecoder(2, 2).init(jax.random.key(0), jnp.zeros(()))
