"""Command lines of words that a seed draws: they run, or one line says what is wrong."""

import dataclasses
import importlib
import sys
from functools import partial

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import __main__ as experiments
from experiments import _results
from jaxstruct.data import __main__ as data_main
from jaxstruct.training import Experiment, main
from jaxstruct.training.experiment import config_type
from tests.fuzz import fuzzing

INPUTS = 30  # for each command
NAMES = ["vae_mnist", "faster_rcnn_bccd", "dense_crf_demo", "stacked_denoising_mnist"]
OPTIONS = [
    *("workdir", "smoke", "paper", "data-dir", "devices", "deterministic", "seeds", "profile"),
    *("images", "out", "member", "checkpoint", "sample-seed", "help", "nonsense", "return-memory"),
]
VALUES = [
    *("0", "1", "-1", "2", "1e3", "0.5", "nan", "inf", "-inf", "1e999", "9" * 30, "", " ", "x"),
    *("--", "True", "none", "last", "best", "kept", "kept/1.jpg", "é", "caf\udce9", "\t", "-", "="),
    *("[1,2]", "a b", "~", "~no.such.user/x", "a" * 300, "/", "/dev/null", "/nowhere/at/all", ".."),
    *("None", "digits", "train", "mnist", "mnist:9", "predict", "train[:5%]", "train+test"),
    "train[5:2]",
]
VERBS = ["train", "predict", "predict", "refine", "nonsense", "--", ""]


@pytest.fixture
def place(place, monkeypatch):
    """A current folder with files of the user's; nothing of the project's is written into."""
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(place / "prepared"))
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(_results, "RESULTS", place / "results")
    for folder in ("prepared", "runs", "results"):
        (place / folder).mkdir()
    (place / "kept").mkdir()
    for name in ("1.jpg", "kept.png", "notes.txt"):
        (place / "kept" / name).write_bytes(name.encode())
    return place


def without_stages(module):
    """The experiment's Config, and nothing that is trained."""

    def make(config):
        return Experiment(config, predict=lambda *_: ({"answer": 5}, Figure(figsize=(1, 1))))

    make.__annotations__ = {"config": config_type(module.experiment), "return": Experiment}
    return make


def words(draw, options):
    """Some options with a value, some without, some values alone."""
    for _ in range(draw.integers(0, 4)):
        option, value = options[draw.integers(len(options))], VALUES[draw.integers(len(VALUES))]
        form = draw.integers(6)
        if form < 3:
            yield from (f"--{option}", value)
        else:
            yield [f"--{option}={value}", f"--{option}", value][form - 3]


def experiment_line(name, draw):
    module = importlib.import_module(f"experiments.{name}")
    fields = [f.name for f in dataclasses.fields(config_type(module.experiment))]
    options = [name.replace("_", "-") for name in fields] * 2 + OPTIONS
    verb = [VERBS[draw.integers(len(VERBS))]] if draw.integers(2) else []
    arguments = [*verb, *words(draw, options)]
    make, variants = without_stages(module), {"smoke": module.SMOKE}
    if paper := getattr(module, "PAPER", None):
        variants["paper"] = paper
    return arguments, partial(main, make, **variants, arguments=arguments)


def data_line(name, draw):
    verb = ["list", "prepare", "describe", "draw", "propose", "nonsense"][draw.integers(6)]
    names = [["digits"], ["nosuch"], ["kept"], [], ["mnist/x:1"], ["own", "--from", "kept"]]
    options = ["from", "size", "crop", "skip-unreadable", "out", "split", "count", "data-dir"]
    options += ["mode", "width", "full-width", "workers", "as"] * (verb == "propose")
    arguments = [verb, *names[draw.integers(len(names))], *words(draw, options)]
    return arguments, partial(data_main.main, arguments)


def experiments_line(name, draw):
    verb = ["list", "collect", "collect", "nonsense"][draw.integers(4)]
    places = [[], ["kept"], ["/nowhere"], ["kept/1.jpg"]][draw.integers(4)]
    arguments = [verb, *places, *words(draw, ["name", "help", "workdir"])]
    return arguments, partial(experiments.main, arguments)


LINES = {"experiments": experiments_line, "data": data_line}


def faults_of(name, place, monkeypatch, seeds):
    """What was found, by input."""
    found = {}
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    for seed in seeds:
        line = LINES.get(name, experiment_line)
        arguments, command = line(name, np.random.default_rng([*name.encode(), seed]))
        judged = fuzzing.outcome(command, statuses={0, 1, 2}, keeps=[place / "kept"])
        if judged.faults:
            found[f"{name}, seed {seed}: {arguments}"] = judged.faults
    return found


@pytest.mark.parametrize("name", [*NAMES, *LINES])
def test_a_command_line_runs_or_says_what_is_wrong(name, place, monkeypatch):
    found = faults_of(name, place, monkeypatch, fuzzing.seeds(INPUTS))
    assert not found, fuzzing.report(found)
