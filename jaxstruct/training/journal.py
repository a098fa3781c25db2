"""The records of a run while it trains: lines of metrics.jsonl, and TensorBoard's files.

What may be added: another format in which records are written.
"""

from __future__ import annotations

import bisect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxstruct.data.regular_files import read_bytes
from jaxstruct.training.errors import RunError
from jaxstruct.training.workdir import is_finite, write_text

Record = dict[str, Any]


class Journal:
    """The records of a run, one JSON object a line in metrics.jsonl, and in TensorBoard's form.

    A record is {stage, step, number, train or evaluation: {name: value}, cost: {seconds}}; all but
    `cost` is the same in every equal run. A context manager. `number` is the number of the
    checkpoint from which the run resumes: later records are dropped, since the run writes them
    again. Raises RunError for a line that is no record, except for a last line that was cut short.
    """

    def __init__(self, workdir: Path, number: int, write: bool):
        path = workdir / "metrics.jsonl"
        self.history = [r for r in read_records(path) if r["number"] <= number]
        self._file = self._board = None
        if write:
            write_text(path, "".join(json.dumps(r) + "\n" for r in self.history))
            self._file = path.open("a", encoding="utf-8")
            self._board = _tensorboard(workdir)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: Any) -> None:
        for file in (self._file, self._board):
            if file:
                file.close()

    def add(self, record: Record) -> None:
        """Appends a record, which is on the disk before any later checkpoint."""
        bisect.insort(self.history, record, key=lambda one: one["number"])
        if self._file:
            try:
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise RunError(f"cannot write {self._file.name} ({error.strerror})") from error
        if self._board:
            for kind in ("train", "evaluation"):
                for name, value in record.get(kind, {}).items():
                    self._board.add_scalar(f"{kind}/{name}", value, record["number"])


def read_records(path: Path) -> list[Record]:
    """The records of metrics.jsonl, in the order of their numbers; empty without the file.

    Raises RunError that names a line that is no record. A last line that was cut short is left out.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read {path} ({error.strerror})") from error
    *lines, last = content.split(b"\n")  # every whole line ends with a newline
    records = [_record(path, i, line) for i, line in enumerate(lines, 1)]
    if not _cut_short(last):
        records.append(_record(path, len(lines) + 1, last))
    return sorted(records, key=lambda record: record["number"])


def up_to(history: Sequence[Record], number: int) -> int:
    """How many records there are up to a checkpoint."""
    return sum(record["number"] <= number for record in history)


def check_history(workdir: Path, history: Sequence[Record], number: int, expected: int) -> None:
    """Warns on stderr where records up to a checkpoint are lost, and how many."""
    found = up_to(history, number)
    if found < expected:
        print(
            f"warning: {workdir / 'metrics.jsonl'} has lost {expected - found:,} of the "
            f"{expected:,} records up to checkpoint {number}; curves and history lack them",
            file=sys.stderr,
        )


def _record(path: Path, line: int, content: bytes) -> Record:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not _is_record(found):
        raise RunError(
            f"line {line} of {path} is no record of a run ({content[:40]!r}); remove that line to "
            "continue without it: the other records stay"
        )
    return found


def _cut_short(line: bytes) -> bool:
    """Whether a line is the beginning of a record, or the zeros that a power cut may leave."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line.startswith(b"{") or not line.strip(b"\0")
    return False


def _is_record(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("stage"), str)
        and all(type(n := found.get(key)) is int and 0 <= n < 2**63 for key in ("step", "number"))
        and all(_is_named_numbers(found[k]) for k in ("train", "evaluation") if k in found)
    )


def _is_named_numbers(found: Any) -> bool:
    return isinstance(found, dict) and all(map(is_finite, found.values()))


def _tensorboard(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:  # in the extra `experiments`; without it the records are in metrics.jsonl
        return None
    return SummaryWriter(str(workdir / "tensorboard"))
