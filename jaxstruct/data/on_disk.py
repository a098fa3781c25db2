"""A prepared set as it stands on the disk: what it is, known without TFDS, and whether it is whole.

What may be added: another sign by which a damaged set is told from a whole one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxstruct.data.errors import DataError
from jaxstruct.data.regular_files import check_all_regular, read_bytes

RECORD = "jaxstruct.json"
"""The file beside TFDS's that says where the set comes from, and how large its files are."""

_INFO = "dataset_info.json"  # TFDS's
_STAMPS = 16  # of copies of the raw files, the last ones


@dataclass(frozen=True)
class Prepared:
    """A prepared set: its name, its folder in TFDS's layout, its origin, its splits' sizes.

    `classes` are what the labels 0, 1, ... mean; none where nobody has said it.
    """

    name: str
    path: Path
    origin: str
    version: str
    splits: dict[str, int]
    classes: tuple[str, ...] = ()


class Damaged(DataError):
    """A prepared set that is there, but not whole."""


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Whatever goes wrong while the prepared set in `path` is read is a Damaged with the remedy."""
    try:
        yield
    except (DataError, MemoryError, ImportError):
        raise
    except Exception as error:  # JSON, TFDS, array_record and the images' decoders have many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise Damaged(f"{path}: damaged ({reason}); expected a prepared set; {remedy}") from None


def read(name: str, path: Path, remedy: str, classes: tuple[str, ...] = ()) -> Prepared | None:
    """The set that we prepared in the folder `path`; None where no such folder is.

    `classes` are those of a set that keeps none itself. Raises Damaged where its records are not
    what was written, or where a file is missing or of another size.
    """
    if not path.is_dir():
        return None
    with reading(path, remedy):
        record = read_record(path)
        found = described(name, path, record["origin"], classes)
        for file, size in record.get("files", {}).items():
            if (path / file).stat().st_size != size:
                raise ValueError(f"{file} has {(path / file).stat().st_size:,} of {size:,} bytes")
        return found


def read_record(path: Path) -> dict[str, Any]:
    """What `write_record` wrote. Raises OSError or ValueError for anything else."""
    record = _json(path / RECORD)
    kinds = {"origin": str, "files": dict, "stamps": list}
    if not all(isinstance(record[key], kinds[key]) for key in kinds.keys() & record.keys()):
        raise ValueError(f"{RECORD} is not what was written")
    return record


def write_record(path: Path, origin: str, raw: Any) -> None:
    """Write down where a set comes from, beside its files, which are then complete."""
    files = {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}
    _write(path / RECORD, {"origin": origin, "raw": raw, "files": files})


def add_stamp(path: Path, raw: Any, stamp: str) -> None:
    """Add to the record of a set made of `raw` a cheap sign by which these raw files are known.

    Copies of them, with dates of their own, have other ones: the last few are kept. Does nothing
    where the folder cannot be written.
    """
    with contextlib.suppress(OSError, ValueError):
        record = read_record(path)
        if record["raw"] != raw:  # another process has put another set into its place
            return
        stamps = [one for one in record.get("stamps", []) if one != stamp]
        made = path / f".{RECORD}-{uuid.uuid4().hex}"
        try:
            _write(made, {**record, "stamps": [*stamps[1 - _STAMPS :], stamp]})
            os.replace(made, path / RECORD)
        finally:
            made.unlink(missing_ok=True)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def digest(path: Path, split: str) -> str:
    """Of the examples of a whole split: the same in any folder, and when prepared again.

    Files are read once in a process, and again where their size or date is another one.
    """
    files = [*path.glob(f"*-{split}.array_record*")] or [*path.iterdir()]  # named otherwise by TFDS
    stats = [(file, file.stat()) for file in sorted(files)]
    return _digest(tuple((file, about.st_size, about.st_mtime_ns) for file, about in stats))


@functools.lru_cache(maxsize=64)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    found = hashlib.sha256()
    for file, *_ in files:
        with file.open("rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()


def described(name: str, path: Path, origin: str, classes: tuple[str, ...] = ()) -> Prepared:
    """What TFDS's own files say of a set. Raises errors of several kinds where they are damaged."""
    check_all_regular(path)
    info = _json(path / _INFO)
    splits = {
        str(split["name"]): sum(int(length) for length in split["shardLengths"])
        for split in info["splits"]
    }
    if not splits:
        raise ValueError(f"no split in {_INFO}")
    return Prepared(name, path, origin, str(info["version"]), splits, _classes(path) or classes)


def description(path: Path) -> str:
    """What TFDS's files say that the set is, in one line."""
    with reading(path, "prepare it again"):
        return " ".join(str(_json(path / _INFO).get("description", "")).split())


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no JSON object")
    for key in ("origin", "raw") if path.name == RECORD else ("splits", "version"):
        if key not in found:
            raise ValueError(f"{path.name} has no {key!r}")
    return found


def _classes(path: Path) -> tuple[str, ...]:
    """The names that TFDS keeps of the feature `label`, or `classes` where there are boxes."""
    for key in ("label", "classes"):
        with contextlib.suppress(FileNotFoundError):
            names = (path / f"{key}.labels.txt").read_text("utf-8").split("\n")
            return tuple(name for name in names if name)
    return ()
