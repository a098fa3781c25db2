"""A trained run on a machine without its data set: it predicts, and says what it cannot do."""

import dataclasses
import json
import shutil
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

from jaxstruct import data
from jaxstruct.data import DataError, idx
from jaxstruct.metrics import Mean
from jaxstruct.training import Experiment, Stage, State, make_step, restore, run, shuffled_batches


@dataclass(frozen=True)
class Config:
    batch_size: int = 4  # images a step
    seed: int = 0


@dataclass(frozen=True)
class Weigh:
    by: float = 1.0  # factor


def experiment(config: Config) -> Experiment:
    """Learns the mean image; its steps follow from the size of the set, its classes have names."""
    train, test = data.load("mnist", "train[:75%]"), data.load("mnist", "test")
    pixels = int(np.prod(train["image"].shape[1:]))
    optimizer = optax.sgd(0.1)

    def init(key, previous):
        params = {"mean": jnp.zeros(pixels)}
        return State.create(key, params, optimizer.init(params))

    def loss(params, model_state, batch, keys):
        x = batch["image"].reshape(-1, pixels)
        mean = jnp.broadcast_to(params["mean"], x.shape)
        return {"square": Mean.of((x - mean) ** 2)}, model_state

    def predict(key, state, image):
        if image is None:
            return {"test": float(np.mean(test["image"][:2]))}, Figure(figsize=(1, 1))
        record = {"classes": train.classes[:2], "mean": float(state.params["mean"].mean())}
        return {**record, "images": train.size}, Figure(figsize=(1, 1))

    def weigh(arguments, found):
        print("weight", arguments.by * float(found.state.params["mean"].sum()))

    stage = Stage(
        name="train",
        steps=2 * train.size // config.batch_size,
        init=init,
        update=make_step(loss, optimizer),
        batches=shuffled_batches(train.only("image"), config.batch_size, seed=config.seed),
    )
    return Experiment(config, [stage], predict=predict, commands={"weigh": (Weigh, weigh)})


def write_mnist(folder, size):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(size)
    for stem in ("train", "t10k"):
        images = rng.integers(0, 256, (size, 28, 28), np.uint8)
        idx.write(folder / f"{stem}-images-idx3-ubyte.gz", images)
        idx.write(folder / f"{stem}-labels-idx1-ubyte.gz", np.arange(size, dtype=np.uint8) % 10)


@pytest.fixture
def moved(call, place, monkeypatch):
    """A run on 12 official images, copied; neither the images nor what was made of them is left."""
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(place / "prepared"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(place / "tfds"))
    write_mnist(place / "raw/mnist", 12)
    status, _, err = call("--workdir", "run", "--data-dir", "raw", make=experiment)
    assert status == 0, err
    for verb in (["predict", "--images", image(place)], ["weigh", "--by", "2"]):
        status, out, _ = call(*verb, "--workdir", "run", "--data-dir", "raw", make=experiment)
        assert status == 0
    (place / "before.txt").write_text(out)
    shutil.copytree(place / "predictions", place / "before")
    for folder in ("raw", "prepared", "predictions"):
        shutil.rmtree(place / folder)
    shutil.move(place / "run", place / "elsewhere")
    return place


def image(place):
    from PIL import Image

    Image.new("L", (6, 4), 100).save(place / "grey.png")
    return "grey.png"


def test_what_a_run_writes_down_of_its_set(moved):
    (record,) = json.loads((moved / "elsewhere/config.json").read_text())["sets"]
    assert record == {
        "name": "mnist",
        "version": "1.0.0",
        "origin": "official",
        "splits": {"train": 12, "test": 12},
        "classes": list("0123456789"),
        "keys": {"image": [[28, 28, 1], "|u1"], "label": [[], "<i4"]},
    }
    assert data.SetRecord.of_plain(record).plain() == record


@pytest.mark.parametrize("smoke", [(), ("--smoke",)])
def test_predict_and_verbs_of_its_own_need_no_data(call, moved, smoke):
    # With --smoke an imitation could stand in: of another size, the checkpoint would be refused.
    options = ("--workdir", "elsewhere", *smoke)
    command = {"make": experiment, "smoke": Config(batch_size=4)}
    status, out, err = call("predict", "--images", "grey.png", *options, **command)
    assert (status, err) == (0, "")
    record = json.loads((moved / "predictions/grey.json").read_text())
    assert record == json.loads((moved / "before/grey.json").read_text())
    assert record["images"] == 9
    status, out, err = call("weigh", "--by", "2", *options, **command)
    assert (status, out, err) == (0, (moved / "before.txt").read_text(), "")


def test_a_verb_finds_the_run_in_its_default_folder(call, moved):
    shutil.move(moved / "elsewhere", moved / "runs/tiny")
    status, out, err = call("weigh", "--by", "2", make=experiment)
    assert (status, out, err) == (0, (moved / "before.txt").read_text(), "")


def test_reading_an_absent_set_says_what_is_absent(call, moved):
    status, _, err = call("predict", "--workdir", "elsewhere", make=experiment)
    assert status == 1
    assert err == (
        "error: mnist: the set of this run (official, version 1.0.0: train of 12, test of 12; "
        "classes 0, 1, 2, 3, 4 and 5 more) is not on this machine; expected it where examples are "
        "read; python -m jaxstruct.data describe mnist says where it is looked for\n"
    )


def test_another_set_of_that_name_does_not_stand_in(call, moved):
    write_mnist(moved / "raw/mnist", 20)
    options = ("--workdir", "elsewhere", "--data-dir", "raw")
    status, _, err = call("predict", "--images", "grey.png", *options, make=experiment)
    assert status == 0, err
    status, _, err = call("predict", *options, make=experiment)
    assert status == 1
    assert "train of 12, test of 12; classes 0, 1, 2, 3, 4 and 5 more) is not on this mac" in err


def test_from_python(moved):
    found = restore(experiment, moved / "elsewhere")
    assert found.predict(np.zeros((2, 2, 3), np.uint8))[0]["images"] == 9
    with pytest.raises(DataError, match="mnist: the set of this run"):
        found.predict()
    # Training is another matter.
    with data.recorded([]), pytest.raises(DataError, match="mnist: not found"):
        run(experiment(Config()), moved / "new")


def test_a_configuration_that_is_not_the_run_s_is_still_refused(moved):
    found = restore(experiment, moved / "elsewhere")
    other = dataclasses.replace(found.experiment, config=Config(batch_size=2))
    with pytest.raises(Exception, match="batch_size was 4 and is now 2"):
        restore(other, moved / "elsewhere")
