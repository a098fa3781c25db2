"""The command line: what it lists, refuses, writes and returns."""

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
from jaxstruct.training import Experiment, command_line, main, shuffled_batches
from tests.training import tiny
from tests.training.one_stage import Config, small

ROOT = Path(__file__).parents[2]


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
        "--data-dir {None}|PATH folder searched for raw files first",
        "--devices {None}|INT how many devices share a batch",
        "--distributed several processes",
        "--deterministic on a GPU: equal bits",
        "--return-memory give freed memory back at once",
        "--debug show tracebacks",
    ):
        assert part in text, (part, text)
    more = {
        "train": ["--seeds INT repeat under this many seeds", "--profile write a trace"],
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
        (["--workdir", ""], "--workdir: an empty path; expected the name of a file or folder"),
        (["--workdir="], "--workdir: an empty path"),
        (["--workdir", " "], "--workdir: an empty path"),
        (["--rate", "1", "--data-dir="], "--data-dir: an empty path"),
        (["scaled", "--workdir="], "--workdir: an empty path"),
        (["predict", "--out", ""], "--out: an empty path"),
        (["predict", "--images", "a.png", ""], "--images: an empty path"),
        (["--workdir=~no.such.user/r"], "--workdir: ~no.such.user/r: no such user; expected a"),
        (["train", "--images", "a.png"], "unknown option --images"),
        (["--seed", "-1"], "--seed is -1, expected 0 to 4294967295"),
        (["--seed", "4294967296"], "--seed is 4294967296, expected 0 to 4294967295"),
        (["--seed", "4294967295", "--seeds", "2"], "the last seed of --seeds is 4294967296"),
        (["predict", "--sample-seed", "-1"], "--sample-seed is -1, expected 0 to 4294967295"),
        (["--workdir", "a" * 300], "aaa: a name of 300 bytes; expected at most 255"),
        (["--workdir", "w\udcff"], "--workdir: w\\xff: not UTF-8; expected a name in UTF-8"),
        (["--data-dir", "w\udcff"], "--data-dir: w\\xff: not UTF-8"),
        (["predict", "--images", "a" * 300], "--images: aaa"),
        (["predict", "--out", "a" * 300], "--out: aaa"),
        (["scaled", "--workdir", "a" * 300], "--workdir: aaa"),
        (["--widths", *map(str, range(100))], "; give --workdir"),
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
        "error: invalid choice 'normel' for argument '--noise'. Expected one of ('none', 'normal')"
        "; --help lists what there is\n"
    )


def test_what_an_experiment_does_not_have(call):
    status, _, err = call("--smoke", smoke=None)
    assert (status, err) == (
        2,
        "error: this experiment has no configuration --smoke; --help lists what there is\n",
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


@pytest.mark.parametrize(("verb", "meant"), [("trian", "train"), ("predic", "predict")])
def test_a_mistyped_verb_is_refused_before_the_experiment_is_made(call, place, verb, meant):
    def make(config: Config) -> Experiment:
        raise AssertionError

    status, _, err = call(verb, make=make)
    assert status == 2
    assert err.startswith(f"error: unknown verb '{verb}'; did you mean {meant}?")


@dataclass(frozen=True)
class Limited(Config):
    def __post_init__(self):
        if self.rate > 1:
            raise ValueError(f"--rate is {self.rate}, expected at most 1")


@pytest.mark.parametrize("verb", ["train", "predict"])
def test_what_a_config_refuses_is_a_usage_error(call, place, verb):
    def make(config: Limited) -> Experiment:
        return small(config)

    make.__annotations__ = {"config": Limited}
    status, out, err = call(verb, "--rate", "2", make=make, smoke=None, paper=None)
    expected = "error: --rate is 2.0, expected at most 1; --help lists what there is\n"
    assert (status, out, err) == (2, "", expected)
    assert list(place.iterdir()) == []


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


def test_a_default_workdir_is_one_that_a_run_takes(call, place):
    status, _, err = call("train", "--label", "a/b[:80%]\\c**d", make=small)
    assert status == 0, err
    assert [path.name for path in (place / "runs").iterdir()] == ["tiny-label=a_b_:80%__c_d"]


def test_a_tilde_is_the_home_folder_in_every_path(call, place, monkeypatch):
    home = place / "home"
    monkeypatch.setenv("HOME", str(home))
    status, _, err = call("--workdir=~/r", make=small)
    assert status == 0, err
    assert [path.name for path in place.iterdir()] == ["home"]
    assert (home / "r" / "metrics.json").exists()
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(home / "a.png")
    asked = ("--workdir=~/r", "--images=~/a.png", "--out=~/out")
    status, out, err = call("predict", *asked, make=small)
    assert (status, out) == (0, f"{home / 'out' / 'a.png'}\n"), err
    assert [path.name for path in place.iterdir()] == ["home"]


def test_a_tilde_is_the_home_folder_in_paths_of_an_experiment_s_own(call, place, monkeypatch):
    @dataclass(frozen=True)
    class Written:
        output: Path | None = None
        inputs: tuple[Path, ...] = ()

    def make(config: Config) -> Experiment:
        return Experiment(config, commands={"write": (Written, lambda own, run: print(own))})

    monkeypatch.setenv("HOME", str(place))
    status, out, err = call("write", "--output=~/a", "--inputs", "~/b", "c", make=make)
    assert (status, out) == (0, f"{Written(place / 'a', (place / 'b', Path('c')))}\n"), err
    status, _, err = call("write", "--inputs", "c", "", make=make)
    assert (status, err.split(";")[0]) == (2, "error: --inputs: an empty path")


@pytest.mark.parametrize("given", [["--workdir=~/r"], ["--workdir", "~/r"]])
def test_a_verb_of_an_experiment_s_own_finds_the_sets_of_the_run(place, monkeypatch, given):
    (place / "r").mkdir()
    (place / "r" / "config.json").touch()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setattr(command_line, "stored_sets", lambda folder: [folder])
    assert command_line._sets_of(["--smoke", *given], Path("runs")) == [place / "r"]


def on_mnist(config: Config) -> Experiment:
    images = data.load("mnist", "train").take(slice(40))
    x = {"x": images["image"].reshape(40, -1)[:, 300:303].astype(np.float32) / 255}
    y = {"y": images["label"].astype(np.float32)}
    batches = shuffled_batches(data.Examples({**x, **y}, images.source), 8, seed=0)
    stage = tiny.stage("train", tiny.Config(), steps=5, batches=batches)
    return Experiment(config, [stage], predict=tiny.predict)


@pytest.mark.parametrize("flags", [[], ["--return-memory"]])
def test_freed_memory_is_kept_unless_asked(call, place, monkeypatch, flags):
    asked = []
    monkeypatch.setattr(command_line.memory, "keep_freed", lambda: asked.append(True))
    assert call("train", "--smoke", *flags)[0] == 0
    assert len(asked) == 1 - len(flags)


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


def test_the_function_must_name_its_config(call):
    def make(config):
        return Experiment(config)

    status, _, err = call(make=make)
    assert status == 1
    assert "must name its dataclass" in err
