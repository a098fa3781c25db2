"""The workdir of a finished run, damaged in every way: commands go on, or name the file."""

import shutil
from functools import partial

import jax
import numpy as np
import pytest

from experiments import __main__ as experiments
from experiments import _results
from jaxstruct.training import main, restore, run
from tests.fuzz import fuzzing
from tests.training import tiny

INPUTS = 8  # for each file
JSON = {"config.json", "metrics.json", "metadata", "_CHECKPOINT_METADATA", "_METADATA", "_sharding"}
FILES = ["config.json", "metrics.json", "metrics.jsonl", "checkpoints/**/*"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of `tiny`, and a file of the user's in its folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(tiny.experiment(tiny.Config()), folder, devices=jax.devices()[:1], name="tiny")
    (folder / "notes.txt").write_text("a user's")
    return folder


@pytest.fixture
def place(place, monkeypatch):
    """An empty current folder, where nothing of the project's is written into."""
    monkeypatch.setattr(_results, "RESULTS", place / "results")
    return place


def call(*arguments):
    """The command line of `tiny`."""
    main(
        tiny.experiment, smoke=tiny.SMOKE, paper=tiny.PAPER,
        arguments=[*map(str, arguments), "--devices", "1"],
    )  # fmt: skip


def commands(folder, draw):
    """What is asked of a run: reading ones, and one that resumes."""
    reading = {
        "predict": partial(call, "predict", "--workdir", folder),
        "predict best": partial(call, "predict", "--workdir", folder, "--checkpoint", "best"),
        "scaled": partial(call, "scaled", "--workdir", folder),
        "restore": partial(restore, tiny.experiment, folder),
        "collect": partial(experiments.main, ["collect", str(folder), "--name", "tiny"]),
    }
    names = draw.permutation([*reading])[:2]
    return {
        **{str(name): reading[name] for name in names},
        "train": partial(call, "--workdir", folder),
    }


def faults_of(pattern, whole, place, seeds):
    """What was found, by input."""
    found = {}
    for seed in seeds:
        folder = place / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        draw = np.random.default_rng([*pattern.encode(), seed])
        files = sorted(p for p in folder.glob(pattern) if p.is_file())
        path = files[draw.integers(len(files))]
        ways = fuzzing.JSON if path.name in JSON else fuzzing.BYTES
        if path.suffix == ".jsonl":
            ways = [*fuzzing.TEXT, _other_line]
        way, content = fuzzing.damaged([*pattern.encode(), seed, 1], path.read_bytes(), ways)
        path.write_bytes(content)
        for name, command in commands(folder, draw).items():
            kept = [folder] if name != "train" else [folder / "notes.txt"]
            judged = fuzzing.outcome(command, names=[str(folder)], keeps=kept)
            faults = judged.faults
            if name == "train" and judged.status and not _is_kept(folder, content):
                faults.append(f"has lost {path.name}")
            if faults:
                found[f"{pattern}, seed {seed}, {name}: {way} of {path.relative_to(folder)}"] = (
                    faults
                )
    return found


def _other_line(draw, content):
    lines = content.split(b"\n")
    at = draw.integers(len(lines))
    return b"\n".join([*lines[:at], fuzzing.other_value(draw, lines[at] or b"5"), *lines[at + 1 :]])


def _is_kept(folder, content):
    """Whether a damaged file is still there, under its name or set aside."""
    return any(p.read_bytes() == content for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("pattern", FILES)
def test_a_damaged_run_is_read_or_named(pattern, whole, place):
    found = faults_of(pattern, whole, place, fuzzing.seeds(INPUTS))
    assert not found, fuzzing.report(found)
