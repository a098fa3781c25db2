"""The game's step against NumPy, half-half batches, figures' parts, eight images.

The gradients of the models and of each loss term have their tests beside the models and the losses.
"""

import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments import _gan, gan_mnist
from jaxstruct.data import Examples, load
from jaxstruct.models import GANDiscriminator, GANGenerator, Players, perceptron_players
from jaxstruct.training import State, begin_game, parallel, run
from tests.models import gan_reference
from tests.models.test_gan import drawn_by

LATENT, HIDDEN, UNITS, PIECES, SHAPE = 4, 7, 5, 3, (3, 4, 1)
SIZE = math.prod(SHAPE)
B1, B2 = 0.5, 0.999  # Adam's
# In a program that is not optimized, XLA may round what Maxout compares twice, each time otherwise:
# the gradient of its maximum is 0 / 0 there.
pytestmark = pytest.mark.optimized


def random_images(n, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def made(**options):
    config = gan_mnist.Config(
        **{
            "latent": LATENT,
            "hidden": HIDDEN,
            "maxout": UNITS,
            "pieces": PIECES,
            "batch_size": 8,
            "epochs": 10,
            "learning_rate": 0.01,
            "parzen_samples": 20,
            **options,
        }
    )
    train, validation, test = (Examples({"image": random_images(32, seed=i)}) for i in range(3))
    return config, gan_mnist.game(config, train, validation, test, [])


def keys_of(state, turn, n):
    """What design demands of the draws: one key per example, from (stage, turn, step)."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, turn), 0)
    return jax.random.split(key, n)


@jax.jit
@jax.vmap
def noise_of_each(key):
    return jax.random.uniform(key, (LATENT,), minval=-math.sqrt(3), maxval=math.sqrt(3))


def noise(keys):
    return np.asarray(noise_of_each(keys), np.float64)


@jax.jit
@jax.vmap
def masks_of_each(key):
    model = GANDiscriminator(UNITS, PIECES)
    params = model.init(jax.random.key(0), jnp.zeros(SIZE))
    apply = lambda x: model.apply(params, x, train=True, rngs={"dropout": key})
    return drawn_by(apply, jnp.ones(SIZE))[0]


def masks(keys):
    """The masks of dropout [b, ...] that the discriminator draws from each key."""
    return [np.asarray(layer, np.float64) for layer in masks_of_each(keys)]


class ByHand:
    """Adam, or the momentum of the authors' configuration, with everything that it remembers."""

    def __init__(self, kind, rate):
        self.kind, self.rate, self.steps, self.m, self.v = kind, rate, 0, {}, {}

    def move(self, params, gradients):
        self.steps += 1
        after = {}
        for name, g in gradients.items():
            if self.kind == "sgd":
                self.m[name] = 0.5 * self.m.get(name, 0) + g
                after[name] = params[name] - self.rate * self.m[name]
                continue
            self.m[name] = B1 * self.m.get(name, 0) + (1 - B1) * g
            self.v[name] = B2 * self.v.get(name, 0) + (1 - B2) * g**2
            m = self.m[name] / (1 - B1**self.steps)
            v = self.v[name] / (1 - B2**self.steps)
            after[name] = params[name] - self.rate * m / (np.sqrt(v) + 1e-8)
        return after


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
@pytest.mark.parametrize(("optimizer", "k"), [("sgd", 1), ("sgd", 2), ("adam", 2)])
def test_a_step_is_algorithm_1(loss, optimizer, k):
    rate = 0.01
    config, experiment = made(
        loss=loss, optimizer=optimizer, discriminator_steps=k, learning_rate=rate
    )
    stage, devices = experiment.stages[0], jax.devices()[:2]
    drawn = {
        "discriminator": gan_reference.of_discriminator(SIZE, UNITS, PIECES),
        "generator": gan_reference.of_generator(LATENT, HIDDEN, SIZE),
    }
    params = {
        player: unflatten_dict({n: jnp.asarray(v, jnp.float32) for n, v in p.items()}, sep="/")
        for player, p in drawn.items()
    }
    optimizers = dict.fromkeys(params, gan_mnist.optimizer(config, 32))
    state = begin_game(jax.random.key(5), params, {}, optimizers)
    x = stage.batches.read["image"][stage.batches.indices(0)].astype(np.float32) / 255
    assert len(x) == 8 * k
    batch = jax.device_put(parallel.share({"image": x}, devices))
    after, terms = parallel.Call(stage.update, devices)(parallel.stack(state, devices), batch)
    after, terms = parallel.unstack(after), parallel.unstack(terms)

    x = x.reshape(len(x), -1).astype(np.float64)
    p_d, p_g = drawn["discriminator"], drawn["generator"]
    of_d, of_g = ByHand(optimizer, rate), ByHand(optimizer, rate)
    told = []
    for i in range(k):
        part = keys_of(state, 0, 8 * k)[i::k]
        z_keys, real_keys, fake_keys = jax.vmap(lambda k: jax.random.split(k, 3))(part).T
        value, gradient = gan_reference.discriminator(
            p_d, p_g, x[i::k], noise(z_keys), masks(real_keys), masks(fake_keys)
        )
        told.append(value)
        p_d = of_d.move(p_d, gradient)
    part = keys_of(state, 1, 8 * k)[::k]
    z_keys, fake_keys = jax.vmap(lambda k: jax.random.split(k, 2))(part).T
    value, gradient = gan_reference.generator(p_d, p_g, noise(z_keys), masks(fake_keys), loss)
    p_g = of_g.move(p_g, gradient)

    np.testing.assert_allclose(terms["discriminator"].value, np.mean(told), rtol=1e-5)
    np.testing.assert_allclose(terms["generator"].value, value, rtol=1e-5)
    for player, expected in (("discriminator", p_d), ("generator", p_g)):
        for name, moved in flatten_dict(after.params[player], sep="/").items():
            step = np.abs(expected[name] - drawn[player][name]).max()
            assert step > 1e-5, name
            np.testing.assert_allclose(
                moved, expected[name], atol=2e-3 * step + 1e-7, err_msg=f"{player} {name}"
            )
    assert int(after.step) == 1


class Fakes:
    """Players that only note what they are shown: what is generated is grey 0.25."""

    def __init__(self):
        self.judged, self.made = [], []
        self.players = Players(self.init, self.draw, self.generate, self.judge)

    def init(self, key):
        return {"discriminator": jnp.ones(()), "generator": jnp.ones(())}, {"seen": jnp.zeros(())}

    def draw(self, key):
        return jax.random.normal(key, (2,))

    def generate(self, params, model_state, z, train):
        self.made.append(np.asarray(z))
        return jnp.full((len(z), 1, 1, 1), 0.25), {"seen": model_state["seen"] * 10 + 1}

    def judge(self, params, model_state, images, keys):
        self.judged.append((np.asarray(images).ravel(), keys))
        return images[:, 0, 0, 0], {"seen": model_state["seen"] * 10 + 2}


def batch_and_keys(b=6):
    images = jnp.linspace(0.5, 1, b).reshape(b, 1, 1, 1)
    return {"image": images}, jax.random.split(jax.random.key(3), b)


def test_half_of_the_discriminators_batch_is_real_and_half_is_generated():
    fakes, (batch, keys) = Fakes(), batch_and_keys()
    loss = _gan.moves(fakes.players, "minimax")["discriminator"]
    terms, model_state = loss(fakes.init(None)[0], {"seen": jnp.zeros(())}, batch, keys)
    (real, _), (generated, _) = fakes.judged
    np.testing.assert_array_equal(real, batch["image"].ravel())
    np.testing.assert_array_equal(generated, np.full(6, 0.25, np.float32))
    # Twelve images: a logit is what an image holds.
    assert float(terms["discriminator"].count) == 12
    real_terms = np.log(1 + np.exp(-np.linspace(0.5, 1, 6)))
    by_hand = np.sum(real_terms) + 6 * np.log(1 + np.exp(0.25))
    assert float(terms["discriminator"].total) == pytest.approx(by_hand, rel=1e-6)
    # The state of the models went through generator, then twice through the discriminator.
    assert float(model_state["seen"]) == 122


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [("minimax", -np.log(1 + np.exp(0.25))), ("non_saturating", np.log(1 + np.exp(-0.25)))],
)
def test_the_generators_batch_is_generated_alone(kind, by_hand):
    fakes, (batch, keys) = Fakes(), batch_and_keys()
    loss = _gan.moves(fakes.players, kind)["generator"]
    terms, model_state = loss(fakes.init(None)[0], {"seen": jnp.zeros(())}, batch, keys)
    ((generated, _),) = fakes.judged
    np.testing.assert_array_equal(generated, np.full(6, 0.25, np.float32))
    assert float(terms["generator"].count) == 6
    assert float(terms["generator"].value) == pytest.approx(by_hand, rel=1e-6)
    assert float(model_state["seen"]) == 12


