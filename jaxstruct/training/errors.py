"""The errors of this package. On the command line each of them is one line on stderr.

What may be added: another reason for which a command or a run ends early.
"""

from __future__ import annotations


class UsageError(Exception):
    """A command line that cannot be understood: exit status 2."""


class RunError(Exception):
    """A run that cannot continue; the message says why, and what to do: exit status 1."""


class TraceError(Exception):
    """A step needs more compilations than its stage declares: exit status 1."""


class Stopped(Exception):
    """A run that was asked to stop, and has saved; `signum` is the signal: status 128 + signum."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
