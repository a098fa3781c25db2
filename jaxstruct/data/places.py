"""Where data are looked for and kept: raw files, prepared sets, imitations, a user's own sets.

What may be added: another place. What stands in a place is not read here.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
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
    """The folder of prepared sets: $JAXSTRUCT_PREPARED, or jaxstruct in the user's cache folder.

    Raises DataError that names the variable where its path is refused, or where there is no home
    folder and no variable says another place.
    """
    if os.environ.get("JAXSTRUCT_PREPARED"):
        return _of_variable("JAXSTRUCT_PREPARED")
    if os.environ.get("XDG_CACHE_HOME"):
        return _of_variable("XDG_CACHE_HOME") / "jaxstruct"
    try:
        return expanded("~/.cache/jaxstruct").absolute()
    except ValueError as error:
        raise DataError(f"{error}, or set JAXSTRUCT_PREPARED to a folder") from None


def imitations_root() -> Path:
    """The folder below which everything that was made from imitations stands."""
    return prepared_root() / "imitations"


def own_root() -> Path:
    """The folder below which the sets stand that were made of a user's own images."""
    return prepared_root() / "own"


def own_folder(name: str) -> Path:
    """The folder of such a set, whose version is always the same."""
    return own_root() / name / "1.0.0"


def own_sets() -> list[str]:
    """The names of the sets in `own_root`, whole or damaged."""
    folders = [version.parent for version in own_root().glob("*/*") if version.is_dir()]
    return sorted({folder.name for folder in folders if not folder.name.startswith(".")})


def raw_folders(name: str) -> list[Path]:
    """The folders that may hold the raw files of `name`, the first to look in first.

    `data_dir` of the `looking` around, $JAXSTRUCT_DATA, and the folder of downloads.
    """
    first = (_looking.get() or _Looking()).data_dir
    roots = [first] if first else []
    roots += [_of_variable("JAXSTRUCT_DATA")] if os.environ.get("JAXSTRUCT_DATA") else []
    return [root / name for root in (*roots, prepared_root() / "downloads")]


class NotWritable(DataError):
    """A folder that this process may not write: by its permissions, or its file system."""


@contextmanager
def workshop(
    root: Path,
    content: str = "prepared sets",
    remedy: str = "set JAXSTRUCT_PREPARED to another one",
) -> Iterator[Path]:
    """A new folder on the file system of `root`: what is made there is renamed when it is whole.

    Folders of processes that were killed, in which nothing was written for two days, are removed.

    Raises DataError that says that `root` is a folder for `content`, and the `remedy`, where it
    is full before all is made, and NotWritable where it may not be written; then nothing is left.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=root) as folder:
            _remove_abandoned(root, Path(folder).stat().st_mtime)
            yield Path(folder)
    except DataError:
        raise
    except Exception as error:
        of_disk = isinstance(error, OSError) or any(text in str(error) for text in _TEXTS)
        if not of_disk:  # a library of C++ has other errors, but the same words
            raise
        raise _about(error, root, content, remedy) from None


_UNFINISHED = ".unfinished-"
_ABANDONED = 2 * 24 * 3600  # seconds without a change


def _remove_abandoned(root: Path, now: float) -> None:
    """`now` is by the clock of the file system, which may be another machine's."""
    for folder in root.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            if newest < now - _ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a disk is full, or the user's share of it."""

_TEXTS = tuple(map(os.strerror, FULL))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def _about(error: Exception, root: Path, content: str, remedy: str) -> DataError:
    full = next((text for text in _TEXTS if text in str(error)), None)
    reason = full or getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    place = getattr(error, "filename", None)
    if isinstance(place, str) and not full and not _is_around(root, Path(place).absolute()):
        return DataError(f"{place}: cannot be read ({reason}); expected a file of {content}")
    room, make = ("with room for", "make room there, or ") if full else ("for", "")
    kind = NotWritable if getattr(error, "errno", None) in _FORBIDDEN else DataError
    return kind(
        f"{root}: cannot be written ({reason}); expected a folder {room} {content}; {make}{remedy}"
    )


def _is_around(root: Path, place: Path) -> bool:
    """Whether one is in the other: `root` may have to be made first."""
    return place.is_relative_to(root) or root.is_relative_to(place)


def user_root() -> Path:
    """The folder where TFDS keeps the sets that a user prepared with it.

    Without a home folder this is a folder that is called ~, as TFDS has it. Raises DataError where
    the path in $TFDS_DATA_DIR is refused.
    """
    if os.environ.get("TFDS_DATA_DIR"):
        return _of_variable("TFDS_DATA_DIR")
    return Path(os.path.expanduser("~/tensorflow_datasets")).absolute()


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

    Raises ValueError for an empty path, which would be the current folder; for a user that is not
    known, or has no home folder; and, with the home folder in its place, for names that no file can
    have, or that are not UTF-8, which results and checkpoints could not repeat.
    """
    text = str(given)
    if not text.strip():
        raise ValueError("an empty path; expected the name of a file or folder (. is this folder)")
    if "\0" in text:  # here, since a user's name with it is refused in other words
        raise ValueError(f"{_short(text)}: a NUL in it; expected a name without")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        if Path(given).parts[0] == "~":
            raise ValueError(f"{_short(text)}: no home folder is known; set HOME") from None
        raise ValueError(
            f"{_short(text)}: no such user; expected a path, or ./{_short(text)}"
        ) from None
    try:
        sizes = [len(part.encode()) for part in path.parts]
    except UnicodeEncodeError:
        raise ValueError(f"{_short(str(path))}: not UTF-8; expected a name in UTF-8") from None
    if (longest := max(sizes, default=0)) > _NAME_MAX:
        raise ValueError(
            f"{_short(str(path))}: a name of {longest:,} bytes; expected at most {_NAME_MAX}"
        )
    return path


_NAME_MAX = 255  # bytes of a file's name, on all common file systems


def _short(text: str) -> str:
    """A path for a message: what is no UTF-8 is escaped, and the middle of a long one left out."""
    escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    escaped = escaped.replace("\0", "\\0")
    return escaped if len(escaped) <= 80 else f"{escaped[:40]}...{escaped[-20:]}"


def given(path: str | PathLike[str]) -> Path:
    """A user's path as `expanded` gives it; raises DataError for one that is refused there."""
    try:
        return expanded(fspath(path))
    except ValueError as error:
        raise DataError(str(error)) from None


def _of_variable(name: str) -> Path:
    """The path that an environment variable holds. Raises DataError that names the variable."""
    try:
        return expanded(os.environ[name]).absolute()
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
