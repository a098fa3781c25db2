"""What the fuzz tests share: damage that a seed draws, and what a command may do with it.

Whatever a command is given, it succeeds, or ends with the status that docs/command-line.md and
docs/data.md promise and one line that says why. It ends in time, and leaves the user's files as
they are.

What may be added: another kind of damage, another promise.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import signal
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data import DataError
from jaxstruct.training import RunError

SECONDS = 20  # for one input, on a machine that is busy


class TooLong(BaseException):
    """The time of an input is over; no `except Exception` keeps this."""


@dataclass
class Outcome:
    """What a command did: its status, its two streams, and what it must not do, in words."""

    status: int
    out: str
    err: str
    faults: list[str]

    @property
    def line(self) -> str:
        """The last line on stderr."""
        return (self.err.splitlines() or [""])[-1]


def outcome(
    command: Callable[[], Any],
    *,
    statuses: Iterable[int] = (0, 1),
    names: Iterable[str] = (),
    keeps: Iterable[Path] = (),
    seconds: float = SECONDS,
) -> Outcome:
    """Runs a command in this process and judges it.

    Args:
        command: returns or exits with a status; None and other values are success. A DataError, a
            RunError or a ValueError with one line counts as what a main function makes of it.
        statuses: the exit statuses that are promised for such an input.
        names: what the line of an error has to contain, one of these.
        keeps: the user's files and folders, which have to stay as they are.
        seconds: the time limit.
    """
    before, faults, status = checksums(keeps), [], 0
    out, err = io.StringIO(), io.StringIO()
    with (
        warnings.catch_warnings(record=True) as warned,
        _logged() as logged,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("always")
        try:
            with _limited(seconds):
                found = command()
                status = found if type(found) is int else 0
        except SystemExit as stop:
            status = stop.code if type(stop.code) is int else int(stop.code is not None)
        except TooLong:
            faults.append(f"takes more than {seconds} s")
        except (DataError, RunError) as error:
            status = 1
            text = str(error) if isinstance(error, DataError) else " ".join(str(error).split())
            print(f"error: {text}", file=sys.stderr)
        except BaseException as error:  # a traceback for the user, whatever it is
            faults.append(f"raises {_where(error)}")
    found = Outcome(status, out.getvalue(), err.getvalue(), faults)
    # Python shows a warning as two lines, the first of which is a place in a library.
    shown = [w for w in warned if not issubclass(w.category, _HIDDEN)]
    faults += [f"warns {w.category.__name__}: {w.message} ({w.filename})" for w in shown]
    faults += [f"logs {record.getMessage()} ({record.name})" for record in logged]
    if not faults:
        faults += said_wrong(found, set(statuses), list(names))
    after = checksums(keeps)
    changed = [str(path) for path in before | after if before.get(path) != after.get(path)]
    faults += [f"changes {path}" for path in changed]
    return found


def said_wrong(found: Outcome, statuses: set[int], names: list[str]) -> Iterator[str]:
    """What is wrong with the status and with stderr."""
    if "Traceback" in found.err:
        yield f"shows a traceback: {found.err[-300:]}"
    if found.status not in statuses:
        yield f"ends with {found.status}, expected one of {sorted(statuses)}: {found.line}"
    if not found.status:
        return
    if len(found.line) < 15:
        yield f"says no more than {found.line!r}"
    if "--debug shows where" in found.line:
        yield f"has no line for what went wrong: {found.line}"
    if found.line.startswith("error: error: ") or re.search(r" \((None)?\)", found.line):
        yield f"gives no reason: {found.line}"
    if names and not any(name in found.line for name in names):
        yield f"names none of {', '.join(names)}: {found.line}"
    # Other lines tell of what was left out or set aside, and end nothing.
    for line in found.err.splitlines()[:-1]:
        if line.startswith("error"):
            yield f"has more than one line for an error: {line}"


_HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Python shows these to nobody."""


@contextlib.contextmanager
def _logged() -> Iterator[list[logging.LogRecord]]:
    """What a library logs inside, which comes out on stderr where nobody handles it.

    The command line lets absl say nothing; from Python, orbax's warnings are for who calls it.
    """
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    handler.addFilter(lambda record: record.name not in ("absl", "asyncio"))
    logging.getLogger().addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger().removeHandler(handler)