def test_every_image_has_noise_and_masks_of_its_own():
    for loss, images in (("discriminator", 12), ("generator", 6)):
        fakes, (batch, keys) = Fakes(), batch_and_keys()
        move = _gan.moves(fakes.players, "minimax")[loss]
        move(fakes.init(None)[0], {"seen": jnp.zeros(())}, batch, keys)
        assert len(np.unique(np.concatenate(fakes.made), axis=0)) == 6
        drawn = np.concatenate([jax.random.key_data(keys) for _, keys in fakes.judged])
        assert len(np.unique(drawn, axis=0)) == len(drawn) == images


def test_the_rounds_of_the_discriminator_see_different_images():
    _, experiment = made(discriminator_steps=3, batch_size=8)
    stage = experiment.stages[0]
    assert stage.batches.size == 24
    # 10 passes through 32 images by 24 a step, in whole calls of ten steps.
    assert stage.steps == 10
    order = np.concatenate([stage.batches.indices(step) for step in range(4)])
    assert sorted(order[:32]) == list(range(32))


def test_the_value_function_by_hand():
    fakes = Fakes()
    params, model_state = fakes.init(None)
    state = State.create(jax.random.key(0), params, {}, model_state)
    batch, keys = batch_and_keys()
    valid = jnp.arange(6) < 4
    found = _gan.value(fakes.players, False, state, batch, valid, keys)
    real = np.linspace(0.5, 1, 6)[:4]
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    by_hand = {
        "value": np.mean(np.log(sigmoid(real)) + np.log(1 - sigmoid(0.25))),
        "d_real": np.mean(sigmoid(real)),
        "d_generated": sigmoid(0.25),
    }
    assert {k: float(m.value) for k, m in found.items()} == pytest.approx(by_hand, rel=1e-6)
    # No dropout and no statistics of the batch: nothing is drawn from keys.
    assert [keys for _, keys in fakes.judged] == [None, None]


