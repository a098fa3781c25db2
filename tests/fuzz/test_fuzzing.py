"""The judge of the fuzz tests finds what it is there to find."""

import functools
import logging
import sys
import time
import warnings

import pytest

from jaxstruct.data import DataError, coco, idx, voc
from jaxstruct.training import workdir
from tests.fuzz import fuzzing, test_raw_files, test_workdirs
from tests.fuzz.fuzzing import outcome
from tests.fuzz.test_workdirs import place as place  # a fixture
from tests.fuzz.test_workdirs import whole as whole  # a fixture


def raising(error):
    def command():
        raise error

    return command


def saying(status, *lines):
    def command():
        print(*lines, sep="\n", file=sys.stderr)
        return status

    return command


CLEAR = "error: x.png: missing; expected an image"


@pytest.mark.parametrize(
    "command",
    [
        lambda: None,
        lambda: 0,
        saying(0, "warning: this and that"),
        saying(1, CLEAR),
        saying(1, "a.jpg: left out", CLEAR),
        raising(SystemExit(0)),
        raising(DataError("x.png: missing; expected an image")),
    ],
)
def test_success_and_one_clear_line_are_right(command):
    assert outcome(command, names=["x.png"]).faults == []


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (raising(KeyError("x")), "raises KeyError"),
        (raising(OSError("x")), "raises OSError"),
        (raising(MemoryError()), "raises MemoryError"),
        (raising(KeyboardInterrupt()), "raises KeyboardInterrupt"),
        (functools.partial(time.sleep, 5), "takes more than"),
        (saying(1), "says no more than ''"),
        (saying(1, "error: x"), "says no more than 'error: x'"),
        (saying(2, CLEAR), "ends with 2"),
        (saying(139, CLEAR), "ends with 139"),
        (saying(1, "Traceback (most recent call last):", CLEAR), "shows a traceback"),
        (saying(1, CLEAR, CLEAR), "more than one line"),
        (saying(1, f"{CLEAR} ()"), "gives no reason"),
        (saying(1, f"{CLEAR} (None)"), "gives no reason"),
        (saying(1, "error: y.png: missing; expected an image"), "names none of x.png"),
        (saying(1, f"{CLEAR} (--debug shows where)"), "has no line for what went wrong"),
        (raising(DataError("\n" + CLEAR[7:19])), None),
        (lambda: warnings.warn("x", UserWarning, stacklevel=1), "warns UserWarning"),
        (lambda: logging.getLogger("PIL").warning("x"), "logs x (PIL)"),
    ],
)
def test_everything_else_is_found(command, fault):
    faults = outcome(command, names=["x.png"], seconds=0.2).faults
    assert any(fault in one for one in faults) if fault else not faults


def test_a_changed_file_of_the_users_is_found(tmp_path):
    (tmp_path / "a").write_text("a user's")
    (tmp_path / "link").symlink_to("a")
    for change in (
        lambda: (tmp_path / "a").write_text("ours") and None,
        lambda: (tmp_path / "a").unlink(),
        lambda: (tmp_path / "b").touch(),
        lambda: (tmp_path / "link").unlink(),
    ):
        assert "changes" in outcome(change, keeps=[tmp_path]).faults[0]
    assert not outcome(lambda: None, keeps=[tmp_path]).faults


def test_a_hang_is_interrupted_where_a_library_catches_everything():
    def command():
        try:
            time.sleep(5)
        except Exception:
            return 0

    started = time.monotonic()
    assert outcome(command, seconds=0.2).faults == ["takes more than 0.2 s"]
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("kind", "place", "name"),
    [("COCO", coco, "_is_number"), ("XML", voc, "_number"), ("idx", idx, "read_raw")],
)
def test_a_fault_that_is_let_in_is_found(kind, place, name, monkeypatch, tmp_path):
    true, calls = getattr(place, name), []

    def fails(*arguments):
        calls.append(arguments)
        return true(*arguments) if len(calls) < 60 else {}["x"]

    monkeypatch.setattr(place, name, fails)
    found = test_raw_files.faults_of(kind, tmp_path, range(40))
    assert any("raises KeyError" in fault for faults in found.values() for fault in faults)


def test_a_file_that_is_not_checked_is_found(monkeypatch, whole, place):
    monkeypatch.setattr(workdir, "fits", lambda *_: True)
    monkeypatch.setattr(workdir, "_is_config", lambda *_: True)
    found = test_workdirs.faults_of("config.json", whole, place, range(6))
    assert found


def test_damage_is_the_same_every_time():
    for ways in (fuzzing.BYTES, fuzzing.TEXT, fuzzing.JSON):
        content = b'{"a": [1, 2.5, "x"], "b": null}' * 9
        made = [[fuzzing.damaged(seed, content, ways) for seed in range(40)] for _ in range(2)]
        assert made[0] == made[1]
        assert len({result for _, result in made[0]}) > 20
