"""The best checkpoint of a run: which one it is, and when its metric is asked for."""

import json

import pytest

from jaxstruct.training import (
    Experiment,
    RunError,
    restore,
    run,
)
from tests.training import tiny
from tests.training.quick import CONFIG, small


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


@pytest.mark.parametrize(("metrics", "before"), [((), [0]), (("loss",), [0]), (("ap",), [])])
def test_a_stage_that_names_the_metric_is_not_evaluated_before(tmp_path, devices, metrics, before):
    steps = []

    def evaluate(state):
        steps.append(int(state.step))
        return {"ap": 0.5}

    changes = {"evaluate": evaluate, "evaluate_every": 10, "metrics": metrics}
    run(small(stage=changes, best=("ap", "max")), tmp_path, devices=devices())
    assert steps == [*before, 10]


def test_an_evaluation_without_the_metric_of_best_has_no_rank(tmp_path, devices):
    # Nothing counts for it at step 4, as for a class that did not occur.
    evaluate = lambda state: {"loss": 1.0} | ({"ap": 0.5} if int(state.step) != 4 else {})
    changes = {"evaluate": evaluate, "evaluate_every": 2, "steps_per_call": 1, "log_every": 2}
    made = small(stage=changes, best=("ap", "max"))
    run(made, tmp_path, devices=devices())
    assert int(restore(made, tmp_path, which="best").state.step) == 10