def _where(error: BaseException) -> str:
    """The error, and the last place of ours that it came from."""
    places, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if "jaxstruct" in code.co_filename or "experiments" in code.co_filename:
            places.append(f"{Path(code.co_filename).name}:{at.tb_lineno}")
        at = at.tb_next
    return f"{type(error).__name__}: {str(error)[:200]} ({' '.join(places[-4:])})"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TooLong inside; the timer of pytest-timeout goes on afterwards."""

    def end(*_: Any) -> None:
        raise TooLong

    handler = signal.signal(signal.SIGALRM, end)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    since = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - since), 0.01))


def checksums(places: Iterable[Path]) -> dict[Path, str]:
    """What stands in files and folders: the digest of a file, the kind of all else."""
    found = {}
    for place in places:
        for path in [place, *(sorted(place.rglob("*")) if place.is_dir() else [])]:
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode):
                found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[path] = os.readlink(path) if stat.S_ISLNK(mode) else str(stat.S_IFMT(mode))
    return found


def seeds(count: int) -> range:
    """So many seeds; or those of $JAXSTRUCT_FUZZ, first:end, for a search that takes its time."""
    first, _, end = os.environ.get("JAXSTRUCT_FUZZ", f"0:{count}").partition(":")
    return range(int(first), int(end))


# Damage: functions of a generator and the bytes of a file.


def cut(draw: np.random.Generator, content: bytes) -> bytes:
    return content[: draw.integers(0, max(len(content), 1))]


def flip(draw: np.random.Generator, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.integers(1, 6)):
        if changed:
            changed[draw.integers(len(changed))] ^= 1 << draw.integers(8)
    return bytes(changed)


def flip_head(draw: np.random.Generator, content: bytes) -> bytes:
    """In the first bytes, where headers are."""
    return flip(draw, content[:128]) + content[128:]


def garbage(draw: np.random.Generator, content: bytes) -> bytes:
    return draw.bytes(draw.integers(1, 300))


def piece_of_garbage(draw: np.random.Generator, content: bytes) -> bytes:
    start, size = draw.integers(0, len(content) + 1), draw.integers(1, 64)
    return content[:start] + draw.bytes(size) + content[start + size :]


def without_a_piece(draw: np.random.Generator, content: bytes) -> bytes:
    start, size = draw.integers(0, len(content) + 1), draw.integers(1, 200)
    return content[:start] + content[start + size :]


def piece_twice(draw: np.random.Generator, content: bytes) -> bytes:
    start, size = draw.integers(0, len(content) + 1), draw.integers(1, 200)
    return content[: start + size] + content[start:]


def extreme(draw: np.random.Generator, content: bytes) -> bytes:
    """Bytes that are a number become the largest, the smallest or 0."""
    start, size = draw.integers(0, min(len(content), 400) + 1), draw.choice([1, 2, 4, 8])
    number = [
        b"\xff" * 8,
        b"\x7f" + b"\xff" * 7,
        b"\x80" + bytes(7),
        bytes(8),
        b"\xff" * 7 + b"\x7f",
    ]
    return content[:start] + number[draw.integers(5)][:size] + content[start + size :]


def empty(draw: np.random.Generator, content: bytes) -> bytes:
    return b""


BYTES = [
    cut, flip, flip_head, garbage, piece_of_garbage, without_a_piece, piece_twice, extreme, empty,
]  # fmt: skip

WORDS = [
    *(
        "-1",
        "0",
        "1e999",
        "-1e999",
        "nan",
        "NaN",
        "9" * 400,
        "1e308",
        "-1e308",
        "0.5",
        "2147483648",
    ),
    *("18446744073709551616", "", " ", "x", "null", "[]", "{}", '"', "<", "]]>", "&a;", "\0", "\n"),
    *(
        "é",
        "\ud800",
        "../x",
        "/etc/passwd",
        "a" * 300,
        "~",
        "1_0",
        "٣",
        "true",
        "\\u0000",
        "\\ud800",
    ),
]


def other_word(draw: np.random.Generator, content: bytes) -> bytes:
    """A number or a word of a text becomes another one."""
    return _replaced(draw, content, rb"-?\d[\d.e+-]*|\w+")


def other_text(draw: np.random.Generator, content: bytes) -> bytes:
    """What stands between two tags becomes another word."""
    return _replaced(draw, content, rb"(?<=>)[^<>\s]+(?=<)")


def _replaced(draw: np.random.Generator, content: bytes, pattern: bytes) -> bytes:
    places = list(re.finditer(pattern, content))
    if not places:
        return garbage(draw, content)
    place = places[draw.integers(len(places))]
    word = WORDS[draw.integers(len(WORDS))].encode("utf-8", "surrogatepass")
    return content[: place.start()] + word + content[place.end() :]


VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2**31, 2**64, 10**400, 0.5, -0.5, 1e308, float("nan")),
    *(float("inf"), "", "x", "\0", "\ud800", "a\nb", "../x", "/etc/passwd", "é", [], {}, [[]]),
    *([None], {"x": 1}, {"": {}}, [1, 2, 3], ["a", 5], "1", "a" * 300),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as the dict or list and the key in it."""
    if not isinstance(value, dict | list):
        return []
    found = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found += [(value, key), *places(item)]
    return found


def other_value(draw: np.random.Generator, content: bytes) -> bytes:
    """One value of a JSON text, wherever it stands, becomes another one, is gone or has a twin."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return flip(draw, content)
    found = places(value)
    if not found or draw.integers(20) == 0:
        return json.dumps(VALUES[draw.integers(len(VALUES))]).encode()
    holder, key = found[draw.integers(len(found))]
    match draw.integers(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.append(holder[key])
        case 1:
            holder["x"] = holder.pop(key)
        case _:
            holder[key] = VALUES[draw.integers(len(VALUES))]
    return json.dumps(value).encode()


def deep(draw: np.random.Generator, content: bytes) -> bytes:
    return [b"[", b'{"a":', b"<a>"][draw.integers(3)] * 100_000


TEXT = [*BYTES, other_word, other_word, other_word, deep]
XML = [*TEXT, *[other_text] * 12]
JSON = [*BYTES, deep, *[other_value] * 14]


def damaged(seed: Any, content: bytes, ways: list[Callable]) -> tuple[str, bytes]:
    """One of the ways, and what it makes of the content, as the seed draws them."""
    draw = np.random.default_rng(seed)
    way = ways[draw.integers(len(ways))]
    return way.__name__, way(draw, content)


def report(faults: dict[str, list[str]]) -> str:
    """All that was found, an input a paragraph."""
    return "".join(f"\n{name}\n  " + "\n  ".join(found) for name, found in faults.items())
