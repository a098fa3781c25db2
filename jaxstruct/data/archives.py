"""The files of a folder, a zip or a tar archive, one after the other; nothing is unpacked to disk.

What may be added: another kind of archive. What the files must be is said where they are read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jaxstruct.data.errors import GZIP, DataError, blamed, check_unpacked, damage, one_line, reason
from jaxstruct.data.regular_files import check_regular

_Opener = Callable[[], Any]  # gives a file that is open for reading
_HOPS = 40  # from link to link, as Linux counts them


def files(
    path: Path, expected: str, left_out: list[tuple[str, str]] | None = None
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files below a folder or in an archive: the name inside, with slashes, and how to read it.

    In the archive's order; those of a folder by name. A file has to be read before the next one is
    asked for. A folder comes too, its name ending with a slash; read, it is empty. Links are
    followed, in an archive after all else; one that leads nowhere is a file that cannot be read.
    Left out are hidden files, those that macOS adds to archives, links to a folder that they stand
    in, and what is no file; `left_out` gets each name, and why.

    Names in archives begin at its top, with or without a slash, and `a/../b` is `b`. Raises
    DataError that names `path` and what was `expected` there if it is no folder and no whole
    archive, and for a name that leads out of it or has a backslash; so does reading a bad file.
    """
    if not path.exists():
        raise DataError(f"{path}: missing; expected {expected}")
    aside: list[tuple[str, str]] = [] if left_out is None else left_out
    found = _of_folder(path, aside) if path.is_dir() else _of_archive(path, expected, aside)
    for inside, opener in found:
        if any(part.startswith(".") or part == "__MACOSX" for part in inside.split("/")):
            if opener:
                aside.append((inside, "hidden"))
            continue
        if "\\" in inside:  # a part of the name here, a slash where it comes from
            raise DataError(
                f"{path / inside}: a backslash in its name; expected slashes between folders; "
                "rename it"
            )
        yield inside, partial(_read, path, inside, opener, expected) if opener else bytes


def _of_folder(
    path: Path, aside: list[tuple[str, str]], inside: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, _Opener | None]]:
    real = os.path.realpath(path / inside)
    above = (*above, real)  # only a link to one of these leads round in a circle
    below, names = [], []
    try:
        for name in sorted(os.listdir(path / inside)):
            place = path / inside / name
            if not os.path.isdir(place):
                names.append(name)
            elif name.startswith("."):
                aside.append((f"{inside}{name}/", "hidden"))
            elif _is_around(os.path.realpath(place), above):
                aside.append((f"{inside}{name}", "a link to a folder around it"))
            else:
                below.append(name)
    except OSError as error:
        raise DataError(
            f"{error.filename}: cannot be read ({error.strerror}); expected a folder"
        ) from None
    for name in below:
        yield f"{inside}{name}/", None
    for name in names:
        place = path / inside / name
        if os.path.exists(place) and not os.path.isfile(place):
            aside.append((f"{inside}{name}", "no file"))  # a pipe would be waited for
        else:
            yield f"{inside}{name}", partial(place.open, "rb")
    for name in below:
        yield from _of_folder(path, aside, f"{inside}{name}/", above)


def _is_around(real: str, above: tuple[str, ...]) -> bool:
    return real in above or f"{above[0]}/".startswith(f"{real.rstrip('/')}/")


def _of_archive(
    path: Path, expected: str, aside: list[tuple[str, str]]
) -> Iterator[tuple[str, _Opener | None]]:
    with _blamed(path, expected):
        check_regular(path)
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                yield from _with_links(_of_tar(tar, path, aside), aside)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from _with_links(_of_zip(archive, path), aside)
        else:
            _check_packed(path)
            raise ValueError("no zip and no tar archive, or cut short")


def _of_tar(
    tar: tarfile.TarFile, path: Path, aside: list[tuple[str, str]]
) -> Iterator[tuple[str, _Opener | str | None]]:
    """Each member: how it is opened, or the target of a link, or None of a folder."""
    size = path.stat().st_size
    for member in tar:
        name = _plain(member.name, path)
        if member.isdir():
            yield name, None
        elif member.issym():
            yield name, member.linkname
        elif member.isreg() or member.islnk():
            check_unpacked(member.size, size)
            yield name, partial(tar.extractfile, member)
        else:
            aside.append((name, "no file"))
    _check_end(tar)


def _of_zip(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, _Opener | str | None]]:
    """Each entry, as of a tar. Slashes are the format's; some programs of Windows write others."""
    for entry in archive.infolist():
        check_unpacked(entry.file_size, entry.compress_size)
        name = entry.filename.replace("\\", "/")
        if name.endswith("/"):
            yield _plain(name, path), None
        elif stat.S_ISLNK(entry.external_attr >> 16):
            yield _plain(name, path), archive.read(entry).decode("utf-8", "surrogateescape")
        else:
            yield _plain(name, path), partial(archive.open, entry)


