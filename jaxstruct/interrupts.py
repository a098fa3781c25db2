"""Ctrl-C while a command imports its modules: the process ends at once and says nothing.

What may be added: another moment at which an interrupt has nothing to save.
"""

from __future__ import annotations

import signal
import sys
from typing import Any


def end_on_interrupt(package: str) -> None:
    """Lets Ctrl-C end the process until `raise_on_interrupt`, in `python -m` of a package's module.

    Nothing changes in other processes, and where SIGINT is ignored or handled already.
    """
    # Python calls the program "-m" until it has found the module, whose packages it imports first.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1]
    ours = [name.split(".")[0] for name in module] == [package]
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _replaced.append(signal.signal(signal.SIGINT, signal.SIG_DFL))


def raise_on_interrupt() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again; undoes `end_on_interrupt` and nothing else."""
    if _replaced and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, _replaced.pop())


_replaced: list[Any] = []  # the handler that `end_on_interrupt` took away
