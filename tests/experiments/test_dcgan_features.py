"""What DCGAN's discriminator has learned: features, SVMs, attributes, and the scores by them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _dcgan, _fid, _gan
from jaxstruct.data import Examples
from jaxstruct.models import DCGANDiscriminator, Players, class_directions, fit_linear_svm
from jaxstruct.training import batches_in_order, begin_game, make_evaluation

SIZE = 16
CONFIG = _dcgan.Config(features=2, latent=5, batch_size=4, parts=2, fid_images=0)
SUM = ("a", "b", "a")


def images(n=40, seed=0):
    """Noise below a strip that is always black, brighter on the right in class b."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 200, (n, SIZE, SIZE, 3), np.uint8)
    labels = np.arange(n) % 2
    values[labels == 1, :, SIZE // 2 :] += 50
    values[:, :6] = 0
    return Examples({"image": values, "label": labels}, classes=("a", "b"))


def game_of(players):
    return _dcgan.Game(CONFIG, players, images(), images())


def state_of(seed, config=CONFIG):
    """Larger kernels than those of a beginning, so that features differ."""
    params, model_state = _dcgan.players(config, SIZE).init(jax.random.key(seed))
    params = jax.tree.map(lambda p: 5 * p if p.ndim > 1 else p, params)
    return begin_game(jax.random.key(seed), params, model_state, {})


def test_features_are_all_layers_pooled_to_4x4():
    state, x = state_of(0), images()["image"]
    found = _dcgan.features(_dcgan.players(CONFIG, SIZE))(state, x)
    variables = {
        "params": state.params["discriminator"],
        "batch_stats": state.model_state["discriminator"],
    }
    discriminator = DCGANDiscriminator(CONFIG.features)
    _, maps = discriminator.apply(variables, x.astype(np.float32) / 127.5 - 1)
    assert [m.shape[1] for m in maps] == [8, 4]
    expected = []
    for m in map(np.asarray, maps):
        n, side, _, channels = m.shape
        windows = m.reshape(n, 4, side // 4, 4, side // 4, channels)
        expected.append(windows.max(axis=(2, 4)).reshape(n, -1))
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    same = _dcgan.features(_dcgan.players(CONFIG, SIZE))(state, x.astype(np.float32) / 255)
    np.testing.assert_allclose(same, found, atol=1e-6)


def test_classes_are_svms_of_features_in_units_of_their_deviation():
    state, train, test = state_of(0), images(), images(30, seed=1)
    extract = _dcgan.features(_dcgan.players(CONFIG, SIZE))
    x = extract(state, train["image"])
    still = np.ptp(x, axis=0) < 1e-5
    assert still.any()  # what is always black has features that never change, but by rounding
    assert (x.std(axis=0)[still] > 0).any()
    # By products, as there: an SVM ends within a tolerance, of other roundings elsewhere in it.
    scale = 1 / np.where(still, 1, x.std(axis=0))
    config = dataclasses.replace(CONFIG, svm_C=0.1)
    game = _dcgan.Game(config, _dcgan.players(config, SIZE), train, test)
    svm = fit_linear_svm([x * scale], train["label"], classes=2, C=config.svm_C, tolerance=1e-3)
    scores = _dcgan.class_scores(game, state)
    expected = svm.scores(scale * extract(state, test["image"]))
    np.testing.assert_allclose(scores(test["image"]), expected, atol=5e-3)
    assert np.mean(expected.argmax(axis=1) == test["label"]) > 0.8


def test_a_class_has_the_samples_that_are_most_its_own():
    game = game_of(_dcgan.players(CONFIG, SIZE))
    state = begin_game(jax.random.key(1), *game.players.init(jax.random.key(0)), {})
    # The brighter a sample, the higher all scores: only the last two are of one class.
    order = []

    def scores(made):
        brightness = made.mean(axis=(1, 2, 3))
        order.append(np.argsort(brightness))
        rank = np.argsort(order[0])
        found = np.stack([rank, rank, rank], axis=1).astype(float)
        found[rank == 3, 1] += 50  # little, but more than the others
        found[rank == 700, 2] += 9
        return found

    best = _dcgan.attributes(game, state, scores, top=1)
    z = game.noise(2, 2000)
    np.testing.assert_array_equal(best[1, 0], z[order[0][3]])
    np.testing.assert_array_equal(best[2, 0], z[order[0][700]])


def test_samples_move_to_the_class_whose_direction_they_take():
    """Images are z itself, and the class of one is its largest component."""
    z_of = lambda key: jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    as_image = lambda params, model_state, z, train: (z[:, None, None], model_state)
    play = Players(lambda key: ({}, {}), z_of, as_image, lambda *arguments: arguments)
    state = begin_game(jax.random.key(0), {"generator": {}}, {}, {})
    game, scores = game_of(play), lambda made: made[:, 0, 0]
    found = _dcgan.moved(game, state, scores)
    z = game.noise(3, 500)
    directions = class_directions(_dcgan.attributes(game, state, scores))
    shares = [np.mean((z + directions[k][None]).argmax(axis=1) == k) for k in range(3)]
    assert found["attribute_share"] == pytest.approx(np.mean(shares))
    assert found["attribute_share"] > 0.9
    assert found["chance_share"] == pytest.approx(1 / 3)


def test_the_score_is_of_test_images_by_the_state_it_is_given():
    train, test = images(), images(30, seed=1)
    # The labels of the test images are wrong, and so is nearly every answer.
    wrong = Examples({**test, "label": 1 - test["label"]}, classes=test.classes)
    scored = _dcgan.experiment(CONFIG, train, wrong, sum_of=SUM).score
    for seed in (0, 1):
        state = state_of(seed)
        game = _dcgan.Game(CONFIG, _dcgan.players(CONFIG, SIZE), train, wrong)
        scores = _dcgan.class_scores(game, state)
        right = scores(test["image"]).argmax(axis=1) == test["label"]
        found = scored({"part1": state_of(7), "part2": state})
        assert found["svm_accuracy"] == pytest.approx(100 * np.mean(~right))
        expected = _dcgan.moved(game_of(_dcgan.players(CONFIG, SIZE)), state, scores)
        assert found["attribute_share"] == pytest.approx(expected["attribute_share"])


def test_fid_is_between_training_images_and_as_many_samples(monkeypatch):
    train, state = images(), state_of(0)
    told = lambda real, generate, like: {"fid_lite0": (real, generate(), like)}
    monkeypatch.setattr(_fid, "fid_lite0", told)
    config = dataclasses.replace(CONFIG, fid_images=12)
    scored = _dcgan.experiment(config, train, images(8, seed=1), sum_of=None).score
    found = scored({"": state})
    real, made, like = found.pop("fid_lite0")
    assert like is state  # on whose devices the network runs
    assert set(found) == {"played_value", "played_d_real", "played_d_generated"}
    np.testing.assert_array_equal(real, train["image"][:12])
    play = _dcgan.players(config, SIZE)
    expected = _gan.generated(play, state, play.noise(_gan.key_of(config, 5), 12))
    np.testing.assert_array_equal(made, expected)


def test_the_value_as_played_is_what_the_discriminator_is_trained_on():
    """Batch norm by each batch's own statistics, and whole batches alone."""
    play, state = _dcgan.players(CONFIG, SIZE), state_of(0)
    found = _gan.as_played(play, images(10, seed=1), CONFIG.batch_size)(state)
    loss = _gan.moves(play, "non_saturating")["discriminator"]
    values = []
    for i in (0, 4):
        x = jnp.asarray(images(10, seed=1)["image"][i : i + 4] / np.float32(255))
        keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(0), k))(jnp.arange(i, i + 4))

        def of_batch(x, keys):
            terms, _ = loss(state.params, state.model_state, {"image": x}, keys)
            return terms["discriminator"].value

        alone = jax.pmap(of_batch, "devices", devices=jax.devices()[:1])
        values.append(-2 * float(alone(x[None], keys[None])[0]))
    assert found["played_value"] == pytest.approx(np.mean(values), rel=1e-4)
    value = functools.partial(_gan.value, play, False)
    at_rest = make_evaluation(value, batches_in_order(images(8, seed=1), 4))(state)
    assert abs(at_rest["value"] - found["played_value"]) > 0.01
