"""The autoencoders' steps against NumPy, PCA, layers that stay as they are, eight images."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments import _autoencoder, autoencoder_mnist, denoising_mnist, stacked_denoising_mnist
from jaxstruct import data, ops
from jaxstruct.data import Examples
from jaxstruct.models import Autoencoder, Perceptron
from jaxstruct.training import Experiment, State, parallel, run
from tests.models import autoencoder_reference as reference

SHAPE, HIDDEN = (4, 3, 1), 5
SIZE = math.prod(SHAPE)
RATE = 0.3


def random_images(n, shape=SHAPE):
    return Examples({"image": np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)})


def stage(model, kind="cross_entropy", images=None, **options):
    images = random_images(32) if images is None else images
    options = {"batch_size": 8, "epochs": 5, "seed": 0} | options
    coder = getattr(_autoencoder, kind)(model)
    return _autoencoder.stage(
        "train", coder, lambda steps: optax.sgd(RATE), images, images, **options
    )


def one_step(made, state):
    """The state after the first step, its terms, the images of its batch and their keys."""
    devices = jax.devices()[:2]
    images = made.batches.read["image"][made.batches.indices(0)]
    x = images.astype(np.float32) / 255
    batch = jax.device_put(parallel.share({"image": x}, devices))
    # What design demands of the draws: one key per example, from (stage, purpose, step).
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(state.key, 0), 0), len(x))
    after, terms = parallel.Call(made.update, devices)(parallel.stack(state, devices), batch)
    return parallel.unstack(after), parallel.unstack(terms), x.reshape(len(x), -1), keys


def reference_parameters(size, tied):
    rng = np.random.default_rng(4)
    shapes = {"encoder/layer1/kernel": (size, HIDDEN), "encoder/layer1/bias": (HIDDEN,)}
    if tied:
        shapes["bias1"] = (size,)
    else:
        shapes |= {"decoder/layer1/kernel": (HIDDEN, size), "decoder/layer1/bias": (size,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["cross_entropy", "squared"])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_a_step_is_the_paper_s(tied, kind, fraction):
    model = Autoencoder(SIZE, (HIDDEN,), code=nn.sigmoid, tied=tied)
    noise = functools.partial(ops.masking_noise, fraction=fraction)
    made = stage(model, kind, corrupt=noise)
    params = reference_parameters(SIZE, tied)
    tree = unflatten_dict({k: jnp.asarray(v, jnp.float32) for k, v in params.items()}, sep="/")
    state = made.init(jax.random.key(5), None).replace(params=tree)
    after, terms, x, keys = one_step(made, state)
    given = np.asarray(jax.vmap(noise)(keys, x))
    np.testing.assert_array_equal((given == 0).sum(axis=1) - (x == 0).sum(axis=1), fraction * SIZE)
    loss = {"cross_entropy": reference.cross_entropy, "squared": reference.squares}[kind]
    value, gradients = reference.gradients(params, given, x, loss, tied=tied)
    np.testing.assert_allclose(terms["reconstruction"].value, value, rtol=1e-5)
    for name, moved in flatten_dict(after.params, sep="/").items():
        expected = params[name] - RATE * gradients[name]
        np.testing.assert_allclose(moved, expected, rtol=2e-4, atol=2e-5, err_msg=name)


def test_a_layer_learns_what_the_layers_below_make_of_the_clean_image():
    below = Perceptron((6,), nn.sigmoid, nn.sigmoid)
    model = Autoencoder(6, (HIDDEN,), code=nn.sigmoid, tied=True)
    noise = functools.partial(ops.masking_noise, fraction=0.5)
    made = stage(model, corrupt=noise, below=below)
    first = stage(Autoencoder(SIZE, (6,), code=nn.sigmoid, tied=True)).init(jax.random.key(1), None)
    params = reference_parameters(6, tied=True)
    tree = unflatten_dict({k: jnp.asarray(v, jnp.float32) for k, v in params.items()}, sep="/")
    state = made.init(jax.random.key(5), first).replace(params=tree)
    after, terms, x, keys = one_step(made, state)
    layer = first.params["encoder"]["layer1"]
    h = reference.sigmoid(x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"]))
    given = np.where(np.asarray(jax.vmap(noise)(keys, jnp.asarray(h, jnp.float32))) == 0, 0, h)
    value, gradients = reference.gradients(params, given, h, reference.cross_entropy, tied=True)
    np.testing.assert_allclose(terms["reconstruction"].value, value, rtol=1e-5)
    for name, moved in flatten_dict(after.params, sep="/").items():
        expected = params[name] - RATE * gradients[name]
        np.testing.assert_allclose(moved, expected, rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(after.model_state["layer1"]["kernel"], layer["kernel"])


def test_the_error_is_per_pixel_of_clean_images_or_of_corrupted_ones():
    model = Autoencoder(SIZE, (HIDDEN,), code=nn.sigmoid, tied=True)
    images = random_images(30)
    made = stage(model, corrupt=functools.partial(ops.masking_noise, fraction=0.5), images=images)
    state = made.init(jax.random.key(5), None)
    x = images["image"].reshape(30, -1) / np.float32(255)

    def error(given):
        prediction = model.apply({"params": state.params}, given)
        return float(np.mean((reference.sigmoid(np.asarray(prediction)) - x) ** 2))

    assert made.evaluate(state)["error"] == pytest.approx(error(x), rel=1e-5)
    masked = _autoencoder.error_of(
        _autoencoder.cross_entropy(model), images, corrupt=lambda key, x: jnp.zeros_like(x)
    )
    assert masked(state)["error"] == pytest.approx(error(np.zeros_like(x)), rel=1e-5)


@pytest.mark.slow
def test_linear_codes_span_the_principal_components(tmp_path):
    """On images whose variances are far apart, where a short training gets there."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    x = 128 + (rng.normal(size=(600, SIZE)) * np.r_[40.0, 30, 20, np.full(SIZE - 3, 2.0)]) @ basis
    images = Examples({"image": np.clip(x.round(), 0, 255).astype(np.uint8).reshape(-1, *SHAPE)})
    made = _autoencoder.stage(
        "train",
        _autoencoder.squared(
            Autoencoder(SIZE, (3,)), lambda: images["image"].reshape(600, -1).mean(0) / 255
        ),
        _autoencoder.adam(0.01),
        images,
        images,
        batch_size=100,
        epochs=800,
        seed=0,
    )
    ended = run(Experiment(autoencoder_mnist.SMOKE, [made]), tmp_path, devices=jax.devices()[:1])
    flat = images["image"].reshape(600, -1) / 255.0
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    pca = autoencoder_mnist.Pca(flat.mean(0), vectors[:, np.argsort(-values)])
    assert autoencoder_mnist.principal_angles(ended.state.params, pca).max() < 0.5
    assert ended.metrics["error"] == pytest.approx(pca.error(flat, 3), rel=1e-3)
    assert pca.error(flat, 3) == pytest.approx(np.sort(values)[:-3].sum() / SIZE * 599 / 600)


