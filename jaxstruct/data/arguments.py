"""How a command line is read by argparse, and how an error ends it: one line and a status.

What may be added: another kind of argument.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import NoReturn

from jaxstruct.data.errors import Explained, one_line
from jaxstruct.data.places import expanded


class WrongUsage(Explained):
    """A command line that cannot be understood: exit status 2."""

    status = 2


def status_of(error: BaseException) -> tuple[int, str]:
    """The exit status of a command that an exception ended, and the line on stderr about it.

    128 + n where signal n ended it, 2 for a wrong usage, else 1. The type is named of an exception
    that was not raised for users.
    """
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT, "interrupted"
    said = one_line(" ".join(filter(None, map(str.strip, str(error).splitlines()))))
    if not isinstance(error, Explained):
        told = isinstance(error, OSError | ValueError)
        return 1, f"error: {said}" if told else f"error: {type(error).__name__}: {said}"
    if error.status > 128:
        return error.status, said
    help_ = "; --help lists what there is" if error.status == 2 else ""
    return error.status, f"error: {said}{help_}"


class Parser(argparse.ArgumentParser):
    """Raises WrongUsage instead of printing how the command is used."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise WrongUsage(message)


def path(given: str) -> Path:
    """A path, with the home folder in place of ~; see `places.expanded` for what is refused."""
    try:
        return expanded(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(given: str) -> int:
    """An integer of at least 1."""
    try:
        number = int(given)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{given!r}, expected an integer of at least 1")
    return number
