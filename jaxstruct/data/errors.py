"""The error of this package, and reading a raw file so that whatever is wrong becomes it.

Libraries that read a format raise errors of many kinds; `blamed` makes one line of any of them.

What may be added: other ways in which a file as such can be bad. What a file must contain is said
where its format is read.
"""

from __future__ import annotations

import gzip
import io
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxstruct.data.regular_files import read_bytes


class Explained(Exception):
    """An error whose message is for users: what is wrong, and the remedy.

    `status` is the exit status of a command that the error ends.
    """

    status = 1


class DataError(Explained):
    """Data that are missing or bad: one line with the path, what was expected, and the remedy.

    A name in a file, or of a file, may hold line breaks and the like; they are escaped.
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))


def one_line(text: str) -> str:
    """The text with line breaks, control characters and halves of characters escaped."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _BREAKING else c
        for c in text
    )


_BREAKING = {"Cc", "Cs", "Zl", "Zp"}


def reason(error: BaseException) -> str:
    """What a library says of a file that it refuses, on one line, or else the name of its error."""
    said = (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0]
    return one_line(said[:200]) or type(error).__name__


@contextmanager
def blamed(path: Path, expected: str, problem: str = "cannot be read") -> Iterator[None]:
    """Whatever goes wrong inside becomes a DataError: of `path`, and what was `expected` there."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # SyntaxError, struct.error, RecursionError, OverflowError, ...
        raise DataError(f"{path}: {problem} ({reason(error)}); expected {expected}") from None


def most_unpacked(packed: int) -> int:
    """How many bytes may be unpacked of so many: all up to 1 GiB, beyond that 100 times as many.

    A few bytes can be packed of zeros that fill any memory; no raw file of a data set is so dense.
    """
    return max(2**30, 100 * packed)


def check_unpacked(unpacked: int, packed: int) -> None:
    """Raises ValueError for more bytes than `most_unpacked`."""
    if unpacked > most_unpacked(packed):
        raise ValueError(
            f"{packed:,} bytes would become {unpacked:,}, expected {most_unpacked(packed):,} at "
            "most"
        )


GZIP = b"\x1f\x8b"
"""The first bytes of every gzip file."""


def damage(error: Exception) -> str:
    """What is wrong with a gzip file that begins as one, in one line."""
    if str(error).startswith("Not a gzipped file"):  # said of a second part
        return "other bytes behind its end"
    return str(error).split("\n")[0]


def read_raw(path: Path, expected: str) -> bytes:
    """Read a raw file, unpacked if its name ends in .gz.

    Raises DataError that names `path` and what was `expected` there if it is missing, a folder,
    without read permission, a pipe or another thing that is no regular file, empty, or no whole
    gzip file.
    """
    content = b""
    try:
        content = read_bytes(path)
        if content and path.suffix == ".gz":
            most = most_unpacked(len(content))
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(most + 1)
            if len(content) > most:
                raise ValueError(f"it becomes more than {most:,} bytes when it is unpacked")
    except FileNotFoundError:
        problem = "missing"
    except IsADirectoryError:
        problem = "is a folder"
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        if content.startswith(GZIP):
            problem = f"cut short or corrupt, get it again ({one_line(damage(error))})"
        else:
            problem = "not a gzip file (if it is unpacked already, take .gz off its name)"
    except (OSError, ValueError, MemoryError) as error:
        problem = f"cannot be read ({reason(error)})"
    else:
        if content:
            return content
        problem = "empty, get it again"
    raise DataError(f"{path}: {problem}; expected {expected}")
