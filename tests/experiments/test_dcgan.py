"""DCGAN's step against NumPy, parts of a game that are one game, arithmetic of latent vectors."""

import dataclasses
import functools
import io
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow_datasets as tfds
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from experiments import _dcgan, _gan, dcgan_rooms
from jaxstruct import data
from jaxstruct.data import Examples
from jaxstruct.models import Players
from jaxstruct.training import RunError, batches_in_order, begin_game, parallel, restore, run
from tests.models import dcgan_reference as reference

SIZE, RATE = 16, 0.05
CONFIG = _dcgan.Config(
    features=2, latent=5, batch_size=4, epochs=4, evaluations=2, parts=2, fid_images=0
)
SUM = ("a", "b", "a")


def images(n=32, size=SIZE):
    values = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)
    return Examples({"image": values, "label": np.arange(n) % 2}, classes=("a", "b"))


def parameters(play):
    """Of another size than any initialization, so that every term counts."""
    params, _ = jax.eval_shape(play.init, jax.random.key(0))
    rng = np.random.default_rng(1)
    flat = flatten_dict(params, sep="/")
    scale = lambda name: 1.0 if name.endswith("scale") else 0.0
    values = {k: scale(k) + 0.3 * rng.normal(size=v.shape) for k, v in flat.items()}
    return unflatten_dict(values, sep="/")


@functools.cache
def one_step(config):
    """One step on two devices: (players, parameters, images, state before, state after, terms)."""
    play = _dcgan.players(config, SIZE)
    optimizers = {player: optax.sgd(RATE) for player in ("discriminator", "generator")}
    made = _gan.stage(config, play, optimizers, images(), images())
    params = parameters(play)
    tree = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    state = jax.jit(lambda key: made.init(key, None))(jax.random.key(5)).replace(params=tree)
    x = made.batches.read["image"][made.batches.indices(0)].astype(np.float32) / 255
    devices = jax.devices()[:2]
    batch = jax.device_put(parallel.share({"image": x}, devices))
    after, terms = parallel.Call(made.update, devices)(parallel.stack(state, devices), batch)
    x = 2 * x.astype(np.float64) - 1
    return play, params, x, state, parallel.unstack(after), parallel.unstack(terms)


def test_a_step_is_the_papers():
    play, params, x, state, after, terms = one_step(CONFIG)

    def noise(turn, parts):
        # What design demands of the draws: one key per example, from (stage, purpose, step).
        key = jax.random.fold_in(jax.random.fold_in(state.key, turn), 0)
        keys = jax.vmap(lambda k: jax.random.split(k, parts)[0])(jax.random.split(key, len(x)))
        return np.asarray(jax.vmap(play.draw)(keys), np.float64)

    noises = noise(0, 3), noise(1, 2)
    assert all(-1 <= z.min() < -0.5 < 0.5 < z.max() <= 1 for z in noises)
    expected, losses, stats = reference.step(params, x, noises, RATE)
    for player, loss in losses.items():
        np.testing.assert_allclose(terms[player].value, loss, rtol=1e-4)
        of = flatten_dict(after.params[player], sep="/")
        theirs = flatten_dict(expected[player], sep="/")
        assert of.keys() == theirs.keys()
        for name, value in of.items():
            np.testing.assert_allclose(value, theirs[name], atol=2e-5, rtol=2e-4, err_msg=name)
        running = {
            name: (np.zeros_like(m), np.ones_like(v)) for name, (m, v) in stats[player][0].items()
        }
        for seen in stats[player]:
            for name, (mean, variance) in seen.items():
                before = running[name]
                running[name] = 0.9 * before[0] + 0.1 * mean, 0.9 * before[1] + 0.1 * variance
        for name, (mean, variance) in running.items():
            found = after.model_state[player][name]
            np.testing.assert_allclose(found["mean"], mean, atol=1e-5, rtol=1e-4)
            np.testing.assert_allclose(found["var"], variance, rtol=1e-4)


