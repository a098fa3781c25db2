"""The values that describe an experiment, and what they refuse."""

import dataclasses

import numpy as np
import pytest

from jaxstruct.training import Claim, Experiment, Reference, Stage, Study, shuffled_batches

BATCHES = shuffled_batches({"x": np.zeros(4)}, 2, seed=0)


def stage(**options):
    given = {
        "name": "train",
        "steps": 1000,
        "init": lambda key, previous: None,
        "update": lambda state, batch: (state, {}),
        "batches": BATCHES,
    }
    return Stage(**{**given, **options})


@pytest.mark.parametrize(
    ("given", "expected"),  # evaluate_every, save_every, log_every
    [
        ({}, (1000, 1000, 5)),
        ({"evaluate_every": 100}, (100, 100, 5)),
        ({"evaluate_every": 100, "save_every": 50, "log_every": 7}, (100, 50, 7)),
        ({"steps_per_call": 20}, (1000, 1000, 20)),
        ({"steps_per_call": 2}, (1000, 1000, 4)),
        ({"steps": 3}, (3, 3, 1)),
        ({"steps": 60_000, "steps_per_call": 20}, (60_000, 60_000, 300)),
    ],
)
def test_intervals_that_are_not_given(given, expected):
    made = stage(**given)
    assert (made.evaluate_every, made.save_every, made.log_every) == expected
    assert made.log_every % made.steps_per_call == 0


@pytest.mark.parametrize(
    "name", ["steps", "steps_per_call", "evaluate_every", "save_every", "log_every", "compilations"]
)
@pytest.mark.parametrize("value", [0, -5])
def test_numbers_below_1(name, value):
    message = f"^stage 'train': {name} is {value}, expected at least 1$"
    with pytest.raises(ValueError, match=message):
        stage(**{name: value})


@pytest.mark.parametrize("name", ["steps", "evaluate_every", "save_every", "log_every"])
def test_steps_per_call_divides_everything(name):
    message = f"stage 'train': {name} is 31, which steps_per_call 10 does not divide"
    with pytest.raises(ValueError, match=message):
        stage(**{"steps_per_call": 10, name: 31})
    assert getattr(stage(**{"steps_per_call": 10, name: 30}), name) == 30


def test_a_stage_takes_keywords_only_and_does_not_change():
    with pytest.raises(TypeError):
        Stage("train", 10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage().steps = 3
    # `replace` computes nothing anew: what was filled in stays.
    assert dataclasses.replace(stage(evaluate_every=10), name="b").save_every == 10


def test_stages_have_names_of_their_own():
    with pytest.raises(ValueError, match=r"different names, got \['a', 'b', 'a'\]"):
        Experiment(None, [stage(name="a"), stage(name="b"), stage(name="a")])
    assert len(Experiment(None, [stage(name="a"), stage(name="b")]).stages) == 2


@pytest.mark.parametrize("direction", ["maximum", "", None])
def test_the_best_has_a_direction(direction):
    stages = [stage(evaluate=lambda state: {})]
    with pytest.raises(ValueError, match=r'expected \("stage/metric", "max"\) or \("stage/metric"'):
        Experiment(None, stages, best=("loss", direction))
    for right in ("max", "min"):
        assert Experiment(None, stages, best=("loss", right)).ranking == ("train", "loss", right)


NESTED = {"a/ap": ("a", "ap"), "a/b/ap": ("a/b", "ap"), "c/b/ap": ("c", "b/ap")}


def test_the_best_is_of_a_stage_that_is_evaluated():
    evaluated = [stage(name=name, evaluate=lambda state: {}) for name in ("rpn", "fast")]
    stages = [*evaluated, stage(name="silent")]
    made = Experiment(None, stages, best=("fast/ap50/person", "max"))
    assert made.ranking == ("fast", "ap50/person", "max")
    assert Experiment(None, stages).ranking is None
    assert Experiment(None, evaluated[:1], best=("ap50/cat", "max")).ranking[1] == "ap50/cat"
    nested = [stage(name=name, evaluate=lambda state: {}) for name in ("a", "a/b", "c")]
    of_nested = {name: Experiment(None, nested, best=(name, "max")).ranking[:2] for name in NESTED}
    assert of_nested == NESTED
    for name in ("ap50", "silent/ap50", "none/ap50"):
        with pytest.raises(
            ValueError, match=rf"best is by '{name}', expected STAGE.* of rpn, fast"
        ):
            Experiment(None, stages, best=(name, "max"))
    with pytest.raises(ValueError, match="but no stage has an evaluate"):
        Experiment(None, stages[-1:], best=("ap50", "max"))


def test_an_experiment_needs_no_stage():
    made = Experiment(3)
    assert (made.config, list(made.stages), made.commands) == (3, [], {})
    assert Study(3, {"a": made}).experiments["a"] is made


LOWER, HIGHER = Reference("error", "lower"), Reference("accuracy", "higher")
NEAR = Reference("value", "near", value=0.5)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "has nothing to be judged by"),
        ({"values": [NEAR], "figure": "a"}, "has values and figure, expected one of"),
        ({"values": [NEAR, LOWER]}, "error has no value to be compared with"),
        ({"orders": [[LOWER]]}, r"\['error'\] is by \['lower'\], expected at least two"),
        ({"orders": [[LOWER, HIGHER]]}, r"by \['higher', 'lower'\], expected .* all lower or all"),
        ({"orders": [[LOWER, LOWER], [NEAR, NEAR]]}, r"by \['near'\], expected"),
    ],
)
def test_a_claim_is_judged_in_one_way(given, problem):
    with pytest.raises(ValueError, match=f"^claim 'it works'.*{problem}"):
        Claim("it works", **given)


def test_claims_that_can_be_judged():
    assert Claim("a", values=[NEAR]).values == [NEAR]
    assert Claim("a", orders=[[LOWER, LOWER], [HIGHER, HIGHER]]).why == ""
    assert Claim("a", figure="samples").config == {}


@pytest.mark.parametrize("verb", ["train", "trian", "trains", "predct", "predict"])
def test_a_command_that_would_be_taken_for_another_is_refused(verb):
    meant = "train" if verb.startswith("t") else "predict"
    with pytest.raises(ValueError, match=f"^command '{verb}' would be taken for {meant}; give it"):
        Experiment(None, commands={verb: (dict, print)})
    for other in ("retrain", "trace", "beside", "refine", "edict"):
        assert list(Experiment(None, commands={other: (dict, print)}).commands) == [other]
