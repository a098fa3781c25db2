"""Runs in this process: what they write and how they resume."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxstruct.data import Examples, Source
from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    RunError,
    Stopped,
    Study,
    restore,
    run,
    shuffled_batches,
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


def spoiled(at, where="loss"):
    """The tiny stage, whose term or parameters are not finite from a step on."""
    plain = tiny.stage("train", CONFIG, steps=10)

    def update(state, batch):
        after, terms = plain.update(state, batch)
        bad = jnp.where(after.step >= at, jnp.nan, 1.0)
        if where == "loss":
            return after, {"square": terms["square"], "other": Mean.of(bad[None])}
        return after.replace(params=jax.tree.map(lambda x: x * bad, after.params)), terms

    return dataclasses.replace(
        plain, update=update, steps_per_call=1, evaluate_every=4, save_every=2, log_every=2
    )


def test_a_term_that_is_not_finite_stops_the_run(tmp_path, devices):
    made = Experiment(CONFIG, [spoiled(7)])
    with pytest.raises(RunError) as caught:
        run(made, tmp_path, devices=devices())
    for part in ("'other'", "nan", "step 7", "'train'", "checkpoint 6 is the last good one"):
        assert part in str(caught.value)
    kept = restore(made, tmp_path)
    assert int(kept.state.step) == 6
    assert np.isfinite(kept.state.params["w"]).all()
    with pytest.raises(RunError, match="no checkpoint was saved yet"):
        run(Experiment(CONFIG, [spoiled(1)]), tmp_path / "early", devices=devices())


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, devices):
    made = Experiment(CONFIG, [spoiled(6, "params")])
    with pytest.raises(RunError, match="checkpoint 4 is the last good one"):
        run(made, tmp_path, devices=devices())
    assert np.isfinite(restore(made, tmp_path).state.params["w"]).all()


def test_claims_are_judged_at_the_end_and_are_no_results(tmp_path, devices, capsys):
    steps = Reference("steps", "higher", value=8.0, source="by hand")
    claims = [
        Claim("ten steps", values=[steps]),
        Claim("of another rate", values=[steps], config={"rate": 0.7}),
    ]
    made = small(score=lambda states: {"steps": 10}, claims=claims)
    run(made, tmp_path, devices=devices())
    said = capsys.readouterr().err.splitlines()
    assert "ten steps: paper 8, ours 10: reached" in said
    assert "another rate" not in "".join(said)
    before = (tmp_path / "metrics.json").read_bytes()
    run(dataclasses.replace(made, claims=()), tmp_path, devices=devices())
    assert "ten steps" not in capsys.readouterr().err
    assert (tmp_path / "metrics.json").read_bytes() == before


def test_metrics_of_an_earlier_version_are_refused(tmp_path, devices):
    run(small(), tmp_path, devices=devices())
    results = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "metrics.json").write_text(json.dumps({**results, "metrics": {"error": 1.0}}))
    for again in (run, restore):
        with pytest.raises(RunError, match=r"metrics\.json holds no list of records.* remove it"):
            again(small(), tmp_path)


def test_metrics_may_be_arrays_and_must_be_finite(tmp_path, devices):
    made = small(
        stage={"evaluate": lambda state: {"norm": jnp.sum(state.params["w"] ** 2)}},
        score=lambda states: {"step": np.int32(states["train"].step)},
        best=("norm", "max"),
    )
    found = run(made, tmp_path / "a", devices=devices())
    assert found.metrics["step"] == 10
    assert type(found.metrics["norm"]) is float
    made = dataclasses.replace(made, score=lambda states: {"score": float("inf")})
    with pytest.raises(RunError, match="metric 'score' is inf"):
        run(made, tmp_path / "b", devices=devices())


def test_a_mistake_in_a_figure_costs_no_result(tmp_path, devices):
    scored = []

    def score(states):
        scored.append(1)
        return {"two": 2.0}

    def wrong(run):
        raise KeyError("no such curve")

    made = small(score=score, figures=wrong)
    with pytest.raises(KeyError):
        run(made, tmp_path, devices=devices())
    right = dataclasses.replace(made, figures=lambda run: {"empty": Figure()})
    assert run(right, tmp_path, devices=devices()).metrics["two"] == 2.0
    assert len(scored) == 1
    assert (tmp_path / "figures" / "empty.png").exists()


def test_the_best_of_equal_ones_is_the_checkpoint_that_is_restored(tmp_path, devices):
    # Evaluated at 2, 4, ..., 10, saved at 4, 8 and 10; 3 is the best, and was not saved.
    values = {0: 0.0, 2: 3.0, 4: 1.0, 6: 0.0, 8: 2.0, 10: 2.0}
    evaluate = lambda state: {"ap": values[int(state.step)]}
    changes = {"evaluate": evaluate, "evaluate_every": 2, "save_every": 4, "steps_per_call": 1}
    made = small(stage={**changes, "log_every": 2}, best=("ap", "max"))
    run(made, tmp_path, devices=devices())
    best = json.loads((tmp_path / "metrics.json").read_text())["best"]
    assert best == {"stage": "train", "metric": "ap", "value": 2.0, "number": 10}
    assert int(restore(made, tmp_path, which="best").state.step) == 10


def test_the_metric_of_best_is_looked_for_before_the_first_step(tmp_path, devices):
    first, second = (
        tiny.stage(name, CONFIG, evaluate=lambda state: {"loss": 1.0, "ap/cat": 0.5})
        for name in ("first", "second")
    )
    for named in ("second/ap", "second/ap/dog", "first/ap"):
        made = Experiment(CONFIG, [first, second], best=(named, "max"))
        metric = named.partition("/")[2]
        message = rf"best is by '{metric}', but evaluate of .* gives \['ap/cat', 'loss'\] before"
        with pytest.raises(RunError, match=message):
            run(made, tmp_path, devices=devices())
        assert (tmp_path / "metrics.jsonl").read_text() == ""
    made = Experiment(CONFIG, [first, second], best=("second/ap/cat", "max"))
    run(made, tmp_path, devices=devices())
    assert int(restore(made, tmp_path, which="best").states["second"].step) == 20


def test_an_evaluation_without_the_metric_of_best_has_no_rank(tmp_path, devices):
    # Nothing counts for it at step 4, as for a class that did not occur.
    evaluate = lambda state: {"loss": 1.0} | ({"ap": 0.5} if int(state.step) != 4 else {})
    changes = {"evaluate": evaluate, "evaluate_every": 2, "steps_per_call": 1, "log_every": 2}
    made = small(stage=changes, best=("ap", "max"))
    run(made, tmp_path, devices=devices())
    assert int(restore(made, tmp_path, which="best").state.step) == 10


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


@pytest.mark.parametrize("origin", ["official", "imitation", "package"])
def test_where_the_data_come_from_is_written_down(tmp_path, devices, origin):
    source = Source("numbers", "1.0.0", "train[:40]", origin, 40)
    examples = Examples(tiny.arrays(CONFIG), source).only("x", "y")
    batches = shuffled_batches(examples, 8, seed=0)
    made = small(stage={"batches": batches})
    made = dataclasses.replace(
        made, stages=[*made.stages, dataclasses.replace(made.stages[0], name="again")]
    )
    found = run(made, tmp_path, devices=devices())
    expected = [source.plain()]
    assert json.loads((tmp_path / "metrics.json").read_text())["data"] == expected
    assert found.data == expected
    assert expected[0]["origin"] == origin


def test_what_is_read_beside_the_stages_is_written_down(tmp_path, devices):
    source = Source("photographs", "1.0.0", "train", "package", 3)
    made = Experiment(CONFIG, score=lambda states: {"one": 1.0}, data=[source])
    assert run(made, tmp_path / "none", devices=devices()).data == [source.plain()]
    found = run(dataclasses.replace(small(), data=[source]), tmp_path / "one", devices=devices())
    assert found.data == [
        source.plain(),
        {"name": "given arrays", "origin": "user"},
    ]
    assert json.loads((tmp_path / "one" / "metrics.json").read_text())["data"] == found.data


def test_profile_writes_a_trace_even_of_a_short_run(tmp_path, devices):
    run(small(), tmp_path, devices=devices(), profile=True)  # two calls
    assert list((tmp_path / "profile").glob("**/*.xplane.pb"))
    jax.profiler.start_trace(str(tmp_path / "free"))  # no trace is under way
    jax.profiler.stop_trace()


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
def test_a_seed_that_is_none_is_refused_before_any_step(tmp_path, devices, seed):
    made = dataclasses.replace(small(), config=dataclasses.replace(CONFIG, seed=seed))
    with pytest.raises(ValueError, match=rf"^seed is {seed}, expected 0 to 4294967295$"):
        run(made, tmp_path, devices=devices())
    assert not (tmp_path / "checkpoints").exists()


def test_nothing_to_restore(tmp_path):
    with pytest.raises(RunError, match=r"no run in .*--workdir"):
        restore(small(), tmp_path)
    assert list(tmp_path.iterdir()) == []