def test_r1_is_the_squared_gradient_at_real_images():
    _, params, x, _, plain, _ = one_step(CONFIG)
    _, _, _, _, after, terms = one_step(dataclasses.replace(CONFIG, r1=0.3))
    flat = flatten_dict(params["discriminator"], sep="/")

    def penalty():
        _, back, _ = reference.discriminator(unflatten_dict(flat, sep="/"), x)
        by_pixel = 2 * back(np.ones(len(x)))[0]  # pixels in [0, 1], images in [-1, 1]
        return 0.3 / 4 * np.sum(by_pixel**2) / len(x)

    np.testing.assert_allclose(terms["r1"].value, penalty(), rtol=1e-4)
    of, without = (flatten_dict(s.params["discriminator"], sep="/") for s in (after, plain))
    for name, value in flat.items():
        slopes = np.zeros_like(value)
        for i in np.ndindex(*value.shape):
            kept, ends = value[i], []
            for side in (1e-5, -1e-5):
                value[i] = kept + side
                ends.append(penalty())
            value[i] = kept
            slopes[i] = (ends[0] - ends[1]) / 2e-5
        moved = (np.asarray(of[name], np.float64) - without[name]) / -RATE
        tolerance = 1e-3 * max(np.abs(slopes).max(), 0.01)
        np.testing.assert_allclose(moved, slopes, atol=tolerance, err_msg=name)


def test_a_mean_of_the_generator_is_kept_and_judged():
    config = dataclasses.replace(CONFIG, average=0.75)
    play, _, _, before, after, _ = one_step(config)
    for name, now in (
        ("params", after.params["generator"]),
        ("model_state", {k: v for k, v in after.model_state.items() if k != "average"}),
    ):
        begun = before.model_state["average"][name]
        expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, begun, now)
        kept = after.model_state["average"][name]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), kept, expected)
    z = play.noise(jax.random.key(3), 4)
    mean = after.model_state["average"]
    generate = jax.jit(functools.partial(play.generate, train=False))
    x, _ = generate(mean["params"], mean["model_state"], z)
    np.testing.assert_allclose(_gan.generated(play, after, z), x, atol=1e-6)
    of_mean = after.replace(params={"generator": mean["params"]}, model_state=mean["model_state"])
    np.testing.assert_array_equal(_gan.generated(play, after, z), _gan.generated(play, of_mean, z))
    others, _ = generate(after.params["generator"], after.model_state, z)
    assert np.abs(x - others).max() > 1e-3
    keys = jax.random.split(jax.random.key(4), 4)
    batch, valid = {"image": jnp.asarray(x)}, jnp.ones(4, bool)
    made, _ = generate(mean["params"], mean["model_state"], jax.vmap(play.draw)(keys))
    judge = jax.jit(functools.partial(play.judge, keys=None))
    logits, _ = judge(after.params["discriminator"], after.model_state, made)
    value = jax.jit(functools.partial(_gan.value, play, False))
    found = value(after, batch, valid, keys)["d_generated"].value
    np.testing.assert_allclose(found, jax.nn.sigmoid(logits).mean(), rtol=1e-5)


def test_without_a_mean_the_generator_itself_is_judged():
    play, _, _, _, after, _ = one_step(CONFIG)
    z = play.noise(jax.random.key(3), 4)
    found = _gan.generated(play, after, z)
    x, _ = play.generate(after.params["generator"], after.model_state, z, False)
    np.testing.assert_allclose(found, x, atol=1e-6)
    # Eager and compiled round otherwise; of the same program the bits are equal.
    batches = batches_in_order({"z": np.asarray(z)}, _gan.TOGETHER, one_shape=True)
    own = after.params["generator"], after.model_state
    np.testing.assert_array_equal(found, _gan._generation(play)(own, batches)["image"])


@pytest.mark.slow
def test_what_keeps_the_game_stable_works_together(tmp_path):
    config = dataclasses.replace(
        CONFIG, normalization="spectral", r1=1.0, average=0.9, epochs=1, evaluations=1, parts=1
    )
    built = _dcgan.experiment(config, images(), images(), sum_of=SUM)
    finished = run(dataclasses.replace(built, figures=None), tmp_path, devices=jax.devices()[:1])
    assert np.isfinite(list(finished.metrics.values())).all()
    sigma = finished.state.model_state["discriminator"]["conv2_norm"]["conv2/kernel/sigma"]
    assert float(sigma) > 0
    assert "average" in finished.state.model_state


