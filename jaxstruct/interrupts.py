"""Ctrl-C while a command imports its modules: the process ends at once and says nothing.

What may be added: another moment at which an interrupt has nothing to save.
"""

from __future__ import annotations

import signal
import sys


def end_on_interrupt(package: str) -> None:
    """Lets Ctrl-C end the process until `raise_on_interrupt`, in `python -m` of a package's module.

    Nothing changes in other processes, and where SIGINT is ignored or handled already.
    """
    given = sys.orig_argv[1:]
    module = given[given.index("-m") + 1 :][:1] if "-m" in given else []
    ours = module and module[0].split(".")[0] == package
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_on_interrupt() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again; undoes `end_on_interrupt` and nothing else."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
