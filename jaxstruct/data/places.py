"""Where data are looked for and kept: raw files, prepared sets, imitations, a user's own sets.

What may be added: another place. What stands in a place is not read here.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxstruct.data.errors import DataError

IMITATION_MARK = "IMITATION.txt"
"""The file in a raw folder that says that its contents are no real data."""


@dataclass(frozen=True)
class _Looking:
    data_dir: Path | None = None
    imitations: bool = False
    announced: set[str] = field(default_factory=set)


_looking: ContextVar[_Looking | None] = ContextVar("looking", default=None)


@contextmanager
def looking(data_dir: str | Path | None = None, imitations: bool = False) -> Iterator[None]:
    """For the code inside: `data_dir`/NAME is the first raw folder, imitations may stand in or not.

    Replaces what an outer `looking` says. Threads started inside do not see it; a Reader that was
    opened inside keeps what it found. Raises ValueError for a `data_dir` that is empty.
    """
    folder = None if data_dir is None else expanded(data_dir).absolute()
    token = _looking.set(_Looking(folder, imitations))
    try:
        yield
    finally:
        _looking.reset(token)


@contextmanager
def without_imitations() -> Iterator[None]:
    """For the code inside no imitation may stand in; folders are looked into as outside."""
    token = _looking.set(replace(_looking.get() or _Looking(), imitations=False))
    try:
        yield
    finally:
        _looking.reset(token)


def imitations_allowed() -> bool:
    """Whether an imitation may stand in for raw files that are missing."""
    return (_looking.get() or _Looking()).imitations


def first_announcement(name: str) -> bool:
    """True the first time it is asked about `name` inside one `looking`."""
    announced = (_looking.get() or _Looking()).announced
    first = name not in announced
    announced.add(name)
    return first


def prepared_root() -> Path:
    """The folder of prepared sets: $JAXSTRUCT_PREPARED, or jaxstruct in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _path(os.environ.get("JAXSTRUCT_PREPARED") or Path(cache) / "jaxstruct")


def imitations_root() -> Path:
    """The folder below which everything that was made from imitations stands."""
    return prepared_root() / "imitations"


def own_root() -> Path:
    """The folder below which the sets stand that were made of a user's own images."""
    return prepared_root() / "own"


def own_sets() -> list[str]:
    """The names of the sets in `own_root`, whole or damaged."""
    folders = [version.parent for version in own_root().glob("*/*") if version.is_dir()]
    return sorted({folder.name for folder in folders if not folder.name.startswith(".")})


def raw_folders(name: str) -> list[Path]:
    """The folders that may hold the raw files of `name`, the first to look in first.

    `data_dir` of the `looking` around, $JAXSTRUCT_DATA, and the folder of downloads.
    """
    roots = [(_looking.get() or _Looking()).data_dir, os.environ.get("JAXSTRUCT_DATA")]
    return [_path(root) / name for root in (*roots, prepared_root() / "downloads") if root]


@contextmanager
def workshop(
    root: Path,
    content: str = "prepared sets",
    remedy: str = "set JAXSTRUCT_PREPARED to another one",
) -> Iterator[Path]:
    """A new folder on the file system of `root`: what is made there is renamed when it is whole.

    Raises DataError that says that `root` is a folder for `content`, and the `remedy`, where it
    cannot be written, or is full before all is made; then nothing is left of that.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=root) as folder:
            yield Path(folder)
    except DataError:
        raise
    except Exception as error:
        of_disk = isinstance(error, OSError) or any(text in str(error) for text in _TEXTS)
        if not of_disk:  # a library of C++ has other errors, but the same words
            raise
        raise _about(error, root, content, remedy) from None


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk is full, or the user's share of it."""

_TEXTS = tuple(map(os.strerror, FULL))


def _about(error: Exception, root: Path, content: str, remedy: str) -> DataError:
    full = next((text for text in _TEXTS if text in str(error)), None)
    reason = full or getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    place = getattr(error, "filename", None)
    if isinstance(place, str) and not full and not Path(place).absolute().is_relative_to(root):
        return DataError(f"{place}: cannot be read ({reason}); expected a file of {content}")
    room, make = ("with room for", "make room there, or ") if full else ("for", "")
    return DataError(
        f"{root}: cannot be written ({reason}); expected a folder {room} {content}; {make}{remedy}"
    )


def user_root() -> Path:
    """The folder where TFDS keeps the sets that a user prepared with it."""
    return _path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def user_sets() -> list[str]:
    """The names of the sets in `user_root`, of any file format."""
    root = user_root()
    return sorted({info.relative_to(root).parts[0] for info in root.glob("*/**/dataset_info.json")})


def user_versions(name: str) -> list[str]:
    """What `name` is in `user_root`, as name:version and name/configuration:version."""
    root = user_root()
    found = [info.parent.relative_to(root) for info in (root / name).glob("**/dataset_info.json")]
    return sorted(f"{path.parent.as_posix()}:{path.name}" for path in found)


def expanded(given: str | Path) -> Path:
    """A path as a user gives it, ~ and ~name replaced by the home folder.

    Raises ValueError for an empty one, which would be the current folder, and for a user that is
    not known.
    """
    if not str(given).strip():
        raise ValueError("an empty path; expected the name of a file or folder (. is this folder)")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise ValueError(f"{given}: no such user; expected a path, or ./{given}") from None


def _path(given: str | Path) -> Path:
    """Of an environment variable."""
    try:
        return expanded(given).absolute()
    except ValueError as error:
        raise DataError(str(error)) from None