def test_the_optimiser_is_the_papers():
    assert (_dcgan.Config().learning_rate, _dcgan.Config().momentum) == (2e-4, 0.5)
    config = dataclasses.replace(CONFIG, learning_rate=0.01)
    made = _dcgan.experiment(config, images(), images(), sum_of=SUM).stages[0]
    before = jax.jit(lambda key: made.init(key, None))(jax.random.key(0))
    devices = jax.devices()[:1]
    x = made.batches.read["image"][made.batches.indices(0)].astype(np.float32) / 255
    batch = jax.device_put(parallel.share({"image": x}, devices))
    after, _ = parallel.Call(made.update, devices)(parallel.stack(before, devices), batch)
    after = parallel.unstack(after)
    for player in ("discriminator", "generator"):
        moments = after.opt_state[player][0]
        for mean, square in zip(*map(jax.tree.leaves, (moments.mu, moments.nu)), strict=True):
            # One step has left (1 - beta1) g and (1 - beta2) g^2.
            some = np.abs(mean) > 1e-6
            np.testing.assert_allclose(mean[some] ** 2 / square[some], 0.5**2 / 1e-3, rtol=1e-3)
        moves = jax.tree.map(lambda a, b: np.abs(a - b), after.params, before.params)[player]
        largest = max(float(move.max()) for move in jax.tree.leaves(moves))
        assert largest == pytest.approx(0.01, rel=1e-3)


def test_players_see_and_make_images_between_0_and_1():
    play = _dcgan.players(CONFIG, SIZE)
    params, model_state = jax.jit(play.init)(jax.random.key(0))
    z = play.noise(jax.random.key(1), 6)
    assert z.shape == (6, 5)
    made, after = play.generate(params["generator"], model_state, z, False)
    assert made.shape == (6, SIZE, SIZE, 3)
    assert 0 <= float(made.min()) < float(made.max()) <= 1
    assert after is model_state
    # Black, which is -1 to the network: twice as far from grey gives another logit.
    judge = lambda x: play.judge(params["discriminator"], model_state, x, None)[0]
    grey, black = jnp.full((1, SIZE, SIZE, 3), 0.5), jnp.zeros((1, SIZE, SIZE, 3))
    np.testing.assert_allclose(judge(grey), 0.0, atol=1e-6)  # 0, without biases yet
    assert abs(float(judge(black)[0])) > 0


@pytest.fixture
def drawn(monkeypatch):
    """(a game whose images are z itself, a state of it, the grids of images drawn)."""
    z_of = lambda key: jax.random.uniform(key, (CONFIG.latent,))
    as_image = lambda params, model_state, z, train: (z[:, None, None], model_state)
    play = Players(lambda key: ({}, {}), z_of, as_image, lambda *arguments: arguments)
    grids = []
    monkeypatch.setattr(_dcgan.figures, "image_grid", lambda x, **_: grids.append(x[..., 0, 0, :]))
    game = _dcgan.Game(CONFIG, play, images(), images(), SUM)
    return game, begin_game(jax.random.key(0), {"generator": {}}, {}, {}), grids


def test_samples_are_drawn_beside_themselves_moved_towards_each_class(drawn):
    game, state, grids = drawn
    best = jax.random.normal(jax.random.key(2), (2, 4, CONFIG.latent))
    _dcgan.towards(game, state, best)
    (z,) = grids
    assert z.shape == (8, 3, CONFIG.latent)
    means = np.asarray(best).mean(axis=1)
    for k in range(2):
        np.testing.assert_allclose(z[:, k + 1] - z[:, 0], [means[k] - means.mean(0)] * 8, atol=1e-6)


def test_a_walk_leads_straight_between_three_z(drawn, monkeypatch):
    game, state, grids = drawn
    monkeypatch.setattr(_dcgan.figures, "side_by_side", lambda *given, **options: None)
    monkeypatch.setattr(_gan, "beside_nearest", lambda *given: None)
    monkeypatch.setattr(_gan, "curves", lambda *given: {})
    _dcgan.draw(game._replace(sum_of=None), None, SimpleNamespace(states={"part1": state}))
    samples, walk = grids
    np.testing.assert_array_equal(samples, game.noise(0, 10, 10))
    assert walk.shape == (6, 11, CONFIG.latent)
    np.testing.assert_allclose(walk[:, ::5], game.noise(1, 6, 3), atol=1e-6)
    for line in (walk[:, :6], walk[:, 5:]):
        np.testing.assert_allclose(np.diff(line, 2, axis=1), 0, atol=1e-6)