def test_many_images_are_generated_in_parts():
    players = perceptron_players(
        GANGenerator(HIDDEN, SIZE), GANDiscriminator(UNITS, PIECES), LATENT, SHAPE
    )
    params, model_state = players.init(jax.random.key(0))
    state = State.create(jax.random.key(0), params, {}, model_state)
    z = players.noise(jax.random.key(1), 3, 700)
    assert z.shape == (3, 700, LATENT)
    images = _gan.generated(players, state, z)
    assert images.shape == (3, 700, *SHAPE)
    alone, _ = players.generate(params["generator"], model_state, z[2, 123:124], False)
    np.testing.assert_allclose(images[2, 123], alone[0], rtol=1e-5)


def test_an_interpolation_leads_straight_between_two_z(monkeypatch):
    """Images are z itself."""
    config, _ = made()
    z_of = lambda key: jax.random.uniform(key, (LATENT,))
    as_image = lambda params, model_state, z, train: (z[:, None, None], model_state)
    play = Players(lambda key: ({}, {}), z_of, as_image, lambda *arguments: arguments)
    state, lines = begin_game(jax.random.key(0), {"generator": {}}, {}, {}), []
    monkeypatch.setattr(
        gan_mnist.figures, "image_grid", lambda x, **_: lines.append(x[..., 0, 0, :])
    )
    monkeypatch.setattr(_gan, "beside_nearest", lambda *given: None)
    monkeypatch.setattr(_gan, "curves", lambda *given: {})
    train = Examples({"image": random_images(4)})
    gan_mnist.draw(config, play, train, SimpleNamespace(state=state))
    (z,) = lines
    assert z.shape == (8, 15, LATENT)
    ends = np.asarray(play.noise(_gan.key_of(config, 1), 2, 8))
    np.testing.assert_allclose(z[:, 0], ends[0], atol=1e-6)
    np.testing.assert_allclose(z[:, -1], ends[1], atol=1e-6)
    np.testing.assert_allclose(np.diff(z, 2, axis=1), 0, atol=1e-6)


def test_the_authors_schedule():
    optimizer = gan_mnist.optimizer(gan_mnist.PAPER, 50_000)
    state = optimizer.init({"w": jnp.zeros(())})
    at = {}
    for step in (0, 499, 500, 62_500, 125_000, 250_000, 10_000_000):
        counted = jax.tree.map(lambda x, n=step: x if x.dtype == np.float32 else 0 * x + n, state)
        _, after = optimizer.update({"w": jnp.ones(())}, counted, {"w": jnp.zeros(())})
        at[step] = {name: float(value) for name, value in after.hyperparams.items()}
    assert at[0] == pytest.approx({"learning_rate": 0.1, "momentum": 0.5})
    # 500 steps an epoch: half-way between the first and the 250th, then at its end.
    assert at[499]["momentum"] == at[500]["momentum"] == pytest.approx(0.5)
    assert at[62_500]["momentum"] == pytest.approx(0.5 + 0.2 * 124 / 249)
    assert at[125_000]["momentum"] == at[250_000]["momentum"] == pytest.approx(0.7)
    for step in (499, 62_500, 250_000):
        assert at[step]["learning_rate"] == pytest.approx(0.1 / 1.000004**step, rel=1e-4)
    assert at[10_000_000]["learning_rate"] == pytest.approx(1e-6)


