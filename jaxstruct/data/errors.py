"""The error of this package, and reading a raw file so that whatever is wrong becomes it.

What may be added: other ways in which a file as such can be bad. What a file must contain is said
where its format is read.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path


class Explained(Exception):
    """An error whose message is for users: what is wrong, and the remedy.

    `status` is the exit status of a command that the error ends.
    """

    status = 1


class DataError(Explained):
    """Data that are missing or bad: one line with the path, what was expected, and the remedy."""


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
    without read permission, empty, or no whole gzip file.
    """
    content = b""
    try:
        content = path.read_bytes()
        if content and path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError:
        problem = "missing"
    except IsADirectoryError:
        problem = "is a folder"
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        if content.startswith(GZIP):
            problem = f"cut short or corrupt, get it again ({damage(error)})"
        else:
            problem = "not a gzip file (if it is unpacked already, take .gz off its name)"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    else:
        if content:
            return content
        problem = "empty, get it again"
    raise DataError(f"{path}: {problem}; expected {expected}")