def _plain(name: str, path: Path) -> str:
    """A name as seen from the archive's top: no slash before it, no `.` and no `..` in it."""
    plain = posixpath.normpath(name.lstrip("/") or ".")
    if plain.split("/")[0] == "..":
        raise DataError(
            f"{path}: {name} leads out of the archive; expected names inside it, make it again"
        )
    return "" if plain == "." else plain


def _with_links(
    members: Iterator[tuple[str, _Opener | str | None]], aside: list[tuple[str, str]]
) -> Iterator[tuple[str, _Opener | None]]:
    """What is no link, a folder with a slash, then what stands behind the links."""
    tree: dict[str, _Opener | None] = {}
    links: dict[str, str] = {}
    for name, content in members:
        if isinstance(content, str):
            links[name] = content
        elif name:
            tree[name] = content
            yield name if content else f"{name}/", content
    for link in links:
        yield from _behind(link, link, frozenset(), tree, links, aside)


def _behind(
    name: str,
    link: str,
    above: frozenset[str],
    tree: dict[str, _Opener | None],
    links: dict[str, str],
    aside: list[tuple[str, str]],
) -> Iterator[tuple[str, _Opener | None]]:
    """What `link` leads to, under another `name` where it was met behind a link itself."""
    real = _real(link, links)
    below = f"{real}/" if real else ""
    above |= {"", *(link[:at] for at, letter in enumerate(link) if letter == "/")}
    if real in above:
        aside.append((name, "a link to a folder around it"))
    elif opener := tree.get(real or ""):
        yield name, opener
    elif real is None or not (real in tree or any(other.startswith(below) for other in tree)):
        yield name, partial(_lead_nowhere, links[link])
    else:
        yield f"{name}/", None
        for other, opener in tree.items():
            if other.startswith(below):
                inside = f"{name}/{other.removeprefix(below)}"
                yield inside if opener else f"{inside}/", opener
        for other in links:
            if other.startswith(below):
                inside = f"{name}/{other.removeprefix(below)}"
                yield from _behind(inside, other, above | {real}, tree, links, aside)


def _real(name: str, links: dict[str, str]) -> str | None:
    """The name without links in it; None where one leads out of the archive, or in a circle."""
    for _ in range(_HOPS):
        parts = name.split("/")
        heads = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        head = next((head for head in heads if head in links), None)
        if head is None:
            return name
        rest = name.removeprefix(head).lstrip("/")
        name = posixpath.normpath(posixpath.join(posixpath.dirname(head), links[head], rest))
        if name.startswith("/") or name.split("/")[0] == "..":
            return None
        name = "" if name == "." else name
    return None


def _lead_nowhere(target: str) -> Any:
    raise ValueError(f"a link to {target}, which is not in the archive")


def _read(path: Path, name: str, opener: _Opener, expected: str) -> bytes:
    with _blamed(path, expected, name), opener() as file:
        return file.read()


def _check_end(tar: tarfile.TarFile) -> None:
    """A header that is cut or bad ends the loop over a tar as its end, a block of zeros, does."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("a bad header, or cut short")
    _read_through(tar.fileobj)


def _check_packed(path: Path) -> None:
    """Raises what is wrong with a packed file, of which tarfile says no more than that it is none.

    The checksum of a small file is read with its first bytes.
    """
    with path.open("rb") as file:
        start = file.read(6)
    for first, opened in ((GZIP, gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(first):
            with opened(path) as packed:
                _read_through(packed)


def _read_through(file: Any) -> None:
    """Reads a file to its end, where a packed one has its checksum."""
    while file.read(1 << 20):
        pass


@contextmanager
def _blamed(path: Path, expected: str, name: str = "") -> Iterator[None]:
    """Whatever goes wrong inside becomes a DataError about `path`, or the file `name` in it."""
    with blamed(path / name, expected):
        try:
            yield
        except _DAMAGES as error:
            if not _is_damage(error):
                raise
            said = one_line(damage(error)) or reason(error)
            raise DataError(
                f"{path / name}: cannot be read ({said}); {path.name} is cut short or corrupt, get "
                f"it again; expected {expected}"
            ) from None


def _is_damage(error: Exception) -> bool:
    """Whether an error is about the bytes of an archive: bz2 and gzip have an OSError for them."""
    of_system = isinstance(error, OSError) and error.errno is not None
    return isinstance(error, _DAMAGES) and not of_system


_DAMAGES = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError),
    *(zlib.error, EOFError, OSError),
)
