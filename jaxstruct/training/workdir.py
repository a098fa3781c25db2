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
from jaxstruct.training.errors import RunError


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
        file = (workdir / "lock").open("a", encoding="utf-8")
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
    """Writes a value as JSON, a whole file or none; raises as `write_text` does."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Writes a text in UTF-8, a whole file or none. Raises RunError where that is impossible."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave an empty file under the new name
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror or error})") from error


def read_json(path: Path, remedy: str = "put back a copy of it") -> Any | None:
    """What `write_json` wrote, None where it did not; RunError with the remedy for no JSON."""
    try:
        found = json.loads(path.read_bytes())
        if found is None:
            raise ValueError("it holds null")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is not the JSON file that a run writes ({error}); {remedy}"
        ) from error
    return found


def read_config(workdir: Path) -> dict[str, Any] | None:
    """config.json of a workdir, None where there is none; RunError where it is of no run."""
    path = workdir / "config.json"
    remedy = "put back a copy of it, or choose another --workdir"
    found = read_json(path, remedy)
    if found is not None and not _is_config(found):
        raise RunError(f"{path} is of no run; {remedy}")
    return found


def _is_config(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("config"), dict)
        and isinstance(found.get("experiment", 0), str | None)
        and isinstance(found.get("weights", {}), dict)
        and are_objects(found.get("sets", []), set())
        and are_objects(found.get("data", []), {"name", "origin"})
    )


def are_objects(found: Any, keys: set[str]) -> bool:
    """Whether something from a JSON file is a list of objects that all have these keys."""
    return isinstance(found, list) and all(isinstance(x, dict) and keys <= set(x) for x in found)


def check_config(
    workdir: Path, name: str | None, config: dict[str, Any], *, study: bool = False
) -> None:
    """Raises RunError where the folder is of another configuration, naming the fields.

    Or where it is of no run, and has pictures that those of this one might replace.
    """
    before = read_config(workdir)
    if before is None:
        if found := next((workdir / "figures").glob("*.png"), None):
            raise RunError(
                f"{found} is of no run, and a run in {workdir} may replace it; choose another "
                "--workdir"
            )
        return
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
    stored = read_config(workdir)
    if stored is None or (trained and next(workdir.glob("**/checkpoints"), None) is None):
        return config
    kept = stored["config"]
    unknown = set(kept) ^ set(plain(config))
    if unknown:
        raise RunError(f"{workdir} is a run of another version: fields {sorted(unknown)} differ")
    as_tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
    return dataclasses.replace(config, **as_tuples)


def stored_sets(workdir: Path) -> list[SetRecord]:
    """What a run wrote down of the sets that it read; RunError where it wrote no such thing."""
    stored = read_config(workdir) or {}
    try:
        return [SetRecord.of_plain(record) for record in stored.get("sets", ())]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{workdir / 'config.json'} holds sets that no run writes; put back a copy of it"
        ) from error
