"""By what raw files are told from others: a cheap stamp, and a digest of their contents.

What may be added: another sign. Which files belong to a set is said in its entry.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path


def stamp_of(paths: Mapping[str, Path]) -> str:
    """Of files and folders by name: of the names, sizes and dates of all files in them.

    Links are followed. A folder's own size and date, in which file systems differ, do not count.
    """
    found = hashlib.sha256()
    for name, path in sorted(paths.items()):
        for inside, of_file in _files(str(path)):
            about = f"{of_file.st_size} {of_file.st_mtime_ns}" if of_file else "-"
            found.update(os.fsencode(f"{name}{inside}\0{about}\n"))
    return found.hexdigest()


def digests_of(paths: Mapping[str, Path], stamp: str) -> dict[str, str]:
    """Of each file or folder: a digest of the names and contents of all files in it.

    Those of a `stamp` are computed once in a process. What cannot be read counts by its name.
    """
    return {name: _digest(str(path), stamp) for name, path in paths.items()}


@functools.lru_cache(maxsize=64)
def _digest(path: str, stamp: str) -> str:
    found = hashlib.sha256()
    for inside, of_file in _files(path):
        content = b"-"
        if of_file and stat.S_ISREG(of_file.st_mode):
            try:
                with open(path + inside, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            except OSError:  # the reader of the set says it, if the set needs this file
                pass
        found.update(os.fsencode(inside) + b"\0" + content)
    return found.hexdigest()


def _files(
    path: str, inside: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, os.stat_result | None]]:
    """The file at a path, or all below a folder: what comes after the path, and what `stat` says.

    Links are followed, except to folders that they stand in; a dead one has no `stat`.
    """
    try:
        about = os.stat(path + inside)
        names = sorted(os.listdir(path + inside)) if stat.S_ISDIR(about.st_mode) else None
    except OSError:
        yield inside, None
        return
    if names is None:
        yield inside, about
        return
    real = os.path.realpath(path + inside)
    if real not in above:
        for name in names:
            yield from _files(path, f"{inside}/{name}", (*above, real))
