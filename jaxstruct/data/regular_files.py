"""The files that are opened: regular ones. A pipe would be waited for, a device may have no end.

What may be added: nothing.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegular(OSError):
    """A pipe, a socket or a device in the place of a file; `strerror` says which."""


def check_regular(path: Path) -> None:
    """Raises NotRegular for a pipe, a socket or a device, and for a link to one.

    A folder passes, since opening it fails at once. Raises OSError for what is not there.
    """
    kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    if kind:
        raise NotRegular(errno.EINVAL, f"{kind}, expected a regular file", str(path))


def check_all_regular(folder: Path) -> None:
    """Raises what `check_regular` raises of anything below a folder; dead links pass."""
    for path in folder.rglob("*"):
        if path.exists():
            check_regular(path)


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Raises NotRegular, and OSError as `Path.read_bytes` does."""
    check_regular(path)
    return path.read_bytes()
