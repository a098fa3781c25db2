"""The errors of this package. On the command line each of them is one line on stderr.

What may be added: another reason for which a command or a run ends early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from jaxstruct.data.errors import Explained

_Value = TypeVar("_Value")


class RunError(Explained):
    """A run that cannot continue; the message says why, and what to do: exit status 1."""


class Known(dict[str, _Value]):
    """Values by name; asking for another name raises RunError with the line `missing(name)`."""

    def __init__(self, values: Mapping[str, _Value], missing: Callable[[str], str]):
        super().__init__(values)
        self._missing = missing

    def __missing__(self, name: str) -> _Value:
        raise RunError(self._missing(name))


class TraceError(Explained):
    """A step needs more compilations than its stage declares: exit status 1."""


class Stopped(Explained):
    """A run that was asked to stop, and has saved; `signum` is the signal: status 128 + signum."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
        self.status = 128 + signum
