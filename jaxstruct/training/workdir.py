"""The files of one run: how JSON files are written and read, and who may write them.

What may be added: another file that every run has.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import math
import os
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from jaxstruct.data import SetRecord
from jaxstruct.data.regular_files import check_regular, read_bytes
from jaxstruct.training.errors import RunError


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON holds it: tuples become lists, paths strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds its lock.

    The kernel releases the lock when the process ends, however it ends. Where the file system has
    no locks, a line on stderr says so. Raises RunError where another run holds the lock, and where
    the folder cannot be written or locked.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = _opened(workdir / "lock", "a")
    except OSError as error:
        raise RunError(
            f"cannot write into the workdir {workdir} ({error.strerror}); choose another --workdir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise RunError(
                    f"another run is writing into {workdir}; wait for its end or choose another "
                    "--workdir"
                ) from error
            if error.errno not in _NO_LOCKS:
                raise RunError(
                    f"cannot lock {workdir / 'lock'} ({error.strerror}); choose another --workdir"
                ) from error
            print(
                f"warning: the file system of {workdir} has no locks ({error.strerror}); start no "
                "other run there before this one has ended",
                file=sys.stderr,
            )
        yield


_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, a whole file or none; raises as `write_text` does."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Writes a text in UTF-8, a whole file or none. Raises RunError where that is impossible."""
    temporary = path.with_name(path.name + ".part")
    try:
        with _opened(temporary, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave an empty file under the new name
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror or error})") from error


def _opened(path: Path, mode: str) -> TextIO:
    """A file to be written. Raises OSError for a pipe, which would wait for a reader."""
    if path.exists():
        check_regular(path)
    return path.open(mode, encoding="utf-8")  # type: ignore[return-value]


def read_json(path: Path, remedy: str = "put back a copy of it") -> Any | None:
    """What `write_json` wrote, or None without the file; RunError with the remedy for no JSON."""
    try:
        found = json.loads(read_bytes(path), parse_constant=_finite, parse_float=_finite)
        if found is None:
            raise ValueError("it holds null")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path} is not the JSON file that a run writes ({error}); {remedy}"
        ) from error
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number that a run writes")
    return number


def read_config(workdir: Path) -> dict[str, Any] | None:
    """config.json of a workdir, or None without it; RunError where no run wrote the file."""
    path = workdir / "config.json"
    remedy = "put back a copy of it, or choose another --workdir"
    found = read_json(path, remedy)
    if found is not None and not _is_config(found):
        raise RunError(f"{path} is no configuration of a run; {remedy}")
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


def is_finite(found: Any) -> bool:
    """Whether something from a JSON file is a number, and one that a float can hold."""
    return type(found) in (int, float) and abs(found) <= sys.float_info.max


def are_objects(found: Any, keys: set[str]) -> bool:
    """Whether something from a JSON file is a list of objects that all have these keys."""
    return isinstance(found, list) and all(isinstance(x, dict) and keys <= set(x) for x in found)


