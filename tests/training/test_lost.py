"""What a run wrote and finds damaged later is named; nothing of the results is silently shorter."""

import json
import shutil

import pytest

from jaxstruct.training import RunError, Stopped, Study, restore, run
from tests.training import one_stage, tiny
from tests.training.quick import ask_to_stop, bits, stopping

MADE = tiny.experiment(tiny.Config())
NO_RESULTS = ["", "{", "{}", "[]", "5", '"x"', "null", b"\xff\xfe"]


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a run that has ended."""
    return shutil.copytree(trained, tmp_path / "run")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def emptied(checkpoint):
    for file in checkpoint.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def numbers_of(workdir):
    """What is equal in equal runs."""
    results = json.loads((workdir / "metrics.json").read_text())
    return {key: results[key] for key in ("config", "metrics", "best", "scored", "data")}


def content(folder):
    return {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_last_state_of_an_earlier_stage_is_made_again_and_later_ones_stay(
    finished, devices, capsys
):
    whole, before = restore(MADE, finished), numbers_of(finished)
    emptied(finished / "checkpoints" / "20")
    kept = content(finished)
    found = restore(MADE, finished)
    assert content(finished) == kept
    assert bits(found.state) == bits(whole.state)
    assert list(found.states) == ["second"]
    words = r"state of stage 'first' in .*run is lost.*the command .* trains that stage again$"
    with pytest.raises(RunError, match=words):
        found.states["first"]
    later = content(finished / "checkpoints" / "40")
    (finished / "metrics.json").unlink()
    capsys.readouterr()
    again = run(MADE, finished, devices=devices())
    said = capsys.readouterr().err
    assert "warning: checkpoint 20 in" in said
    assert "resuming at step 20 of stage 'second'" in said
    assert "training stage 'first' again from step 0: its last state is lost" in said
    assert numbers_of(finished) == before
    assert list(again.states) == ["first", "second"]
    for stage in whole.states:
        assert bits(again.states[stage]) == bits(whole.states[stage])
        assert bits(restore(MADE, finished).states[stage]) == bits(whole.states[stage])
    assert content(finished / "checkpoints" / "40") == later
    assert [r["number"] for r in again.history] == [r["number"] for r in whole.history]


def test_a_stage_that_is_trained_again_can_be_stopped_and_goes_on(finished, devices, capsys):
    whole, kept = restore(MADE, finished), content(finished / "checkpoints" / "40")
    emptied(finished / "checkpoints" / "20")
    with pytest.raises(Stopped, match="saved stage 'first' at step 15"):
        run(stopping(MADE, 2, ask_to_stop), finished, devices=devices())
    again = run(MADE, finished, devices=devices())
    assert "training stage 'first' again from step 15" in capsys.readouterr().err
    for stage in whole.states:
        assert bits(again.states[stage]) == bits(whole.states[stage])
    assert content(finished / "checkpoints" / "40") == kept
    assert restore(MADE, finished).states.keys() == whole.states.keys()


def test_where_no_checkpoint_can_be_read_the_run_does_not_begin_again(finished, devices):
    whole, checkpoints = restore(MADE, finished), finished / "checkpoints"
    for checkpoint in checkpoints.iterdir():
        emptied(checkpoint)
    (finished / "metrics.json").unlink()
    kept = content(finished)
    for again in (lambda: run(MADE, finished, devices=devices()), lambda: restore(MADE, finished)):
        with pytest.raises(RunError, match=rf"^all checkpoints in {checkpoints} are damaged \("):
            again()
        assert content(finished) == kept
    shutil.rmtree(checkpoints)
    assert bits(run(MADE, finished, devices=devices()).state) == bits(whole.state)


def test_a_damaged_line_in_the_middle_is_named_and_the_others_stay(finished, devices, capsys):
    path, before = finished / "metrics.jsonl", numbers_of(finished)
    lines = path.read_text().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if '"number": 20' in line and "evalu" in line)
    path.write_text("".join([*lines[:last], "{ \n", *lines[last + 1 :]]))
    for again in (lambda: run(MADE, finished, devices=devices()), lambda: restore(MADE, finished)):
        with pytest.raises(RunError) as caught:
            again()
        assert f"line {last + 1} of {path} is no record of a run" in str(caught.value)
        assert "remove that line" in str(caught.value)
    assert len(path.read_text().splitlines()) == len(lines)
    path.write_text("".join([*lines[:last], *lines[last + 1 :]]))
    (finished / "metrics.json").unlink()
    capsys.readouterr()
    run(MADE, finished, devices=devices())
    told = f"warning: {path} has lost 1 of the {len(lines)} records up to checkpoint 40"
    assert told in capsys.readouterr().err
    # It was the last evaluation of its stage, which the results hold: it is made again.
    assert numbers_of(finished) == before
    assert len(path.read_text().splitlines()) == len(lines)


@pytest.mark.parametrize("keep", [0, 3])
def test_lost_records_are_counted_and_the_results_are_the_same(finished, devices, capsys, keep):
    path, before = finished / "metrics.jsonl", numbers_of(finished)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:keep]))
    (finished / "metrics.json").unlink()
    restore(MADE, finished)
    told = f"{path} has lost {len(lines) - keep} of the {len(lines)} records up to checkpoint 40"
    assert told in capsys.readouterr().err
    run(MADE, finished, devices=devices())
    assert told in capsys.readouterr().err
    assert numbers_of(finished)["metrics"] == before["metrics"]
    history = restore(MADE, finished).history
    assert [r["number"] for r in history] == sorted(r["number"] for r in history)


def test_a_last_line_that_a_kill_cut_short_is_no_damage(finished, devices, capsys):
    with (finished / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "second", "st')
    whole = restore(MADE, finished).history
    assert len(run(MADE, finished, devices=devices()).history) == len(whole)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "metrics.jsonl"])
def test_a_file_of_something_else_is_one_line(call, capsys, finished, devices, name):
    good = (finished / name).read_bytes()
    for damaged in [*NO_RESULTS, good[: len(good) // 2] + b"\n"]:
        if name == "metrics.jsonl" and damaged in ("", "{"):
            continue  # no lines, and one that was cut short
        write(finished / name, damaged)
        before = content(finished)
        for again in (
            lambda: run(MADE, finished, devices=devices()),
            lambda: restore(MADE, finished),
            lambda: restore(tiny.experiment, finished),
        ):
            with pytest.raises(RunError) as caught:
                again()
            assert str(finished / name) in str(caught.value), damaged
            assert any(
                s in str(caught.value) for s in ("put back", "remove it", "remove that line")
            )
        capsys.readouterr()
        for verb in ("predict", "train", "scaled"):
            status, out, err = call(verb, "--workdir", finished)
            assert (status, out) == (1, ""), (verb, damaged, err)
            *more, last = err.splitlines()
            assert str(finished / name) in last
            assert verb == "train" or not more
        assert content(finished) == before


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
@pytest.mark.parametrize("inside", [{"config": 5}, {"data": [5]}, {"data": 5}])
def test_a_part_that_is_something_else_is_one_line(finished, name, inside):
    found = json.loads((finished / name).read_text())
    write(finished / name, json.dumps({**found, **inside}))
    with pytest.raises(RunError) as caught:
        restore(tiny.experiment, finished)
    assert str(finished / name) in str(caught.value)


def test_the_records_of_results_are_records(finished):
    found = json.loads((finished / "metrics.json").read_text())
    for metrics in ([5], [{}], [{**found["metrics"][0], "value": "much"}], {"error": 1.0}):
        write(finished / "metrics.json", json.dumps({**found, "metrics": metrics}))
        with pytest.raises(RunError, match=r"metrics\.json holds no list of records"):
            restore(MADE, finished)


def test_a_study_names_the_file_of_its_member(tmp_path, devices):
    config = one_stage.Config()
    study = Study(config, {"a": one_stage.small(config)})
    run(study, tmp_path, devices=devices())
    for name in ("config.json", "a/config.json", "a/metrics.json", "a/metrics.jsonl"):
        good = (tmp_path / name).read_bytes()
        write(tmp_path / name, "[]\n")
        with pytest.raises(RunError) as caught:
            run(study, tmp_path, devices=devices())
        assert str(tmp_path / name) in str(caught.value)
        write(tmp_path / name, good)
    run(study, tmp_path, devices=devices())


def test_a_best_checkpoint_that_is_gone_is_no_other_one(finished):
    best = numbers_of(finished)["best"]["number"]
    assert restore(MADE, finished, which="best").state is not None
    others = [f for f in (finished / "checkpoints").iterdir() if f.name.isdigit()]
    assert len(others) > 1
    shutil.rmtree(finished / "checkpoints" / str(best))
    with pytest.raises(RunError, match=rf"the best checkpoint, {best} in .* is damaged or mis"):
        restore(MADE, finished, which="best")
    shutil.rmtree(finished / "checkpoints")
    with pytest.raises(RunError, match=rf"the best checkpoint, {best} in .* is damaged or mis"):
        restore(MADE, finished, which="best")