def test_the_images_of_a_reader_are_cut_to_their_middle_squares():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 20, 3), np.uint8)
    squares = dcgan_rooms.Squares(lambda indices: {"image": list(pictures[indices])}, 10)
    read = squares(np.array([1, 0]))["image"]
    expected = [data.middle_square(pictures[i], 10) for i in (1, 0)]
    np.testing.assert_array_equal(read, expected)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    experiment = _dcgan.experiment(CONFIG, images(), images(), sum_of=SUM)
    folder = tmp_path_factory.mktemp("dcgan")
    return experiment, run(experiment, folder, devices=jax.devices()[:1])


def test_a_user_s_image_is_judged_between_0_and_1(finished):
    experiment, ended = finished
    white = np.full((40, 20, 3), 255, np.uint8)
    record, _ = experiment.predict(jax.random.key(0), ended.state, white)
    x = jnp.ones((1, SIZE, SIZE, 3))
    play = _dcgan.players(CONFIG, SIZE)
    logits, _ = play.judge(ended.state.params["discriminator"], ended.state.model_state, x, None)
    assert record["real"] == pytest.approx(float(jax.nn.sigmoid(logits[0])), rel=1e-5)
    z = play.noise(jax.random.key(0), 1000)
    distances = np.linalg.norm((x - _gan.generated(play, ended.state, z)).reshape(1000, -1), axis=1)
    assert record["nearest_sample"] == distances.argmin()
    assert record["distance"] == pytest.approx(distances.min(), rel=1e-5)


def test_the_command_draws_the_sum(finished, tmp_path, capsys, monkeypatch):
    experiment, ended = finished
    arguments, command = experiment.commands["arithmetic"]
    out = tmp_path / "new" / "sum.png"
    command(
        arguments(a=(1, 2, 3), b=(4,), c=(5, 99), output=out), restore(experiment, ended.workdir)
    )
    assert Image.open(out).size[0] > 100
    assert str(out) in capsys.readouterr().out
    first = out.read_bytes()
    command(arguments(a=(1, 2, 3), b=(4,), c=(5, 99), output=out, noise_seed=1), ended)
    assert out.read_bytes() != first, "other noise"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arithmetic.png").write_bytes(b"a user's")
    capsys.readouterr()
    command(arguments(a=(1,), b=(4,), c=(5,)), ended)
    assert capsys.readouterr().out == "arithmetic-2.png\n"
    assert (tmp_path / "arithmetic.png").read_bytes() == b"a user's"
    with pytest.raises(RunError, match=r"--b is \(100,\), expected some of the samples 0 to 99"):
        command(arguments(a=(1,), b=(100,), c=(2,), output=out), ended)
    with pytest.raises(RunError, match=r"--c is \(-1,\)"):
        command(arguments(a=(1,), b=(1,), c=(-1,), output=out), ended)
    with pytest.raises(RunError, match="--a is"):
        command(arguments(a=(), b=(1,), c=(2,), output=out), ended)


def test_pictures_are_of_the_states_they_name(finished):
    experiment, ended = finished
    assert [*ended.states] == [stage.name for stage in experiment.stages]
    assert _dcgan.seen(CONFIG, ended) == [64, 128]
    steps, _ = ended.curve("value")
    assert (np.diff(steps) > 0).all()


