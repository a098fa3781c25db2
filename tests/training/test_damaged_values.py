"""Values in the files of a run that no run writes: one line names the file."""

import dataclasses
import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from jaxstruct.data import SetRecord
from jaxstruct.training import RunError, restore
from jaxstruct.training.results import read_results, summary
from jaxstruct.training.workdir import check_config, fits, plain, stored_config, stored_sets
from tests.fuzz.fuzzing import VALUES, outcome, places, report
from tests.training import tiny

DEEP = {"[": "[" * 100_000, "{": '{"a":' * 100_000}


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a run that has ended."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("name", ["config.json", "metrics.json", "metrics.jsonl"])
def test_json_that_is_too_deep(finished, call, name, content):
    (finished / name).write_text(content + "\n")
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        restore(tiny.experiment, finished)
    for verb in ("train", "predict"):
        status, _, err = call(verb, "--workdir", finished)
        assert status == 1
        assert str(finished / name) in err.splitlines()[-1]


def read(folder):
    """Reads what `restore`, `predict` and `collect` read of the two files."""
    stored_config(folder, tiny.Config())
    stored_sets(folder)
    check_config(folder, "tiny", plain(tiny.Config()))
    summary(read_results(folder)["metrics"])


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_every_value_may_be_anything(finished, name):
    whole, found = (finished / name).read_text(), {}
    for at in range(len(places(json.loads(whole)))):
        for value in VALUES:
            content = json.loads(whole)
            holder, key = places(content)[at]
            holder[key] = value
            (finished / name).write_text(json.dumps(content))
            judged = outcome(partial(read, finished), names=[str(finished)])
            if judged.faults:
                found[f"{key}: {value!r:.40}"] = judged.faults
    assert not found, report(found)


@dataclasses.dataclass(frozen=True)
class Config:
    whole: int = 1
    real: float = 0.5
    flag: bool = False
    text: str = "x"
    choice: Literal["a", 1] = "a"
    numbers: tuple[int, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    place: Path = Path("x")
    none: int | None = None
    other: Any = None


GOOD = {
    "whole": [1, -5, 2**62],
    "real": [1, 0.5, 1e308],
    "flag": [True, False],
    "text": ["", "é"],
    "choice": ["a", 1],
    "numbers": [[], [1, 2]],
    "pair": [[1, 2], [1, 2.5]],
    "place": ["a/b"],
    "none": [None, 3],
    "other": [None, [], "x", 1],
}
BAD = {
    "whole": [True, 1.0, "1", None, [], 2**63, 10**400],
    "real": [True, "1", None, [], 10**400],
    "flag": [0, "true", None],
    "text": [1, None, ["x"]],
    "choice": ["b", True, 1.0, None, []],
    "numbers": [1, "12", [1.5], [[1]], None],
    "pair": [[1], [1, 2, 3], [1.5, 2]],
    "place": [1, None, ["a"]],
    "none": [1.5, "x", []],
}


def test_which_values_fit_a_field():
    kinds = {field.name: field.type for field in dataclasses.fields(Config)}
    for values, right in ((GOOD, True), (BAD, False)):
        for name, given in values.items():
            for value in given:
                assert fits(value, kinds[name]) == right, (name, value)
    for name, value in json.loads(json.dumps(dataclasses.asdict(Config()), default=str)).items():
        assert fits(value, kinds[name]), name


def test_a_number_that_json_cannot_hold_is_no_result(finished):
    whole = (finished / "metrics.json").read_text()
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        (finished / "metrics.json").write_text(
            whole.replace('"value": ', f'"value": {number}, "x": ')
        )
        with pytest.raises(RunError, match=rf"metrics\.json .*\({number} is no number that a run"):
            restore(tiny.experiment, finished)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"classes": [5]},
        {"splits": []},
        {"splits": {"train": "x"}},
        {"splits": {"train": -1}},
        {"splits": {"train": 1.5}},
        {"keys": {"x": [[1], "nonsense"]}},
        {"keys": {"x": [["a"], "<f4"]}},
        {"keys": {"x": []}},
        {"keys": []},
    ],
)
def test_a_record_of_a_set_that_no_run_writes(change):
    record = SetRecord("x", "1.0.0", "official", {"train": 3}, ("a",), {"x": ((None, 4), "<f4")})
    assert SetRecord.of_plain(record.plain()) == record
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        SetRecord.of_plain({**record.plain(), **change})


def test_a_metric_that_is_not_there_is_named(finished, call):
    metrics = restore(tiny.experiment, finished).metrics
    assert "none" not in metrics
    assert metrics.get("none") is None
    with pytest.raises(RunError, match=r"metrics\.json has no metric none: there is first/error, "):
        metrics["none"]
    path = finished / "metrics.json"
    path.write_text(path.read_text().replace('"metric": "error"', '"metric": "eror"'))
    status, _, err = call("scaled", "--workdir", finished)
    assert (status, err.count("\n")) == (1, 1)
    assert f"{path} has no metric second/error: there is first/eror, second/eror, weight" in err


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**400])
@pytest.mark.parametrize("option", ["--features", "--seed", "--widths"])
def test_an_integer_that_no_array_can_have_is_a_wrong_usage(call, option, number):
    status, out, err = call(option, str(number))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{option} is {number}, expected an integer of 64 bits" in err or "seed" in err


def test_limits_of_integers_that_no_float_holds():
    from experiments._checks import COUNT, SHARE

    assert not SHARE.hold(10**400)
    assert not COUNT.hold(math.nan)
    assert not COUNT.hold(math.inf)
    assert COUNT.hold(10**400)
