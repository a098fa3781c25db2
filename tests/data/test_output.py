"""Standard streams that cannot be written drop what is said, and raise nothing."""

import errno
import io
import sys

import pytest

from jaxstruct.data.output import unbroken
from tests.data.written import Failing


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
