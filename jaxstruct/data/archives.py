"""The files of a folder, a zip or a tar archive, one after the other; nothing is unpacked to disk.

What may be added: another kind of archive. What the files must be is said where they are read.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jaxstruct.data.errors import DataError

_Opener = Callable[[], Any]  # gives a file that is open for reading


def files(path: Path, expected: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files below a folder or in an archive: the name inside, with slashes, and how to read it.

    In the archive's order; those of a folder by name. A file has to be read before the next one is
    asked for. A folder comes too, its name ending with a slash; read, it is empty. Hidden files,
    and those that macOS adds to archives, are left out. Raises DataError that names `path` and what
    was `expected` there if it is no folder and no whole archive; so does reading a bad file.
    """
    if not path.exists():
        raise DataError(f"{path}: missing; expected {expected}")
    for name, opener in _of_folder(path) if path.is_dir() else _of_archive(path, expected):
        inside = name.removeprefix("/").removeprefix("./")
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside.split("/"))
        if inside and not hidden:
            yield inside, partial(_read, path, name, opener, expected) if opener else bytes


def _of_folder(path: Path) -> Iterator[tuple[str, _Opener | None]]:
    above: set[str] = set()  # a link may lead back to where the walk has been
    for folder, below, names in os.walk(path, followlinks=True, onerror=_refuse):
        above.add(os.path.realpath(folder))
        below[:] = sorted(b for b in below if os.path.realpath(f"{folder}/{b}") not in above)
        inside = Path(folder).relative_to(path)
        for name in below:
            yield f"{(inside / name).as_posix()}/", None
        for name in sorted(names):
            yield (inside / name).as_posix(), partial(Path(folder, name).open, "rb")


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); expected a folder")


def _of_archive(path: Path, expected: str) -> Iterator[tuple[str, _Opener | None]]:
    with _blamed(path, expected):
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isdir():
                        yield f"{member.name}/", None
                    elif member.isreg() or member.islnk():
                        yield member.name, partial(tar.extractfile, member)
                _check_end(tar)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    yield entry.filename, None if entry.is_dir() else partial(archive.open, entry)
        else:
            raise ValueError("no zip and no tar archive, or cut short")


def _read(path: Path, name: str, opener: _Opener, expected: str) -> bytes:
    with _blamed(path, expected, name), opener() as file:
        return file.read()


def _check_end(tar: tarfile.TarFile) -> None:
    """A header that is cut or bad ends the loop over a tar as its end, a block of zeros, does."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError("a bad header, or cut short")


@contextmanager
def _blamed(path: Path, expected: str, name: str = "") -> Iterator[None]:
    """Whatever goes wrong inside becomes a DataError about `path`, or the file `name` in it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # three modules raise some ten kinds
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"{path / name}: cannot be read ({reason}); expected {expected}") from None
