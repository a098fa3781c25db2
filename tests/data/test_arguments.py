"""What ends a command: an exit status, and one line on stderr."""

import signal

import pytest

from jaxstruct.data import DataError
from jaxstruct.data.arguments import Parser, WrongUsage, status_of
from jaxstruct.training import RunError, Stopped, TraceError


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (WrongUsage("--size is 0"), 2, "error: --size is 0; --help lists what there is"),
        (DataError("a  b: missing"), 1, "error: a  b: missing"),
        (RunError("no run"), 1, "error: no run"),
        (TraceError("one\n\n  two "), 1, "error: one two"),
        (Stopped("saved step 3", signal.SIGHUP), 129, "saved step 3"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("seed is -1"), 1, "error: seed is -1"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: [Errno 2] No such file: 'x'"),
        (KeyError("a"), 1, "error: KeyError: 'a'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_has_a_status_and_a_line(error, status, line):
    assert status_of(error) == (status, line)


def test_a_parser_raises_what_it_would_print():
    parser = Parser()
    parser.add_argument("--size", type=int)
    with pytest.raises(WrongUsage, match=r"^argument --size: invalid int value: 'x'$"):
        parser.parse_args(["--size", "x"])
