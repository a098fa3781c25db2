"""Standard output and error that end no run: what nobody can read is dropped.

What may be added: another way in which they fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

_GONE = {errno.EPIPE, errno.EIO, errno.EBADF}  # a reader that ended, a terminal, a descriptor


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """For the code inside, sys.stdout and sys.stderr take everything and raise nothing.

    Their reader may have ended (`| head`), their terminal or they themselves may be closed
    (`2>&-`), their disk may be full.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # closed: else the next file that is opened takes its place
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = [s if isinstance(s, _Unbroken) else _Unbroken(s) for s in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


class _Unbroken:
    """A text stream that is written to as long as that is possible."""

    def __init__(self, stream: Any):
        self._stream = stream or _nowhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError) as error:
            self._failed(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno not in _GONE:
            return  # a disk that is full now
        with contextlib.suppress(OSError, ValueError):
            if (fd := self._stream.fileno()) in (1, 2):
                # What is still buffered must not fail either when the interpreter ends.
                with _nowhere() as nowhere:
                    os.dup2(nowhere.fileno(), fd)
                return
        self._stream = _nowhere()


def _nowhere() -> Any:
    return open(os.devnull, "w", encoding="utf-8")
