"""Runs in this process: what they write and how they resume."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxstruct.training import (
    Experiment,
    RunError,
    Stopped,
    Study,
    hardware,
    restore,
    run,
)
from tests.training import tiny
from tests.training.quick import CONFIG, ask_to_stop, bits, fail, small, stopping


def outcome(folder):
    """What is equal in equal runs."""
    results = json.loads((folder / "metrics.json").read_text())
    apart = {key: results.pop(key) for key in ("cost", "hardware", "versions", "commit")}
    assert apart["versions"]["jax"] == jax.__version__
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        assert record.pop("cost")["seconds"] >= 0
    return results, records


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return run(
        tiny.experiment(CONFIG),
        folder,
        devices=jax.devices()[:2],
        name="tiny",
        command="python tiny.py",
    )


def test_a_run_is_what_its_folder_says(uninterrupted):
    folder = uninterrupted.workdir
    assert {f.name for f in folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "figures",
        "lock",
        "metrics.json",
        "metrics.jsonl",
        "tensorboard",
    }
    started = json.loads((folder / "config.json").read_text())
    assert started["experiment"] == "tiny"
    assert started["config"] == {**dataclasses.asdict(CONFIG), "widths": [2, 1]}
    assert started["data"] == [{"name": "given arrays", "origin": "user"}]
    assert started["hardware"]["devices"].startswith("2 x ")
    assert started["versions"]["jax"] == jax.__version__
    assert "commit" in started
    results = json.loads((folder / "metrics.json").read_text())
    shared = started.keys() - {"sets", "weights"}  # of no set, and no weights were read
    assert {key: results[key] for key in shared} == {key: started[key] for key in shared}
    assert (started["sets"], started["weights"]) == ([], {})
    assert results["metrics"] == uninterrupted.records
    # Of each stage the last evaluation, then what was scored.
    errors = [uninterrupted.curve("error", stage=stage)[1][-1] for stage in ("first", "second")]
    weight = float(uninterrupted.states["second"].params["w"].sum())
    assert [tuple(record.values()) for record in results["metrics"]] == [
        (None, 0, "first", "error", errors[0]),
        (None, 0, "second", "error", errors[1]),
        (None, 0, None, "weight", weight),
    ]
    assert list(results["metrics"][0]) == ["member", "seed", "stage", "metric", "value"]
    assert uninterrupted.metrics == {
        "first/error": errors[0],
        "second/error": errors[1],
        "weight": weight,
    }
    assert results["cost"]["command"] == "python tiny.py"
    assert results["cost"]["wall_seconds"] > results["cost"]["training_seconds"]["total"] > 0
    evaluations = [r for r in uninterrupted.history if "evaluation" in r]
    assert results["scored"] == {"checkpoint": "last", "number": 40}
    evaluations = [r for r in evaluations if r["stage"] == "second"]
    best = min(evaluations, key=lambda r: r["evaluation"]["error"])
    assert results["best"] == {
        "stage": "second",
        "metric": "error",
        "value": best["evaluation"]["error"],
        "number": best["number"],
    }
    assert (folder / "figures" / "error.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").iterdir())


def test_states_curves_and_history(uninterrupted):
    assert list(uninterrupted.states) == ["first", "second"]
    assert uninterrupted.state is uninterrupted.states["second"]
    assert [int(s.step) for s in uninterrupted.states.values()] == [20, 20]
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(*(s.params["w"] for s in uninterrupted.states.values()))
    steps, errors = uninterrupted.curve("error")
    assert steps.tolist() == list(range(5, 41, 5))
    steps, errors = uninterrupted.curve("error", stage="second")
    assert steps.tolist() == [5, 10, 15, 20]
    assert errors[-1] == uninterrupted.metrics["second/error"]
    steps, squares = uninterrupted.curve("square", of="train", stage="first")
    assert steps.tolist() == [5, 10, 15, 20]
    assert squares[-1] < squares[0]
    assert uninterrupted.curve("none")[0].shape == (0,)
    assert [r["number"] for r in uninterrupted.history if "train" in r] == list(range(5, 41, 5))
    assert list(uninterrupted.history) == [
        json.loads(line)
        for line in (uninterrupted.workdir / "metrics.jsonl").read_text().splitlines()
    ]


def test_restored_it_is_the_same(uninterrupted):
    found = restore(tiny.experiment(CONFIG), uninterrupted.workdir)
    assert {k: bits(s) for k, s in found.states.items()} == {
        k: bits(s) for k, s in uninterrupted.states.items()
    }
    assert found.metrics == uninterrupted.metrics
    assert list(found.history) == list(uninterrupted.history)
    assert found.data == uninterrupted.data


def test_the_best_checkpoint_is_restored(uninterrupted):
    errors = {
        r["step"]: r["evaluation"]["error"]
        for r in uninterrupted.history
        if r["stage"] == "second" and "evaluation" in r
    }
    best = min(errors, key=errors.get)
    found = restore(tiny.experiment(CONFIG), uninterrupted.workdir, which="best")
    assert int(found.state.step) == best
    (stage,) = [s for s in tiny.experiment(CONFIG).stages if s.name == "second"]
    assert stage.evaluate(found.state)["error"] == pytest.approx(errors[best], rel=1e-6)
    plain = dataclasses.replace(tiny.experiment(CONFIG), best=None)
    with pytest.raises(RunError, match=r"no best checkpoint: Experiment\.best names no metric"):
        restore(plain, uninterrupted.workdir, which="best")


def test_a_restored_run_predicts(uninterrupted, tmp_path):
    found = restore(tiny.experiment, uninterrupted.workdir)
    image = np.full((4, 5, 3), 7, np.uint8)
    record, figure = found.predict(image)
    assert record == {"shape": [4, 5, 3], "mean": 7.0}
    assert figure.get_size_inches().tolist() == [1, 1]
    Image.fromarray(image).save(tmp_path / "seven.png")
    assert found.predict(tmp_path / "seven.png")[0] == record
    drawn = [found.predict(seed=seed)[0]["drawn"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == float(jax.random.normal(jax.random.key(0)))
    assert drawn[2] != drawn[0]
    silent = dataclasses.replace(tiny.experiment(CONFIG), predict=None)
    with pytest.raises(RunError, match="this experiment has no predict"):
        restore(silent, uninterrupted.workdir).predict()


def test_restored_from_its_function_a_run_has_its_own_configuration(tmp_path, devices):
    config = dataclasses.replace(CONFIG, rate=0.2, widths=(3, 1))
    run(tiny.experiment(config), tmp_path, devices=devices())
    found = restore(tiny.experiment, tmp_path)
    assert found.config == config


def test_equal_runs_are_equal_and_a_finished_one_is_only_drawn_again(
    uninterrupted, tmp_path, devices, capsys
):
    made = tiny.experiment(CONFIG)
    first = run(made, tmp_path, devices=devices(2), name="tiny")
    assert capsys.readouterr().out.count("scored") == 1
    assert outcome(tmp_path) == outcome(uninterrupted.workdir)
    assert bits(first.state) == bits(uninterrupted.state)
    before = {f: (tmp_path / f).read_bytes() for f in ("metrics.json", "metrics.jsonl")}
    figure = tmp_path / "figures" / "error.png"
    drawn = figure.read_bytes()
    figure.unlink()

    def update(state, batch):
        pytest.fail("it trained")

    stages = [dataclasses.replace(stage, update=update) for stage in made.stages]
    again = run(dataclasses.replace(made, stages=stages), tmp_path, devices=devices(2))
    assert capsys.readouterr().out == ""  # nor was it scored
    assert {f: (tmp_path / f).read_bytes() for f in before} == before
    assert figure.read_bytes() == drawn
    assert bits(again.state) == bits(first.state)
    assert again.metrics == first.metrics


@pytest.mark.parametrize(
    ("after", "how", "error", "at"),
    [
        (2, ask_to_stop, Stopped, ("first", 15)),
        (2, fail, OSError, ("first", 5)),
        (4, fail, OSError, ("first", 15)),
        (6, ask_to_stop, Stopped, ("second", 11)),
        (7, fail, OSError, ("second", 10)),
        (8, ask_to_stop, Stopped, ("second", 20)),
    ],
)
def test_whatever_ended_it_it_goes_on_to_the_same_bits(
    uninterrupted, tmp_path, devices, capsys, after, how, error, at
):
    made = tiny.experiment(CONFIG)
    with pytest.raises(error):
        run(stopping(made, after, how), tmp_path, devices=devices(2), name="tiny")
    assert not (tmp_path / "metrics.json").exists()
    capsys.readouterr()
    found = run(made, tmp_path, devices=devices(2), name="tiny")
    stage, step = at
    said = capsys.readouterr().err
    begins = [line for line in said.splitlines() if line.startswith("resuming at")]
    assert begins == [f"resuming at step {step} of stage {stage!r}"]
    assert outcome(tmp_path) == outcome(uninterrupted.workdir)
    assert bits(found.state) == bits(uninterrupted.state)
    assert found.cost["wall_seconds"] > 0


def test_results_name_every_machine_and_commit_that_trained(tmp_path, devices, monkeypatch):
    def at(commit, machine):
        monkeypatch.setattr(hardware, "commit_of_code", lambda: commit)
        monkeypatch.setattr(hardware, "hardware", lambda _: {"devices": machine})

    made = tiny.experiment(CONFIG)
    for after, commit, machine in ((2, "a", "abacus"), (2, None, "loom"), (3, "a", "abacus")):
        at(commit, machine)
        with pytest.raises(Stopped):
            run(stopping(made, after, ask_to_stop), tmp_path, devices=devices())
    at("b", "loom")
    run(made, tmp_path, devices=devices())
    at("c", "none that trained")
    run(made, tmp_path, devices=devices())
    for name in ("config.json", "metrics.json"):
        found = json.loads((tmp_path / name).read_text())
        assert found["commit"] == ["a", None, "b"]
        assert found["hardware"] == [{"devices": "abacus"}, {"devices": "loom"}]
        assert found["versions"]["jax"] == jax.__version__
    # What begins again is made here alone.
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "metrics.json").unlink()
    run(made, tmp_path, devices=devices())
    assert json.loads((tmp_path / "metrics.json").read_text())["commit"] == "c"


def test_a_request_between_two_records_loses_no_sums(tmp_path, devices):
    """Terms that are in no record yet go into the checkpoint, to the bit."""
    config = dataclasses.replace(CONFIG, batch_size=8)

    def made():
        changes = {"steps_per_call": 1, "evaluate_every": 3, "log_every": 10, "save_every": 10}
        return small(config, stage=changes)

    whole = run(made(), tmp_path / "whole", devices=devices())
    with pytest.raises(Stopped):
        run(stopping(made(), 1, ask_to_stop), tmp_path / "part", devices=devices())
    part = run(made(), tmp_path / "part", devices=devices())
    steps, values = part.curve("square", of="train")
    assert steps.tolist() == [10]
    assert values.tolist() == whole.curve("square", of="train")[1].tolist()


def test_damage_costs_steps_and_not_bits(uninterrupted, tmp_path, devices, capsys):
    made = tiny.experiment(CONFIG)
    with pytest.raises(OSError, match="power"):
        run(stopping(made, 7, fail), tmp_path, devices=devices(2), name="tiny")
    # The newest, and the last state of the stage before it: the first stage is done again too.
    for number in (30, 20):
        for file in (tmp_path / "checkpoints" / str(number) / "state").glob("**/d/*"):
            file.write_bytes(file.read_bytes()[:-30])
    run(made, tmp_path, devices=devices(2), name="tiny")
    said = capsys.readouterr().err
    assert "warning: checkpoint 30" in said
    assert "warning: checkpoint 20" in said
    assert outcome(tmp_path) == outcome(uninterrupted.workdir)
    assert bits(restore(made, tmp_path).state) == bits(uninterrupted.state)


def test_another_configuration_and_two_at_once_are_refused(tmp_path, devices):
    made = small()
    run(made, tmp_path, devices=devices())
    other = dataclasses.replace(CONFIG, rate=0.5, widths=(4,))
    with pytest.raises(RunError, match=r"rate was 0\.1 and is now 0\.5, widths was \[2, 1\]"):
        run(small(other), tmp_path, devices=devices())
    with pytest.raises(RunError, match=r"rate was 0\.1 and is now 0\.5"):
        restore(small(other), tmp_path)

    def run_inside():
        run(made, tmp_path / "x", devices=devices())

    with pytest.raises(RunError, match="another run is writing into"):
        run(stopping(made, 1, run_inside), tmp_path / "x", devices=devices())
    with pytest.raises(RunError, match="holds a single run"):
        run(Study(CONFIG, {"a": made}), tmp_path, devices=devices())


def test_without_stages_restore_has_the_configuration_of_the_run(tmp_path):
    def make(config: tiny.Config) -> Experiment:
        return Experiment(config, score=lambda states: {"rate": config.rate})

    run(make(tiny.Config(rate=0.7)), tmp_path)
    assert restore(make, tmp_path).metrics == {"rate": 0.7}


def test_an_experiment_without_stages(tmp_path):
    made = Experiment(
        CONFIG,
        score=lambda states: {"states": float(len(states))},
        figures=lambda run: {"drawn": Figure()} if run.state is None else {},
    )
    assert restore(made, tmp_path / "never ran").state is None
    found = run(made, tmp_path)
    assert found.metrics == {"states": 0.0}
    assert (tmp_path / "figures" / "drawn.png").exists()
    assert restore(made, tmp_path).metrics == {"states": 0.0}
    assert run(made, tmp_path).metrics == {"states": 0.0}
    # Of another configuration nothing has been measured, and nothing has to be.
    other = dataclasses.replace(made, config=dataclasses.replace(CONFIG, rate=0.3))
    assert restore(other, tmp_path).metrics == {}
    assert restore(other, tmp_path).config.rate == 0.3
    with pytest.raises(RunError, match=r"rate was 0\.\d+ and is now 0\.3"):
        run(other, tmp_path)


def test_a_tilde_is_the_home_folder(tmp_path, devices, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = run(small(), "~/r", devices=devices())
    assert found.workdir == tmp_path / "home/r"
    assert restore(small(), "~/r").metrics == found.metrics
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    for call in (run, restore):
        with pytest.raises(ValueError, match=r"^~no\.such\.user/r: no such user"):
            call(small(), "~no.such.user/r")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_none_is_refused_before_anything_is_written(tmp_path, devices, seed):
    made = dataclasses.replace(small(), config=dataclasses.replace(CONFIG, seed=seed))
    for whole in (made, Study(CONFIG, {"first": small(), "second": made})):
        with pytest.raises(ValueError, match=rf"^seed is {seed}, expected 0 to 4294967295$"):
            run(whole, tmp_path / "run", devices=devices())
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train[:80%]", "a]", "a\\b", "a**b"])
def test_a_folder_whose_checkpoints_could_not_be_read_is_refused(tmp_path, devices, name):
    study = Study(CONFIG, {"first": small(), name: small()})
    for made, folder in ((small(), name), (small(), f"{name}/run"), (study, "study")):
        with pytest.raises(RunError) as caught:
            run(made, tmp_path / folder, devices=devices())
        place = tmp_path / folder / (name if made is study else "")
        assert str(caught.value).startswith(f"the workdir {place} has ")
        assert "choose another --workdir" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
    # Without stages there are no checkpoints.
    assert run(Experiment(CONFIG), tmp_path / name, devices=devices()).states == {}


def test_nothing_to_restore(tmp_path):
    with pytest.raises(RunError, match=r"no run in .*--workdir"):
        restore(small(), tmp_path)
    assert list(tmp_path.iterdir()) == []