def test_principal_angles_of_known_subspaces():
    pca = autoencoder_mnist.Pca(np.zeros(4), np.eye(4))
    rows = np.array([[1.0, 0, 0, 0], [0, np.cos(0.3), np.sin(0.3), 0]])
    mixed = np.array([[1.0, 2.0], [-3.0, 0.5]]) @ rows
    params = {"decoder": {"layer1": {"kernel": mixed}}}
    angles = autoencoder_mnist.principal_angles(params, pca)
    np.testing.assert_allclose(angles, [0, np.rad2deg(0.3)], atol=1e-4)


def test_shuffled_pixels_are_the_same_pixels():
    images = random_images(3, (28, 28, 1))
    shuffled = np.asarray(autoencoder_mnist.shuffle_pixels(images)["image"])
    original = images["image"]
    np.testing.assert_array_equal(shuffled[:, :4], original[:, :4])
    np.testing.assert_array_equal(shuffled[:, :, 24:], original[:, :, 24:])
    for a, b in zip(shuffled, original, strict=True):
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
    assert (shuffled != original).mean() > 0.4
    # The same order for all: pixels that were equal in two images are equal still.
    same = autoencoder_mnist.shuffle_pixels(Examples({"image": original[[0, 0]]}))["image"]
    np.testing.assert_array_equal(same[0], same[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "nonlinear", "denoising"])
