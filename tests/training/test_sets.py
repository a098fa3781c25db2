"""A run resumes on the data that it began on, or not at all."""

import dataclasses
import json
import shutil

import jax
import pytest

from jaxstruct import training
from jaxstruct.data import Examples, SetRecord, Source
from jaxstruct.training import Experiment, RunError, Stopped, shuffled_batches
from tests.training import tiny
from tests.training.quick import CONFIG, ask_to_stop, bits, small, stopping

RECORD = SetRecord(
    "pets",
    "1.0.0",
    "official",
    {"train": 40, "test": 8},
    ("cat", "dog"),
    {"x": ((3,), "<f4"), "y": ((), "<f4")},
)


def on(record=RECORD, split="train", size=40, **changes):
    """An experiment that reads a split of a set."""
    source = Source(record.name, record.version, split, record.origin, size, record)
    examples = Examples(tiny.arrays(CONFIG), source, record.classes)
    batches = shuffled_batches(examples, 8, seed=0)
    return small(stage={"batches": batches, **changes})


def run(made, folder):
    return training.run(made, folder, devices=jax.devices()[:1])


def changed(**changes):
    return dataclasses.replace(RECORD, **changes)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Folders of runs that were stopped half-way, by the split that they read."""
    folder = tmp_path_factory.mktemp("begun")
    for split in ("train", "train[:83%]+test"):
        with pytest.raises(Stopped):
            run(stopping(on(split=split), 1, ask_to_stop), folder / str(len(split)))
    return folder


def content(folder):
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    ("split", "now", "size", "said"),
    [
        ("train", changed(splits={"train": 50}), 50, "pets train had size 40 and has 50;"),
        ("train", changed(version="2.0.0"), 40, "pets train had version 1.0.0 and has 2.0.0;"),
        ("train", changed(origin="imitation"), 40, "had origin official and has imitation;"),
        ("train", changed(classes=("cat", "wildcat")), 40, "had 'dog' as class 1 and has 'wildca"),
        ("train", changed(classes=("cat",)), 40, "pets had 'dog' as class 1 and has None;"),
        (
            "train",
            changed(keys={"x": ((3,), "<f8"), "y": ((), "<f4")}),
            40,
            "pets had x of ((3,), '<f4') and has ((3,), '<f8');",
        ),
        # As many examples, but others.
        (
            "train[:83%]+test",
            changed(splits={"train": 41, "test": 7}),
            40,
            "pets test had size 8 and has 7, pets train had size 40 and has 41; put the former",
        ),
    ],
)
def test_a_run_does_not_resume_on_other_data(begun, tmp_path, split, now, size, said):
    folder = shutil.copytree(begun / str(len(split)), tmp_path / "run")
    before = content(folder)
    with pytest.raises(RunError) as caught:
        run(on(now, split, size), folder)
    assert str(caught.value).startswith(f"{folder} is a run on other data: pets ")
    assert said in str(caught.value)
    assert "choose another --workdir" in str(caught.value)
    assert content(folder) == before


@pytest.mark.parametrize(
    "now",
    [
        RECORD,
        changed(splits={"train": 40, "test": 9, "extra": 5}),
        changed(keys={**RECORD.keys, "mask": ((3,), "|b1")}),
    ],
)
def test_what_a_run_did_not_read_may_differ(begun, tmp_path, now):
    folder = shutil.copytree(begun / "5", tmp_path / "run")
    whole = run(on(), tmp_path / "whole")
    assert bits(run(on(now), folder).state) == bits(whole.state)
    # What the run knows of the set is what it finished on.
    assert json.loads((folder / "config.json").read_text())["sets"] == [now.plain()]


def test_arrays_of_another_size_are_other_data(tmp_path):
    def made(size):
        batches = shuffled_batches(Examples(tiny.arrays(CONFIG, size)), 8, seed=0)
        return small(stage={"batches": batches})

    with pytest.raises(Stopped):
        run(stopping(made(40), 1, ask_to_stop), tmp_path)
    with pytest.raises(RunError, match="other data: given arrays had size 40 and has 48; put"):
        run(made(48), tmp_path)
    run(made(40), tmp_path)


def test_a_run_that_is_only_drawn_again_keeps_what_it_says_of_its_data(begun, tmp_path):
    folder = shutil.copytree(begun / "5", tmp_path / "run")
    run(on(), folder)
    before = {name: (folder / name).read_bytes() for name in ("config.json", "metrics.json")}
    other = on(changed(version="2.0.0", splits={"train": 50}), size=50)
    assert [one["version"] for one in run(other, folder).data] == ["1.0.0"]
    assert {name: (folder / name).read_bytes() for name in before} == before
    # To score it again is another matter, and so is a stage whose last state is lost.
    (folder / "metrics.json").unlink()
    with pytest.raises(RunError, match="is a run on other data"):
        run(other, folder)
    (folder / "metrics.json").write_bytes(before["metrics.json"])
    shutil.rmtree(folder / "checkpoints" / "10")
    with pytest.raises(RunError, match="is a run on other data"):
        run(other, folder)
    shutil.rmtree(folder / "checkpoints")  # to begin again
    (folder / "metrics.json").unlink()
    assert [one["version"] for one in run(other, folder).data] == ["2.0.0"]


def test_without_stages_scores_are_those_of_the_data_that_were_read(tmp_path):
    def made(version):
        source = Source("pets", version, "train", "official", 3)
        return Experiment(CONFIG, score=lambda states: {"one": 1.0}, data=[source])

    run(made("1.0.0"), tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    assert [one["version"] for one in run(made("2.0.0"), tmp_path).data] == ["1.0.0"]
    assert (tmp_path / "config.json").read_bytes() == before
    (tmp_path / "metrics.json").unlink()
    assert [one["version"] for one in run(made("2.0.0"), tmp_path).data] == ["2.0.0"]


def test_a_resume_that_fails_leaves_config_json_as_it_was(begun, tmp_path):
    folder = shutil.copytree(begun / "5", tmp_path / "run")
    before = (folder / "config.json").read_bytes()
    with pytest.raises(RunError, match="belongs to another model"):
        run(Experiment(CONFIG, [tiny.stage("train", CONFIG, steps=20)]), folder)
    assert (folder / "config.json").read_bytes() == before
