"""Arguments of a command line that argparse reads: what is wrong with one is said in one line.

What may be added: another kind of argument.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from jaxstruct.data.places import expanded


class WrongUsage(Exception):
    """A command that makes no sense, in one line: exit status 2."""


class Parser(argparse.ArgumentParser):
    """Raises WrongUsage instead of printing how the command is used."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        raise WrongUsage(f"{message}; --help lists what there is")


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
