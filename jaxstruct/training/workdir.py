"""The files of one run: its configuration, its records, its results, and who may write them."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxstruct.data import SetRecord
from jaxstruct.training.loop import RunError


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON holds it: tuples become lists, paths strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds its lock; RunError where another run has it or it is read-only.

    The lock is the kernel's: it goes with the process, however that ends.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("w")
    except OSError as error:
        raise RunError(
            f"cannot write into the workdir {workdir} ({error.strerror}); choose another --workdir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"another run is writing into {workdir}; wait for its end or choose another "
                "--workdir"
            ) from error
        yield


def write_json(path: Path, value: Any) -> None:
    """Writes a whole file or none."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)


def read_json(path: Path) -> Any | None:
    """What `write_json` wrote, None where it did not; RunError for anything else."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not the JSON file that a run writes ({error})") from error


def check_config(
    workdir: Path, name: str | None, config: dict[str, Any], *, study: bool = False
) -> None:
    """Raises RunError where the folder is of another configuration, naming the fields."""
    before = read_json(workdir / "config.json")
    if before is None:
        return
    if not isinstance(before, dict) or not {"experiment", "config"} <= set(before):
        raise RunError(f"{workdir / 'config.json'} is of no run; choose another --workdir")
    if study == ("data" in before):  # only a single run writes down its data
        held = "a single run" if study else "several runs (a study or --seeds)"
        remedy = (
            "choose another --workdir" if study else "name a member, or choose another --workdir"
        )
        raise RunError(f"{workdir} holds {held}; {remedy}")
    if name and before["experiment"] and before["experiment"] != name:
        raise RunError(
            f"{workdir} is a run of {before['experiment']}, not of {name}; choose another --workdir"
        )
    old = before["config"]
    fields = [key for key in {**old, **config} if old.get(key) != config.get(key)]
    if fields:
        differing = ", ".join(f"{k} was {old.get(k)} and is now {config.get(k)}" for k in fields)
        raise RunError(
            f"{workdir} is a run of another configuration: {differing}; choose another --workdir"
        )


def stored_config(workdir: Path, config: Any, *, trained: bool = True) -> Any:
    """The configuration of the run in a workdir; `config` where there is none.

    `trained`: a run without stages is none. Raises RunError where its fields are those of another
    version.
    """
    stored = read_json(workdir / "config.json")
    if stored is None or (trained and next(workdir.glob("**/checkpoints"), None) is None):
        return config
    kept = stored["config"]
    unknown = set(kept) ^ set(plain(config))
    if unknown:
        raise RunError(f"{workdir} is a run of another version: fields {sorted(unknown)} differ")
    as_tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
    return dataclasses.replace(config, **as_tuples)


def stored_sets(workdir: Path) -> list[SetRecord]:
    """What a run wrote down of the sets that it read."""
    stored = read_json(workdir / "config.json") or {}
    return [SetRecord.of_plain(record) for record in stored.get("sets", ())]


class Journal:
    """The records of a run, one JSON object a line in metrics.jsonl, and in TensorBoard's form.

    A record is {stage, step, number, train or evaluation: {name: value}, cost: {seconds}}; all but
    `cost` is the same in every equal run. A context manager; `number` is that of the checkpoint
    that the run goes on from: what was recorded after it is dropped, since it comes again.
    """

    def __init__(self, workdir: Path, number: int, write: bool):
        self.history: list[dict[str, Any]] = []
        path = workdir / "metrics.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                record = json.loads(line)
            except ValueError:
                break  # the line that a kill cut short
            if record["number"] <= number:
                self.history.append(record)
        self._file = self._board = None
        if write:
            temporary = path.with_name(path.name + ".part")
            temporary.write_text("".join(json.dumps(r) + "\n" for r in self.history))
            temporary.replace(path)
            self._file = path.open("a")
            self._board = _tensorboard(workdir)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: Any) -> None:
        for file in (self._file, self._board):
            if file:
                file.close()

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record; it is on the disk before a checkpoint that comes after it."""
        self.history.append(record)
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


def _tensorboard(workdir: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:  # in the extra `experiments`; without it the records are in metrics.jsonl
        return None
    return SummaryWriter(str(workdir / "tensorboard"))