def check_config(
    workdir: Path, name: str | None, config: dict[str, Any], *, study: bool = False
) -> None:
    """Raises RunError where the folder holds a run of another configuration, naming the fields.

    A file of weights that the run has read is known by its name: it may lie in another folder now.
    Also where the folder holds no run, but pictures that this run might replace.
    """
    before = read_config(workdir)
    if before is None:
        if found := next((workdir / "figures").glob("*.png"), None):
            raise RunError(
                f"{found} belongs to no run, and a run in {workdir} may replace it; choose another "
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
    names = weights_below(workdir) if old != config else []
    was, is_now = by_name(old, names), by_name(config, names)
    fields = [key for key in {**old, **config} if was.get(key) != is_now.get(key)]
    if fields:
        differing = ", ".join(f"{k} was {old.get(k)} and is now {config.get(k)}" for k in fields)
        raise RunError(
            f"{workdir} is a run of another configuration: {differing}; choose another --workdir"
        )


def weights_of(about: Mapping[str, Any]) -> list[str]:
    """The names of the files of weights that a config.json or a metrics.json records."""
    stages = about.get("weights", {})
    entries = [one for read in stages.values() if are_objects(read, {"file"}) for one in read]
    return [one["file"] for one in entries if isinstance(one["file"], str)]


def weights_below(workdir: Path) -> list[str]:
    """The names of the files of weights that the run of a workdir, or its members, have read."""
    found = [read_config(path.parent) or {} for path in below(workdir, "config.json")]
    return [name for one in found for name in weights_of(one)]


def by_name(value: Any, names: Iterable[str]) -> Any:
    """A value of JSON in which every path of a file of these names is the name alone."""
    if isinstance(value, dict):
        return {key: by_name(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [by_name(one, names) for one in value]
    return Path(value).name if isinstance(value, str) and Path(value).name in names else value


def check_weights(
    workdir: Path, stage: str, before: Any, read: Iterable[Mapping[str, str]]
) -> None:
    """Raises RunError where a stage has read another file of weights than `before` records."""
    known = before if are_objects(before, {"file", "sha256"}) else []
    for new in read:
        former = [old["sha256"] for old in known if old["file"] == new["file"]]
        if former and new["sha256"] not in former:
            raise RunError(
                f"{workdir} is a run from other weights: stage {stage!r} began with "
                f"{new['file']} of sha256 {former[0]} and has read one of {new['sha256']}; put the "
                "former file back, or choose another --workdir"
            )


def below(folder: Path, name: str) -> list[Path]:
    """The paths of a name in a workdir and all below it but checkpoints, behind links, too."""
    found: list[Path] = []
    for inside, folders, names in os.walk(folder, followlinks=True):
        here = Path(inside)
        found += [here / name] if name in (*folders, *names) else []
        around = {os.path.realpath(one) for one in (here, *here.parents)}
        folders[:] = [
            one
            for one in folders
            if one != "checkpoints" and os.path.realpath(here / one) not in around  # a circle
        ]
    return sorted(found)


def stored_config(workdir: Path, config: Any, *, trained: bool = True) -> Any:
    """The configuration of the run in a workdir, or `config` where there is no run.

    With `trained`, a run without stages does not count. Raises RunError where another version of
    the code wrote the fields.
    """
    stored = read_config(workdir)
    if stored is None or (trained and not below(workdir, "checkpoints")):
        return config
    kept = stored["config"]
    unknown = set(kept) ^ set(plain(config))
    if unknown:
        raise RunError(f"{workdir} is a run of another version: fields {sorted(unknown)} differ")
    kinds = typing.get_type_hints(type(config))
    wrong = [key for key, value in kept.items() if not fits(value, kinds[key])]
    try:
        if wrong:
            raise ValueError(f"{wrong[0]} is {json.dumps(kept[wrong[0]]):.80}")
        as_tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
        return dataclasses.replace(config, **as_tuples)
    except ValueError as error:
        raise RunError(
            f"{workdir / 'config.json'} holds a configuration that no run writes ({error}); put "
            "back a copy of it"
        ) from error


def fits(value: Any, kind: Any) -> bool:
    """Whether a value from a JSON file is one of a field that is annotated so; see `plain`."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inside)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin in (tuple, list):
        if not isinstance(value, list):
            return False
        every = inside[:1] * len(value) if origin is list or Ellipsis in inside else inside
        return len(every) == len(value) and all(map(fits, value, every))
    if kind in (int, float, bool, str, types.NoneType):
        also = (int,) if kind is float else ()
        return type(value) in (kind, *also) and not (type(value) is int and abs(value) >= 2**63)
    return isinstance(value, str) or not (isinstance(kind, type) and issubclass(kind, Path))


def stored_sets(workdir: Path) -> list[SetRecord]:
    """The sets that a run read, as config.json describes them; RunError for other content."""
    stored = read_config(workdir) or {}
    try:
        return [SetRecord.of_plain(record) for record in stored.get("sets", ())]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{workdir / 'config.json'} holds sets that no run writes; put back a copy of it"
        ) from error
