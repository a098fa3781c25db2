"""How far a long piece of work is: plain lines, or a bar in a terminal."""

import io
import sys
import time

from rich.console import Console

from jaxstruct.data import progress


def test_a_line_now_and_then_where_no_terminal_is(monkeypatch, capsys):
    now = iter([0.0, 10.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    with progress.progress("cells, train", 4) as advance:
        for _ in range(4):
            advance()
    assert capsys.readouterr().err.splitlines() == [
        "cells, train: 2 of 4 images, 31 s left",
        "cells, train: 4 of 4 images, 0 s left",
    ]


def test_a_bar_in_a_terminal(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.progress("cells, [train]", 4) as advance:
        for _ in range(4):
            advance()
    assert "cells, [train]" in console.file.getvalue()
    assert "4/4" in console.file.getvalue()
