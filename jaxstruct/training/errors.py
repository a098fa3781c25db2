"""The errors of this package. On the command line each of them is one line on stderr.

What may be added: another reason for which a command or a run ends early.
"""

from __future__ import annotations

from jaxstruct.data.errors import Explained


class RunError(Explained):
    """A run that cannot continue; the message says why, and what to do: exit status 1."""


class TraceError(Explained):
    """A step needs more compilations than its stage declares: exit status 1."""


class Stopped(Explained):
    """A run that was asked to stop, and has saved; `signum` is the signal: status 128 + signum."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
        self.status = 128 + signum