def test_the_papers_generator_begins_at_the_mean_image():
    images = random_images(50)
    images[:, 0, 0] = 0
    config = dataclasses.replace(gan_mnist.PAPER, latent=LATENT)
    generator, discriminator = gan_mnist.networks(config, SIZE)
    assert (generator.hidden, discriminator.hidden, discriminator.pieces) == (1200, 240, 5)
    players = perceptron_players(generator, discriminator, LATENT, SHAPE)
    z = players.noise(jax.random.key(0), 50)
    variables = generator.init(jax.random.key(1), z)
    drawn = State.create(jax.random.key(0), {"generator": variables["params"]}, {})
    params = gan_mnist.from_the_mean(drawn, images).params["generator"]
    x = generator.apply({"params": params}, z)
    np.testing.assert_allclose(x.mean(0), images.reshape(50, -1).mean(0) / 255, atol=0.06)
    assert float(x[:, 0].max()) < 1e-5
    for model, bound in ((variables, 0.05), (discriminator.init(jax.random.key(2), x), 0.005)):
        kernels = [v for k, v in flatten_dict(model).items() if k[-1] == "kernel"]
        assert bound * 0.99 < max(float(jnp.abs(v).max()) for v in kernels) <= bound


def test_the_parzen_window_is_the_one_that_validation_images_choose():
    rng = np.random.default_rng(0)
    samples = rng.random((30, SIZE)).astype(np.float32)
    validation, test = random_images(40, seed=1), random_images(25, seed=2) // 8

    def mean(sigma, images):
        x = images.reshape(len(images), 1, SIZE) / 255
        squares = np.sum((x - samples[None].astype(np.float64)) ** 2, axis=2)
        densities = np.exp(-squares / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** (SIZE / 2)
        return np.log(densities.mean(1))

    best, other = (
        max(np.logspace(-1, 0, 10), key=lambda sigma, images=images: mean(sigma, images).mean())
        for images in (validation, test)
    )
    assert best != other
    values = mean(best, test)
    expected = {
        "parzen_log_likelihood": values.mean(),
        "parzen_standard_error": values.std() / 5,
        "parzen_sigma": best,
    }
    assert gan_mnist.parzen(samples, validation, test) == pytest.approx(expected, rel=1e-4)
    assert 0.1 < best < 1


def test_a_score_is_of_samples_and_of_as_many_images():
    _, experiment = made(parzen_samples=20)
    state = experiment.stages[0].init(jax.random.key(0), None)
    found = experiment.score({"game": state})
    train, validation, test = (random_images(32, seed=i) for i in range(3))
    instead = train[:20].reshape(20, SIZE).astype(np.float32) / 255
    expected = gan_mnist.parzen(instead, validation, test, state)["parzen_log_likelihood"]
    assert found["parzen_of_images"] == expected
    assert found["parzen_log_likelihood"] != expected
    assert set(found) == {
        "parzen_log_likelihood",
        "parzen_standard_error",
        "parzen_sigma",
        "parzen_of_images",
    }
    assert found == experiment.score({"game": state})


@pytest.mark.slow
def test_it_overfits_eight_images(tmp_path):
    # Grey ones: a sigmoid that has reached 0 or 1 moves no more, and whole modes are lost.
    digits = load("digits", "train")["image"][:8]
    images = (51 + 0.6 * digits).astype(np.uint8)
    config = gan_mnist.Config(
        latent=8,
        hidden=128,
        maxout=64,
        batch_size=256,
        epochs=4000 * 256 / 8,
        learning_rate=1e-3,
        evaluations=1,
    )
    eight = Examples({"image": images})
    experiment = gan_mnist.game(config, eight, eight, eight, [])
    alone = dataclasses.replace(experiment, score=None, figures=None)
    state = run(alone, tmp_path, devices=jax.devices()[:1]).state
    players = perceptron_players(*gan_mnist.networks(config, 64), config.latent, (8, 8, 1))
    samples = _gan.generated(players, state, players.noise(jax.random.key(1), 1000))
    x, eight = samples.reshape(1000, 1, 64), images.reshape(1, 8, 64) / np.float32(255)
    distances = np.linalg.norm(x - eight, axis=2)
    apart = np.linalg.norm(eight[0][:, None] - eight[0][None], axis=2)
    # A sample is some image, a third as far from it as two images are from each other; and each
    # of the eight has a share, at least a quarter of what it has among the data.
    assert distances.min(1).mean() < np.sum(apart) / (8 * 7) / 3
    shares = np.bincount(distances.argmin(1), minlength=8) / 1000
    assert shares.min() > 1 / 32, shares
