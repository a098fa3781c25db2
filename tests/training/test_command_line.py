"""The command line: what it lists, refuses, writes and returns."""

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxstruct import data
from jaxstruct.training import Experiment, Study, command_line, main, restore, run, shuffled_batches
from tests.training import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty current folder and no data anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tiny.py"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another
    monkeypatch.delenv("JAXSTRUCT_DATA", raising=False)
    return tmp_path


@pytest.fixture
def call(capsys):
    """Runs a command line; its exit status, stdout and stderr."""

    def command(*arguments, make=tiny.experiment, smoke=tiny.SMOKE, paper=tiny.PAPER):
        if not {"--help", "--devices"} & set(arguments):
            arguments = (*arguments, "--devices", "1")
        with pytest.raises(SystemExit) as caught:
            main(make, smoke=smoke, paper=paper, arguments=[str(a) for a in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return command


@dataclass(frozen=True)
class Config:
    """Of an experiment of one stage, quick to run."""

    rate: float = 0.1  # of Adam
    centred: bool = True  # take off the mean
    label: str = "a b"  # text with a space
    seed: int = 0


def small(config: Config) -> Experiment:
    made = tiny.stage("train", tiny.Config(rate=config.rate, seed=config.seed), steps=5)
    return Experiment(config, [made], figures=tiny.figures, predict=tiny.predict)


def two(config: Config) -> Study:
    rates = {f"rate={r}": small(dataclasses.replace(config, rate=r)) for r in (0.1, 0.2)}
    return Study(config, rates)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir of `tiny`, trained from Python."""
    folder = tmp_path_factory.mktemp("trained")
    run(tiny.experiment(tiny.Config()), folder, devices=jax.devices()[:1])
    return folder


@pytest.mark.parametrize("verb", ["train", "predict"])
def test_help_lists_every_option_with_type_default_and_comment(call, verb):
    status, out, _ = call(verb, "--help")
    assert status == 0
    text = " ".join(out.replace("│", " ").split())
    for part in (
        "--features INT inputs of the line that is fitted (default: 3)",
        "--rate FLOAT of Adam (default: 0.1)",
        "--noise {none,normal} added to the targets (default: normal)",
        "--widths [INT [INT ...]] written down, and not used (default: 2 1)",
        "--bias fit a constant too (default: False)",
        "--seed INT of everything (default: 0)",
        "--workdir {None}|PATH folder of the run",
        "--smoke the configuration that runs every line in seconds, even without data",
        "--paper the paper's configuration",
        "--data-dir {None}|PATH where raw files are looked for first",
        "--devices {None}|INT how many devices share a batch",
        "--distributed several processes",
        "--deterministic on a GPU: equal bits",
        "--debug show tracebacks",
    ):
        assert part in text, (part, text)
    more = {
        "train": ["--seeds INT repeat under", "--profile write a trace"],
        "predict": [
            "--images [PATH [PATH ...]] image files of any size",
            "--out PATH folder for a picture",
            "--member {None}|STR which experiment of a study",
            "--sample-seed INT seed of what predict draws",
        ],
    }
    for part in more[verb]:
        assert part in text, (part, text)
    _, out, _ = call(verb, "--paper", "--help")
    assert "of Adam (default: 0.5)" in " ".join(out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lerning-rat", "1"], "unknown option --lerning-rat"),
        (["--featurs", "1"], "unknown option --featurs; did you mean --features?"),
        (["--featurs=1"], "unknown option --featurs; did you mean --features?"),
        (["--work-dir", "x"], "unknown option --work-dir; did you mean --workdir?"),
        (["--paper", "--bias"], "unknown option --bias; did you mean --no-bias?"),
        (["-f", "1"], "-f"),
        (["trian"], "unknown verb 'trian'; did you mean train?"),
        (["scale"], "unknown verb 'scale'; did you mean scaled?"),
        (["train", "more"], "more"),
        (["--features", "two"], "--features"),
        (["--features"], "--features"),
        (["--rate", "fast"], "--rate"),
        (["--widths", "1", "x"], "--widths"),
        (["--noise", "normel"], "normal"),
        (["--smoke", "--paper"], "--smoke and --paper are two configurations; choose one"),
        (["--seeds", "0"], "--seeds is 0, expected at least 1"),
        (["--seeds", "-2"], "--seeds is -2"),
        (["--devices", "99"], "devices is 99, expected 1 to 8"),
        (["--devices", "0"], "devices is 0, expected 1 to 8"),
        (["predict", "--seeds", "2"], "unknown option --seeds"),
        (["train", "--images", "a.png"], "unknown option --images"),
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_one_line_and_status_2(call, place, arguments, said):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert said in err
    assert "--help" in err
    assert not any(c in err for c in ("│", "╭", "╰", "─", "---", "|", "+"))
    assert list(place.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_it_is_one_line_in_any_terminal(encoding):
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests/training/tiny.py"), "--noise", "normel"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "invalid choice 'normel' for argument '--noise'. Expected one of ('none', 'normal'); "
        "--help lists what there is\n"
    )


def test_what_an_experiment_does_not_have(call):
    status, _, err = call("--smoke", smoke=None)
    assert (status, err) == (
        2,
        "this experiment has no configuration --smoke; --help lists what there is\n",
    )

    @dataclass(frozen=True)
    class Seedless:
        rate: float = 0.1

    def make(config: Seedless) -> Experiment:
        return Experiment(config)

    make.__annotations__ = {"config": Seedless}
    status, _, err = call("--seeds", "2", make=make)
    assert status == 2
    assert "--seeds needs a field seed" in err
    call(make=make)
    status, _, err = call("predict", make=make)
    assert (status, err) == (1, "error: this experiment has no predict\n")


def test_a_run_that_fails_is_one_line_and_status_1(call, place):
    (place / "file").touch()
    for workdir in ("file", "file/run", "/proc/run"):
        status, _, err = call("--workdir", workdir)
        assert status == 1
        assert err.startswith(f"error: cannot write into the workdir {workdir} (")
        assert len(err.splitlines()) == 1
    status, _, err = call("--devices", "3")
    assert status == 1
    last = err.splitlines()[-1]
    assert "batch_size 8 cannot be shared evenly by 3 devices" in last
    assert "(9, say)" in last
    assert "--devices" in last


def test_debug_shows_a_traceback_and_only_that(call, capsys):
    def make(config: Config) -> Experiment:
        raise KeyError("a mistake\nin two lines")

    status, _, err = call(make=make)
    assert status == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("error: KeyError: ")
    assert "(--debug shows where)" in err
    with pytest.raises(KeyError):
        main(make, arguments=["--debug"])


def test_an_interrupt_anywhere_is_one_line(call):
    def make(config: Config) -> Experiment:
        raise KeyboardInterrupt

    status, _, err = call(make=make)
    assert status == 130
    assert len(err.splitlines()) == 1
    assert err.startswith("interrupted")


def test_train_writes_down_what_it_is(call, place):
    arguments = ("--rate", "0.2", "--no-centred", "--label", "x y")
    status, out, err = call("train", *arguments, make=small)
    assert (status, out) == (0, ""), err
    folder = place / "runs" / "tiny-rate=0.2-centred=False-label=x y"
    started = json.loads((folder / "config.json").read_text())
    assert started["config"] == {"rate": 0.2, "centred": False, "label": "x y", "seed": 0}
    assert started["experiment"] == "tiny"
    assert started["hardware"]["devices"].startswith("1 x ")
    assert started["versions"]["jax"] == jax.__version__
    assert {"data", "commit"} <= set(started)
    command = json.loads((folder / "metrics.json").read_text())["cost"]["command"]
    assert command.endswith(" --rate 0.2 --no-centred --label 'x y'")
    assert "'" not in command.split(" --")[0]
    status, _, err = call("--workdir", folder, make=small)
    assert status == 1
    for part in ("rate was 0.2 and is now 0.1", "centred was False", "choose another --workdir"):
        assert part in err


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "tiny"),
        (["--smoke"], "tiny-smoke"),
        (["--paper", "--no-bias"], "tiny-paper-bias=False"),
        (["--features", "5", "--widths", "3", "4"], "tiny-features=5-widths=3x4"),
        (["--smoke", "--rate", "0.3"], "tiny-smoke-rate=0.3"),
        (["--seeds", "2"], "tiny-seeds"),
    ],
)
def test_default_workdirs(call, place, monkeypatch, arguments, name):
    seen = []
    monkeypatch.setattr(command_line, "run", lambda made, workdir, **_: seen.append(workdir))
    status, _, err = call("train", *arguments)
    assert status == 0, err
    assert seen == [Path("runs") / name]


def on_mnist(config: Config) -> Experiment:
    images = data.load("mnist", "train").take(slice(40))
    x = {"x": images["image"].reshape(40, -1)[:, 300:303].astype(np.float32) / 255}
    y = {"y": images["label"].astype(np.float32)}
    batches = shuffled_batches(data.Examples({**x, **y}, images.source), 8, seed=0)
    stage = tiny.stage("train", tiny.Config(), steps=5, batches=batches)
    return Experiment(config, [stage], predict=tiny.predict)


def test_missing_data_are_refused_or_imitated_and_said(call, place, monkeypatch):
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(place / "prepared"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(place / "tfds"))
    status, _, err = call("--data-dir", place / "mine", make=on_mnist)
    assert status == 1
    assert len(err.splitlines()) == 1
    assert str(place / "mine" / "mnist") in err
    assert "python -m jaxstruct.data prepare mnist" in err
    assert not (place / "runs").exists()
    smoke = Config(rate=0.3)
    status, _, err = call("--smoke", make=on_mnist, smoke=smoke)
    assert status == 0, err
    assert len([line for line in err.splitlines() if "IMITATION" in line]) == 1
    results = json.loads((place / "runs/tiny-smoke/metrics.json").read_text())
    assert [(d["name"], d["origin"]) for d in results["data"]] == [("mnist", "imitation")]
    # What was trained on it can be asked without --smoke.
    status, _, err = call("predict", "--workdir", "runs/tiny-smoke", make=on_mnist, smoke=smoke)
    assert status == 0, err
    # Real files are found where --data-dir says.
    raw = next(p.parent for p in (place / "prepared").glob("**/*-images-idx3-ubyte*"))
    (place / "mine").mkdir()
    os.symlink(raw, place / "mine" / "mnist")
    found = data.places.raw_folders("mnist")
    with data.looking(place / "mine"):
        assert data.places.raw_folders("mnist")[0] == place / "mine" / "mnist"
    assert place / "mine" / "mnist" not in found


def test_predict_samples(call, place, trained):
    status, out, _ = call("predict", "--workdir", trained)
    assert (status, out) == (0, "predictions/samples.png\n")
    record = json.loads((place / "predictions/samples.json").read_text())
    assert record == {"image": None, "drawn": float(jax.random.normal(jax.random.key(0)))}
    assert Image.open(place / "predictions/samples.png").size[0] > 0
    call("predict", "--workdir", trained, "--sample-seed", "1", "--out", "more")
    assert json.loads((place / "more/samples.json").read_text())["drawn"] != record["drawn"]


def test_predict_takes_the_configuration_of_the_workdir(call, place):
    assert call("--rate", "0.2", "--workdir", "x", make=small)[0] == 0
    assert call("predict", "--workdir", "x", make=small)[0] == 0
    config = json.loads((place / "x/config.json").read_text())
    config["config"]["gone"] = 1
    (place / "x/config.json").write_text(json.dumps(config))
    status, _, err = call("predict", "--workdir", "x", make=small)
    assert status == 1
    assert "'gone'" in err


def test_predict_of_images(call, place, trained):
    images = place / "images"
    (images / "more").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.full((4, 6), 32896, np.uint16)
    Image.new("L", (6, 4), 100).save(images / "grey.png")
    Image.fromarray(deep).save(images / "deep.png")
    Image.new("RGBA", (6, 4), (0, 0, 0, 0)).save(images / "clear.png")
    Image.new("RGB", (6, 4), "red").quantize(2).save(images / "palette.png")
    Image.new("RGB", (6, 4), (10, 20, 30)).save(images / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), "white").save(images / "dot.png")
    Image.new("L", (4000, 3000), 9).save(images / "large.png")
    Image.new("L", (3, 2), 50).save(images / "more" / "grey.png")
    Image.new("L", (3, 2), 51).save(images / "grey.bmp")
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(noise).save(images / "broken.png")
    (images / "broken.png").write_bytes((images / "broken.png").read_bytes()[:600])
    files = [
        "grey.png",
        "broken.png",
        "deep.png",
        "clear.png",
        "missing.png",
        "palette.png",
        "turned.jpg",
        "dot.png",
        "large.png",
        "more/grey.png",
        "grey.bmp",
    ]
    status, out, err = call(
        "predict", "--workdir", trained, "--out", "out", "--images", *(images / f for f in files)
    )
    assert status == 1
    first, second = err.splitlines()
    assert first.startswith(f"skipped: {images / 'broken.png'} is not an image")
    assert second.startswith(f"skipped: {images / 'missing.png'} does not exist")
    records = {}
    for line in out.splitlines():
        target = place / line
        assert Image.open(target).size[0] > 0
        record = json.loads(target.with_suffix(".json").read_text())
        records[str(Path(record["image"]).relative_to(images))] = record
    assert list(records) == [f for f in files if f not in ("broken.png", "missing.png")]
    assert len(list((place / "out").iterdir())) == 2 * len(records)
    expected = {
        "grey.png": ([4, 6, 3], 100),
        "deep.png": ([4, 6, 3], 128),
        "clear.png": ([4, 6, 3], 255),
        "palette.png": ([4, 6, 3], 85),
        "turned.jpg": ([6, 4, 3], 20),
        "dot.png": ([1, 1, 3], 255),
        "large.png": ([3000, 4000, 3], 9),
        "more/grey.png": ([2, 3, 3], 50),
        "grey.bmp": ([2, 3, 3], 51),
    }
    for name, (shape, mean) in expected.items():
        assert records[name]["shape"] == shape
        assert records[name]["mean"] == pytest.approx(mean, abs=2)
    status, _, err = call("predict", "--workdir", trained, "--images", images / "dot.png")
    assert (status, err) == (0, "")


def test_predict_does_not_write_over_the_image_it_was_given(call, place, trained):
    Image.new("L", (6, 4), 100).save(place / "a.png")
    before = (place / "a.png").read_bytes()
    status, out, _ = call("predict", "--workdir", trained, "--out", ".", "--images", "a.png")
    assert (status, out) == (0, "a-2.png\n")
    assert (place / "a.png").read_bytes() == before
    assert json.loads((place / "a-2.json").read_text())["image"] == "a.png"


def test_predict_that_cannot_be(call, place, trained):
    status, out, err = call("predict")
    assert (status, out) == (1, "")
    assert err == "error: no run in runs/tiny: train first, or name its folder with --workdir\n"
    assert list(place.iterdir()) == []
    (place / "file").touch()
    status, _, err = call("predict", "--workdir", trained, "--out", "file/out")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "file/out" in err
    status, _, err = call("predict", "--workdir", trained, "--member", "seed=0")
    assert status == 2
    assert "--member" in err


def test_a_verb_of_its_own(call, place, trained):
    status, out, err = call("scaled", "--by", "10", "--workdir", trained)
    assert status == 0, err
    error = json.loads((trained / "metrics.json").read_text())["metrics"]["second/error"]
    assert out == f"scaled {10 * error}\n"
    _, out, _ = call("scaled", "--help")
    assert "--by FLOAT" in out
    status, _, err = call("scaled", "--bye", "10")
    assert status == 2
    assert "unknown option --bye; did you mean --by?" in err
    status, _, err = call("scaled")
    assert status == 1
    assert "train first" in err


def test_predict_of_seeds(call, place):
    status, _, err = call("--seeds", "2", "--seed", "3", "--workdir", "x", make=small)
    assert status == 0, err
    assert json.loads((place / "x/metrics.json").read_text())["spread"]
    for more in ((), ("--member", "seed=5"), ("--member", "nothing")):
        status, _, err = call("predict", "--workdir", "x", *more, make=small)
        assert status == 2
        assert "choose one with --member (seed=3, seed=4)" in err
        assert len(err.splitlines()) == 1
    seen = []

    def make(config: Config) -> Experiment:
        made = small(config)
        predict = lambda key, state, image: seen.append(state) or tiny.predict(key, state, image)
        return dataclasses.replace(made, predict=predict)

    for seed in (3, 4):
        assert call("predict", "--workdir", "x", "--member", f"seed={seed}", make=make)[0] == 0
        expected = restore(small(Config(seed=seed)), place / f"x/seed={seed}").state
        np.testing.assert_array_equal(seen[-1].params["w"], expected.params["w"])
    assert not np.array_equal(seen[0].params["w"], seen[1].params["w"])


def test_predict_of_a_study(call, place):
    @dataclass(frozen=True)
    class Sizes:
        rates: tuple[float, ...] = (0.1, 0.2)
        seed: int = 0

    def make(config):
        members = {f"rate={r}": small(Config(rate=r, seed=config.seed)) for r in config.rates}
        return Study(config, members)

    make.__annotations__ = {"config": Sizes}
    status, _, err = call("--workdir", "x", "--rates", "0.3", "0.4", make=make)
    assert status == 0, err
    status, _, err = call("predict", "--workdir", "x", make=make)
    assert status == 2
    assert "--member (rate=0.3, rate=0.4)" in err
    status, out, err = call("predict", "--workdir", "x", "--member", "rate=0.4", make=make)
    assert (status, out) == (0, "predictions/samples.png\n"), err
    status, _, err = call("--workdir", "y", "--rates", "0.3", "--seeds", "2", make=make)
    assert status == 0, err
    status, _, err = call("predict", "--workdir", "y", "--member", "rate=0.3/seed=1", make=make)
    assert status == 0, err


def test_the_function_must_name_its_config(call):
    def make(config):
        return Experiment(config)

    status, _, err = call(make=make)
    assert status == 1
    assert "must name its dataclass" in err


MINE = '''"""Fits a line, with nothing but the library.

python my_vae.py
"""

from dataclasses import dataclass

import jax
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from jaxstruct import training
from jaxstruct.metrics import Mean
from jaxstruct.training import Experiment, Stage, State, main, run


@dataclass(frozen=True)
class Config:
    latent: int = 4  # hidden units
    seed: int = 0


SMOKE = Config(latent=2)


def experiment(config: Config) -> Experiment:
    model = nn.Sequential([nn.Dense(config.latent), nn.tanh, nn.Dense(1)])
    x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    optimizer = optax.adam(0.05)

    def init(key, previous):
        params = model.init(key, x[:1])["params"]
        return State.create(key, params, optimizer.init(params))

    def loss(params, model_state, batch, keys):
        guess = model.apply({"params": params}, batch["x"])
        return {"square": Mean.of(((guess - batch["x"] ** 2) ** 2)[:, 0])}, model_state

    def count(state, batch, keys):
        terms, _ = loss(state.params, None, batch, keys)
        return {"error": Mean.of(
            ((model.apply({"params": state.params}, batch["x"]) - batch["x"] ** 2) ** 2)[:, 0],
            batch["valid"],
        )}

    def figures(run):
        figure = Figure()
        figure.subplots().plot(*run.curve("error"))
        return {"error": figure}

    def predict(key, state, image):
        return {"units": state.params["layers_0"]["bias"].shape[0]}, Figure()

    stage = Stage(
        name="train",
        steps=20,
        init=init,
        update=training.make_step(loss, optimizer),
        batches=training.shuffled_batches({"x": x}, 8, seed=config.seed),
        evaluate=training.make_evaluation(count, training.batches_in_order({"x": x}, 10)),
        evaluate_every=10,
    )
    return Experiment(config, [stage], figures=figures, predict=predict, best=("error", "min"))


if __name__ == "__main__":
    import sys
    if sys.argv[1:] == ["from python"]:
        found = run(experiment(Config(latent=3)), "by_hand")
        print(sorted(found.metrics), int(found.state.step))
    else:
        main(experiment, smoke=SMOKE)
'''


@pytest.mark.slow
def test_a_file_of_the_users_own_in_a_folder_of_its_own(place):
    (place / "my_vae.py").write_text(MINE)

    def python(*arguments):
        return subprocess.run(
            [sys.executable, "my_vae.py", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=place,
            capture_output=True,
            text=True,
        )

    trained = python("--smoke", "--deterministic", "--profile", "--devices", "2")
    assert trained.returncode == 0, trained.stderr
    assert "my_vae in runs/my_vae-smoke, on 2 x" in trained.stderr
    assert "Traceback" not in trained.stderr
    folder = place / "runs" / "my_vae-smoke"
    results = json.loads((folder / "metrics.json").read_text())
    assert list(results["metrics"]) == ["error"]
    assert results["cost"]["command"] == "python my_vae.py --smoke"
    assert (folder / "figures" / "error.png").exists()
    assert list((folder / "profile").glob("**/*.xplane.pb"))
    predicted = python("predict", "--smoke")
    assert (predicted.returncode, predicted.stdout) == (0, "predictions/samples.png\n")
    assert json.loads((place / "predictions/samples.json").read_text())["units"] == 2
    by_hand = python("from python")
    assert by_hand.stdout == "['error'] 20\n", by_hand.stderr
    assert (place / "by_hand" / "metrics.json").exists()


@pytest.mark.parametrize("verb", ["train", "predict", "scaled"])
@pytest.mark.slow
def test_deterministic_is_set_before_the_backend_starts(place, verb):
    """An experiment that makes arrays when it is made would start the backend too early."""
    code = """
import os, sys
import jax, jax.numpy as jnp
from jaxstruct.training import main
from tests.training import tiny
seen = []
def make(config: tiny.Config):
    jnp.zeros(1)
    seen.append(os.environ["XLA_FLAGS"])
    return tiny.experiment(config)
try:
    main(make, arguments=[*sys.argv[1:], "--workdir", "/proc/none"])
finally:
    print(sorted(set(seen)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, verb, "--deterministic"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": "--xla_cpu_enable_fast_math=false",
        },
        capture_output=True,
        text=True,
    )
    expected = ["--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=true"]
    assert result.stdout == f"{expected}\n", result.stderr
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_predict_says_when_the_run_has_not_ended(call, place):
    assert call("--workdir", "x", make=small)[0] == 0
    _, _, err = call("predict", "--workdir", "x", make=small)
    assert err == ""
    (place / "x" / "metrics.json").unlink()
    status, _, err = call("predict", "--workdir", "x", make=small)
    assert status == 0
    assert err == "note: the run in x has not ended; this is stage 'train', step 5\n"
