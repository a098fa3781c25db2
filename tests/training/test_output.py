"""Commands whose output nobody reads end as if it were read."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from jaxstruct.training import run
from tests.data.written import Failing
from tests.training.quick import small, stopping

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command", ["jaxstruct", "jaxstruct.data list", "experiments list", "experiments.gan_1d --help"]
)
def test_a_list_whose_reader_has_ended_is_no_error(command):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", *command.split()]
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
