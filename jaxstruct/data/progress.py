"""How far a long piece of work on data is, on stderr: a bar in a terminal, plain lines elsewhere.

What may be added: nothing of one kind of work.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

INTERVAL = 30.0  # seconds between plain lines


@contextlib.contextmanager
def progress(what: str, size: int) -> Iterator[Callable[[], None]]:
    """Yields a function that is to be called after each of so many images."""
    if sys.stderr.isatty() and not _has_bar():
        with _bar(what, size) as advance_bar:
            yield advance_bar
        return
    begin = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, said
        done, now = done + 1, time.monotonic()
        if now - said >= INTERVAL:
            said = now
            left = (size - done) * (now - begin) / done
            print(f"{what}: {done:,} of {size:,} images, {left:,.0f} s left", file=sys.stderr)

    yield advance


def _has_bar() -> bool:
    """Whether there is a bar already, such as that of a run: lines are written above it."""
    from rich.file_proxy import FileProxy

    return isinstance(sys.stderr, FileProxy)


@contextlib.contextmanager
def _bar(what: str, size: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=size)
        yield lambda: bar.advance(task)
