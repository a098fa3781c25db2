"""How far a long piece of work is: plain lines, or a bar in a terminal."""

import io
import sys
import time

from rich.console import Console
from rich.progress import Progress

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


def test_lines_where_a_bar_is_on_the_terminal_already(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "_bar", None)
    with Progress(console=console) as bar, progress.progress("cells, train", 1) as advance:
        bar.add_task("training", total=1)
        advance()
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert any("cells, train: 1 of 1 images, 0 s left" in line for line in lines)