@pytest.mark.slow
@pytest.mark.optimized  # it computes longer than it compiles
def test_it_overfits_eight_images(tmp_path):
    """Samples become the eight images, and each of these is some sample."""
    digits = data.load("digits", "train")["image"][:8]
    eight = np.repeat(np.repeat(np.repeat(digits, 2, 1), 2, 2), 3, 3)
    examples = Examples({"image": eight, "label": np.arange(8)}, classes=tuple("abcdefgh"))
    config = _dcgan.Config(
        features=16,
        latent=8,
        batch_size=32,
        epochs=4800,
        evaluations=1,
        learning_rate=1e-3,
        parts=1,
    )
    experiment = _dcgan.experiment(config, examples, examples, sum_of=SUM)
    alone = dataclasses.replace(experiment, score=None, figures=None)
    ended = run(alone, tmp_path, devices=jax.devices()[:1])
    play = _dcgan.players(config, SIZE)
    samples = _gan.generated(play, ended.state, play.noise(jax.random.key(3), 200))
    x, images = samples.reshape(200, 1, -1), eight.reshape(1, 8, -1) / np.float32(255)
    distances = np.linalg.norm(x - images, axis=2)
    apart = np.linalg.norm(images[0][:, None] - images[0][None], axis=2)
    # Nearer to one of them than a third of what two of them are apart: no mixture of two is.
    assert distances.min(axis=1).mean() < apart.sum() / (8 * 7) / 3
    assert len(set(distances.argmin(axis=1).tolist())) == 8


class Lsun(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """LSUN's bedrooms as TFDS has them: JPEG files of any size, without labels."""

    name = "lsun"
    VERSION = tfds.core.Version("3.0.0")
    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="bedroom"),)

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40), "validation": self._generate_examples(3)}

    def _generate_examples(self, size):
        for i in range(size):
            image = np.full((70 + i, 150, 3), 6 * i, np.uint8)
            image[:, :10] = image[:, -10:] = 255 - 6 * i  # not in the middle
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG")
            yield i, {"image": io.BytesIO(file.getvalue())}


@pytest.mark.slow
def test_lsun_is_read_and_resized_during_training(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    assert (dcgan_rooms.PAPER.dataset, dcgan_rooms.PAPER.batch_size) == ("lsun/bedroom", 128)
    with pytest.raises(data.DataError, match="lsun/bedroom"):
        dcgan_rooms.experiment(dcgan_rooms.PAPER)
    Lsun(
        data_dir=tmp_path / "tfds", config="bedroom", file_format="array_record"
    ).download_and_prepare()
    config = dataclasses.replace(
        dcgan_rooms.PAPER, features=4, latent=8, batch_size=8, epochs=1.5, evaluations=1, parts=2
    )
    monkeypatch.setattr(dcgan_rooms, "HELD", 10)
    built = dcgan_rooms.experiment(dataclasses.replace(config, fid_images=0))
    batches = built.stages[1].batches
    assert sum(stage.steps for stage in built.stages) == round(1.5 * 40 / 8)
    indices = batches.indices(0)
    read = batches.read(indices)["image"]
    assert read.shape == (8, 64, 64, 3)
    assert read.dtype == np.uint8
    flat = read.reshape(8, -1).astype(int)
    assert (flat.max(1) - flat.min(1)).max() <= 3  # the strips at the sides are cut off
    grey = np.round(flat.mean(1) / 6).astype(int)  # TFDS shuffles records
    assert len(set(grey)) == 8
    order = np.concatenate([built.stages[0].batches.indices(step) for step in range(5)])
    assert sorted(order) == list(range(40))
    finished = run(built, tmp_path / "run", devices=jax.devices()[:1])
    assert "svm_accuracy" not in finished.metrics
    assert finished.metrics["part2/value"] < 0
    drawn = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert {"samples", "nearest", "walk"} <= drawn
    assert not {"attributes", "arithmetic"} & drawn
    about = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert {(d["name"], d["split"], d["size"]) for d in about} == {("lsun/bedroom", "train", 40)}


def test_a_set_of_another_size_says_how_to_prepare_it(tmp_path, monkeypatch):
    config = dataclasses.replace(dcgan_rooms.SMOKE, dataset="mine")
    loaded = []
    monkeypatch.setattr(data, "load", lambda *of: loaded.append(of) or images(8, 32))
    with pytest.raises(data.DataError, match=r"mine: images of \(32, 32, 3\).*--size 64"):
        dcgan_rooms.experiment(config)
    assert loaded == [("mine", "train"), ("mine", "test")]
    config = dataclasses.replace(config, splits=("train[:90%]", "train[90%:]"))
    with pytest.raises(data.DataError):
        dcgan_rooms.experiment(config)
    assert loaded[2:] == [("mine", "train[:90%]"), ("mine", "train[90%:]")]
