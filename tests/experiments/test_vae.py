"""The variational autoencoder's step against NumPy, its estimates against integrals, eight images.

The gradients of the model and of each loss term have their tests beside the models and the losses.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments import _vae, _vae_study, vae_frey_face, vae_frey_face_study
from jaxstruct import losses
from jaxstruct.data import Examples, load, looking
from jaxstruct.models import VAE, BernoulliDecoder, GaussianDecoder, GaussianEncoder
from jaxstruct.training import State, parallel, run
from tests.models import vae_reference

HIDDEN, LATENT, SHAPE = 6, 3, (4, 3, 1)
SIZE = math.prod(SHAPE)
CASES = {
    "bernoulli": (BernoulliDecoder, losses.BERNOULLI, ["logits"], vae_reference.bernoulli),
    "gaussian": (
        GaussianDecoder,
        losses.GAUSSIAN,
        ["mean", "log_variance"],
        vae_reference.gaussian,
    ),
}


def made(case="bernoulli", images=None, **options):
    decoder, likelihood, *_ = CASES[case]
    images = random_images(32) if images is None else images
    hidden = options.pop("hidden", HIDDEN)
    latent = options.pop("latent", LATENT)
    config = _vae.Config(hidden=hidden, latent=latent, **{"batch_size": 8, "epochs": 5, **options})
    model = VAE(GaussianEncoder(hidden, latent), decoder(hidden, images[0].size))
    examples = Examples({"image": images})
    return model, likelihood, _vae.experiment(config, model, likelihood, examples, examples)


def estimate(model, likelihood, latent, params, x, keys, samples):
    """The importance-sampled log p(x) of vectors x [b, D]."""
    coder = _vae.Coder(model, likelihood, latent, SHAPE)
    state = State.create(jax.random.key(0), params, {})
    batch = {"image": x.reshape(-1, *SHAPE)}
    of = lambda valid: _vae.log_likelihood(coder, samples, state, batch, valid, keys)
    # The mean over each image alone: nothing else depends on what is valid.
    return jax.vmap(of)(jnp.eye(len(x), dtype=bool))["log_likelihood"].value


def random_images(n):
    return np.random.default_rng(0).integers(0, 256, (n, *SHAPE), np.uint8)


def one_step(stage, params, opt_state_of):
    """The state after the first step from given parameters, its terms, its noise and its images."""
    devices = jax.devices()[:2]
    state = stage.init(jax.random.key(5), None)
    state = state.replace(params=params, opt_state=opt_state_of(params))
    images = stage.batches.read["image"][stage.batches.indices(0)]
    x = images.astype(np.float32) / 255
    batch = jax.device_put(parallel.share({"image": x}, devices))
    # What design demands of the draws: one key per example, from (stage, purpose, step).
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), 0)
    noise = jax.vmap(lambda k: jax.random.normal(k, (LATENT,)))(jax.random.split(key, len(x)))
    after, terms = parallel.Call(stage.update, devices)(parallel.stack(state, devices), batch)
    return (
        parallel.unstack(after),
        parallel.unstack(terms),
        np.asarray(noise),
        x.reshape(len(x), -1),
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
@pytest.mark.parametrize("weight_prior", [False, True])
def test_a_step_is_the_paper_s(case, optimizer, weight_prior):
    import optax

    rate = 0.01
    _, _, experiment = made(
        case, optimizer=optimizer, learning_rate=rate, weight_prior=weight_prior
    )
    reference = vae_reference.parameters(SIZE, HIDDEN, LATENT, CASES[case][2])
    params = unflatten_dict({k: jnp.asarray(v, jnp.float32) for k, v in reference.items()}, sep="/")
    after, terms, noise, x = one_step(
        experiment.stages[0], params, getattr(optax, optimizer)(rate).init
    )
    value, gradient = vae_reference.negative_bound(reference, x, noise, CASES[case][3])
    np.testing.assert_allclose(terms["reconstruction"].value + terms["kl"].value, value, rtol=1e-5)
    if weight_prior:
        # -log N(theta; 0, I) is half the squared norm, once for all of the 32 images.
        gradient = {name: g + reference[name] / 32 for name, g in gradient.items()}
        squares = sum(np.sum(v**2) for v in reference.values())
        np.testing.assert_allclose(terms["prior"].value, squares / 2 / 32, rtol=1e-5)
    for name, moved in flatten_dict(after.params, sep="/").items():
        g = gradient[name]
        if optimizer == "adam":
            # The first step: both bias-corrected moments are those of this gradient alone.
            step = rate * g / (np.abs(g) + 1e-8)
        else:
            # Optax begins the sum of squares at 0.1.
            step = rate * g / np.sqrt(0.1 + g**2 + 1e-7)
        np.testing.assert_allclose(moved, reference[name] - step, atol=2e-5, err_msg=name)


def test_terms_are_those_of_the_losses():
    model, _, experiment = made()
    stage = experiment.stages[0]
    state = stage.init(jax.random.key(5), None)
    opt_state = jax.tree.map(jnp.copy, state.opt_state)
    _, terms, noise, x = one_step(stage, state.params, lambda _: opt_state)
    mean, log_variance, _, logits = model.apply({"params": state.params}, x, noise)
    np.testing.assert_allclose(
        terms["kl"].value, np.mean(losses.kl_to_standard_normal(mean, log_variance)), rtol=1e-5
    )
    np.testing.assert_allclose(
        terms["reconstruction"].value,
        -np.mean(losses.bernoulli_log_likelihood(logits, x)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("case", CASES)
def test_the_estimate_of_the_likelihood_is_the_integral(case):
    decoder, likelihood, *_ = CASES[case]
    model = VAE(GaussianEncoder(HIDDEN, 1), decoder(HIDDEN, SIZE))
    x = random_images(5).reshape(5, -1).astype(np.float32) / 255
    params = model.init(jax.random.key(0), x, jnp.zeros((5, 1)))["params"]
    # A posterior near the prior covers the integrand: the weights vary little.
    params = {**params, "encoder": jax.tree.map(lambda w: w / 4, params["encoder"])}
    z = np.linspace(-8, 8, 4001)[:, None].astype(np.float32)
    prediction = model.apply({"params": params}, z, method="decode")
    expected = []
    for one in x:
        log_joint = likelihood.log(prediction, np.broadcast_to(one, (len(z), SIZE)))
        log_joint = np.asarray(log_joint + losses.standard_normal_log_density(z), np.float64)
        expected.append(np.log(np.sum(np.exp(log_joint - log_joint.max())) * 16 / 4000))
        expected[-1] += log_joint.max()
    keys = jax.random.split(jax.random.key(1), 5)
    many = estimate(model, likelihood, 1, params, x, keys, 3000)
    np.testing.assert_allclose(many, expected, atol=0.05)
    # k = 1 is the bound, which is lower.
    ones = [
        estimate(model, likelihood, 1, params, x, jax.random.split(k, 5), 1)
        for k in jax.random.split(jax.random.key(2), 200)
    ]
    assert np.all(np.mean(ones, 0) < np.asarray(expected) + 0.05)
    assert np.mean(ones) < np.mean(expected)


def test_bound_and_likelihood_of_an_experiment_are_the_model_s():
    model, likelihood, experiment = made(importance_samples=2000, importance_images=6)
    state = experiment.stages[0].init(jax.random.key(0), None)
    metrics = experiment.stages[0].evaluate(state) | experiment.score({"train": state})
    x = random_images(32).reshape(32, -1).astype(np.float32) / 255
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(32))
    noise = jax.vmap(lambda k: jax.random.normal(k, (LATENT,)))(keys)
    mean, log_variance, _, logits = model.apply({"params": state.params}, x, noise)
    bound = losses.bernoulli_log_likelihood(logits, x)
    bound -= losses.kl_to_standard_normal(mean, log_variance)
    assert metrics["bound"] == pytest.approx(float(np.mean(bound)), rel=1e-5)
    assert metrics["train_bound"] == metrics["bound"]
    values = estimate(model, likelihood, LATENT, state.params, x[:6], keys[:6], 2000)
    assert metrics["log_likelihood"] == pytest.approx(float(np.mean(values)), rel=1e-5)


@pytest.mark.slow
def test_it_overfits_eight_images(tmp_path):
    digits = load("digits", "train")["image"][:8]
    images = np.where(digits > 127, 255, 0).astype(np.uint8)
    model, likelihood, experiment = made(
        images=images,
        hidden=64,
        latent=2,
        batch_size=64,
        epochs=12_000,
        evaluations=2,
        importance_samples=500,
        learning_rate=0.003,
    )
    finished = run(experiment, tmp_path, devices=jax.devices()[:1])
    # Eight images that are equally likely have log 1/8 each at best; all of 64 binary pixels that
    # were drawn at random would have -44.
    assert -3.5 < finished.metrics["log_likelihood"] < -math.log(8) + 0.02
    assert -7 < finished.metrics["bound"] < -math.log(8)
    x = images.reshape(8, -1) / np.float32(255)
    params = finished.state.params
    coder = _vae.Coder(model, likelihood, 2, images.shape[1:])
    np.testing.assert_array_equal(coder.reconstruct(params, x) > 0.5, images > 127)


def test_frey_face_holds_out_200_frames(monkeypatch):
    held, members = {}, {}
    for split in ("random", "temporal"):
        with looking(imitations=True):
            faces = load("frey_face", "train")
            monkeypatch.setattr(_vae, "experiment", lambda *given, **options: given[3:5])
            monkeypatch.setattr(_vae_study, "study", lambda *given, **options: given[3:5])
            for file in (vae_frey_face, vae_frey_face_study):
                train, held[split] = file.experiment(dataclasses.replace(file.SMOKE, split=split))
                members.setdefault(split, []).append(held[split]["frame"])
        frames = np.concatenate([train["frame"], held[split]["frame"]])
        np.testing.assert_array_equal(np.sort(frames), np.sort(faces["frame"]))
    for alone, in_a_study in members.values():
        np.testing.assert_array_equal(alone, in_a_study)
    np.testing.assert_array_equal(held["temporal"]["frame"], faces["frame"][-200:])
    order = np.random.default_rng(0).permutation(faces.size)
    np.testing.assert_array_equal(held["random"]["frame"], faces["frame"][order[-200:]])