def test_it_overfits_eight_images(kind, tmp_path):
    images = data.load("digits", "train").take(slice(8)).only("image")
    size = 64
    coder = {
        "linear": _autoencoder.squared(Autoencoder(size, (7,))),
        "nonlinear": _autoencoder.squared_sigmoid(Autoencoder(size, (64, 8))),
        "denoising": _autoencoder.cross_entropy(
            Autoencoder(size, (64,), code=nn.sigmoid, tied=True)
        ),
    }[kind]
    noise = functools.partial(ops.masking_noise, fraction=0.25) if kind == "denoising" else None
    made = _autoencoder.stage(
        "train",
        coder,
        _autoencoder.adam(0.01),
        images,
        images,
        batch_size=64,
        epochs=16_000,
        seed=0,
        corrupt=noise,
    )
    ended = run(Experiment(autoencoder_mnist.SMOKE, [made]), tmp_path, devices=jax.devices()[:1])
    # The variance of these pixels is 0.12: the error of the mean image.
    assert ended.metrics["error"] < (1e-3 if kind == "denoising" else 1e-4)


@pytest.fixture
def imitations():
    with data.looking(imitations=True):
        yield


def test_all_levels_of_noise_begin_with_the_same_weights(imitations):
    study = denoising_mnist.experiment(denoising_mnist.SMOKE)
    states = [m.stages[0].init(jax.random.key(0), None) for m in study.experiments.values()]
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, state.params, states[0].params)


def test_the_classifier_begins_with_the_layers_that_were_trained(imitations):
    config = stacked_denoising_mnist.SMOKE
    study = stacked_denoising_mnist.experiment(config)
    assert [len(member.stages) for member in study.experiments.values()] == [1, 3, 3]
    stages = study.experiments["start=denoising"].stages
    state: State | None = None
    seen = {}
    for i, one in enumerate(stages[:-1], 1):
        state = one.init(jax.random.key(i), state)
        # As training would leave it: other values than any initialization has.
        params = jax.tree.map(lambda p, i=i: p + i, state.params)
        state = dataclasses.replace(state, params=params)
        seen[f"layer{i}"] = params["encoder"]["layer1"]
    begun = stages[-1].init(jax.random.key(9), state)
    assert sorted(begun.params) == ["layer1", "layer2", "layer3"]
    for name, layer in seen.items():
        jax.tree.map(np.testing.assert_array_equal, begun.params[name], layer)
    assert begun.params["layer3"]["kernel"].shape == (config.hidden[-1], 10)


def test_training_and_validation_images_are_different(imitations):
    study = stacked_denoising_mnist.experiment(stacked_denoising_mnist.SMOKE)
    whole = data.load("mnist", "train").size
    for member in study.experiments.values():
        for one in member.stages:
            assert len(one.batches.read["image"]) == whole - whole // 6


def test_only_denoising_layers_are_trained_with_noise(imitations):
    study = stacked_denoising_mnist.experiment(stacked_denoising_mnist.SMOKE)
    values = {}
    for start in ("autoencoder", "denoising"):
        made = study.experiments[f"start={start}"].stages[0]
        state = made.init(jax.random.key(5), None)
        _, terms, x, keys = one_step(made, state)
        values[start] = float(terms["reconstruction"].value)
    params = flatten_dict(jax.tree.map(np.float64, state.params), sep="/")
    noise = functools.partial(ops.masking_noise, fraction=0.25)
    masked = np.asarray(jax.vmap(noise)(keys, x))
    for start, given in (("autoencoder", x), ("denoising", masked)):
        value, _ = reference.gradients(params, given, x, reference.cross_entropy, tied=True)
        assert values[start] == pytest.approx(value, rel=1e-5)


