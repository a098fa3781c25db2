"""What a run writes about itself: metrics, claims, data, figures."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxstruct.data import Examples, Source
from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    RunError,
    restore,
    run,
    shuffled_batches,
)
from tests.training import tiny
from tests.training.quick import CONFIG, small


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


def test_a_figure_that_cannot_be_written_costs_no_result(tmp_path, devices):
    made = small(figures=lambda run: {"empty": Figure()})
    (tmp_path / "figures").touch()
    words = r"^cannot write .*figures/empty\.png \(File exists\); .* start again"
    with pytest.raises(RunError, match=words):
        run(made, tmp_path, devices=devices())
    assert (tmp_path / "metrics.json").exists()
    (tmp_path / "figures").unlink()
    (tmp_path / "figures" / "empty.png").mkdir(parents=True)
    with pytest.raises(RunError, match=r"^cannot write .*figures/empty\.png \(Is a directory\)"):
        run(made, tmp_path, devices=devices())


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
