"""Standard streams that cannot be written drop what is said, and raise nothing."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from jaxstruct.data.output import unbroken
from jaxstruct.training import run
from tests.training.quick import small, stopping

ROOT = Path(__file__).parents[2]


class Failing(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize(
    "stream",
    [
        Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")),
        Failing(OSError(errno.EIO, "Input/output error")),
        Failing(OSError(errno.ENOSPC, "No space left on device")),
        Failing(ValueError("I/O operation on closed file")),
        None,
    ],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_fails_is_silent(monkeypatch, name, stream):
    monkeypatch.setattr(sys, name, stream)
    with unbroken():
        for _ in range(2):
            print("x", file=getattr(sys, name), flush=True)
        getattr(sys, name).writelines(["a", "b"])
        assert getattr(sys, name).isatty() is False
    assert getattr(sys, name) is stream


def test_what_can_be_written_is_written(capsys):
    with unbroken(), unbroken():
        print("out")
        print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\n", "err\n")


def test_a_letter_that_the_terminal_does_not_know_is_written_another_way(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with unbroken():
        print("-101.3 ± 0.3")
    assert stream.buffer.getvalue() == b"-101.3 \\xb1 0.3\n"


def test_a_disk_that_is_full_for_a_while_costs_these_lines_alone(monkeypatch):
    class Full(io.StringIO):
        full = True

        def write(self, text):
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", stream := Full())
    with unbroken():
        print("lost")
        stream.full = False
        print("kept")
    assert stream.getvalue() == "kept\n"


@pytest.mark.parametrize("module", ["jaxstruct", "jaxstruct.data", "experiments"])
def test_a_list_whose_reader_has_ended_is_no_error(module):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", module, *["list"][: module != "jaxstruct"]]
    answer = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_predictions_are_made_without_a_reader(call, place, trained, monkeypatch):
    for name in ("a", "b"):
        Image.new("L", (6, 4), 100).save(place / f"{name}.jpg")
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert call("predict", "--workdir", trained, "--images", "a.jpg", "b.jpg")[0] == 0
    written = sorted(f.name for f in (place / "predictions").iterdir())
    assert written == ["a.json", "a.png", "b.json", "b.png"]


def test_a_run_from_python_goes_on_without_a_reader(tmp_path, devices, monkeypatch):
    """Whatever an experiment prints itself."""
    read, write = os.pipe()
    os.close(read)
    broken = os.fdopen(write, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", broken)
    monkeypatch.setattr(sys, "stderr", broken)
    made = stopping(small(), 1, lambda: print("half way", flush=True))
    assert "error" in run(made, tmp_path, devices=devices()).metrics
    with pytest.raises(BrokenPipeError):
        broken.close()