def test_a_step_of_the_classifier_and_its_errors(imitations):
    made = stacked_denoising_mnist.experiment(stacked_denoising_mnist.SMOKE)
    classifier = made.experiments["start=random"].stages[-1]
    state = classifier.init(jax.random.key(0), None)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), state.params)
    state = state.replace(params=jax.tree.map(jnp.float32, params))
    at = classifier.batches.indices(0)
    images, labels = (classifier.batches.read[key][at] for key in ("image", "label"))
    x = images.reshape(len(images), -1) / 255
    value, gradients = reference.classifier_gradients(params, x, labels)
    batch = {"image": images.astype(np.float32) / 255, "label": labels}
    devices = jax.devices()[:2]
    batch = jax.device_put(parallel.share(batch, devices))
    after, terms = parallel.Call(classifier.update, devices)(parallel.stack(state, devices), batch)
    assert float(parallel.unstack(terms)["cross_entropy"].value) == pytest.approx(value, rel=1e-5)
    after = parallel.unstack(after)
    mean, rate = after.opt_state[0].mu, stacked_denoising_mnist.SMOKE.learning_rate
    for path, gradient in flatten_dict(gradients).items():
        found = flatten_dict(mean)[path] / (1 - 0.9)  # Adam's first step is its gradient's sign
        np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6, err_msg=path)
        moved = flatten_dict(after.params)[path] - flatten_dict(state.params)[path]
        expected = -rate * found / (np.abs(found) + 1e-8)
        np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=1e-6, err_msg=path)
    # The rate has fallen to 0 at the end.
    counts = jax.tree.map(
        lambda x: jnp.full_like(x, classifier.steps) if x.dtype == jnp.int32 else x, state.opt_state
    )
    ended = parallel.stack(state.replace(opt_state=counts), devices)
    ended = parallel.unstack(parallel.Call(classifier.update, devices)(ended, batch)[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        ended.params,
        state.params,
    )

    whole, test = data.load("mnist", "train"), data.load("mnist", "test")
    errors = {}
    for name, part in {
        "validation_error": whole.take(slice(-(whole.size // 6), None)),
        "test_error": test,
    }.items():
        logits = reference.classify(params, part["image"].reshape(part.size, -1) / 255)[-1]
        errors[name] = 100 * np.mean(logits.argmax(axis=1) != part["label"])
    assert classifier.evaluate(state) == pytest.approx(errors)
    assert errors["test_error"] != errors["validation_error"]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["random", "denoising"])
def test_the_classifier_overfits_eight_images(start, tmp_path, monkeypatch):
    digits = data.load("digits", "train").take(slice(9))  # the ninth is held out
    sets = {"train": digits, "test": digits.take(slice(8))}
    monkeypatch.setattr(data, "load", lambda name, split: sets[split])
    config = dataclasses.replace(
        stacked_denoising_mnist.SMOKE, batch_size=8, learning_rate=0.02, epochs=1200
    )
    member = stacked_denoising_mnist.experiment(config).experiments[f"start={start}"]
    begun = member.stages[-1].init(jax.random.key(0), None)
    before = member.stages[-1].evaluate(begun)["test_error"]
    ended = run(member, tmp_path, devices=jax.devices()[:1])
    (error,) = (r["value"] for r in ended.records if r["metric"] == "test_error")
    assert error == 0 < before
    _, losses = ended.curve("cross_entropy", of="train", stage="classifier")
    assert losses[-1] < 0.01 < 1 < losses[0]
