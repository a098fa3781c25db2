"""Signals that ask a run to stop: after SIGTERM, SIGHUP or Ctrl-C the run saves and ends.

A second Ctrl-C ends the run at once. What may be added: another signal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxstruct.training import parallel


@contextmanager
def stop_requests() -> Iterator[Callable[[int], int | None]]:
    """Yields `requested(step)`: the signal that asked this run to stop, or None.

    Several processes see the request at the same step. Outside the main thread, where Python
    handles no signals, `requested` always returns None. SIGHUP comes when a terminal is closed;
    where SIGHUP is ignored, as under `nohup`, it stays ignored.
    """
    if parallel.process_count() > 1:
        from jax.experimental import multihost_utils

        # jax.distributed catches SIGTERM itself and lets the processes agree on a step.
        yield (
            lambda step: (
                signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None
            )
        )
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: None
        return
    received: list[int] = []

    def handle(signum: int, frame: Any) -> None:
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)

    asking = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        asking.append(signal.SIGHUP)
    before = {s: signal.signal(s, handle) for s in asking}
    try:
        yield lambda step: received[0] if received else None
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
