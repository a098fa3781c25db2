"""Signals that ask a run to stop: after SIGTERM, SIGHUP or Ctrl-C the run saves and ends.

A second Ctrl-C ends the run at once, and so does any of the signals where there is nothing to save.
What may be added: another signal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxstruct.training import parallel
from jaxstruct.training.errors import Stopped


class Requests:
    """Whether a signal asked this run to stop; `stop_requests` makes it.

    `requested(step)` is the signal, or None. Several processes see it at the same step.
    """

    def __init__(self, asked: Callable[[int], int | None]):
        self._asked = asked
        self._idle: str | None = None

    def __call__(self, step: int) -> int | None:
        """The signal, or None."""
        return self._asked(step)

    @contextmanager
    def at_once(self, during: str) -> Iterator[None]:
        """Within it a signal raises Stopped at once: of what is done there nothing can be saved.

        `during` completes "stopped during". Several processes go on, since they stop together.
        """
        self._idle = during
        try:
            self.stop_if_idle()
            yield
        finally:
            self._idle = None

    def stop_if_idle(self) -> None:
        """Raises Stopped within `at_once`, if a signal has come to this process alone."""
        if self._idle is not None and parallel.process_count() == 1 and (signum := self._asked(0)):
            raise Stopped(f"stopped during {self._idle}", signum)


@contextmanager
def stop_requests() -> Iterator[Requests]:
    """Yields `requested`, of which `requested(step)` is the signal that asked this run to stop.

    Outside the main thread, where Python handles no signals, it always returns None. SIGHUP comes
    when a terminal is closed; where SIGHUP is ignored, as under `nohup`, it stays ignored.
    """
    if parallel.process_count() > 1:
        from jax.experimental import multihost_utils

        # jax.distributed catches SIGTERM itself and lets the processes agree on a step.
        yield Requests(
            lambda step: (
                signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None
            )
        )
        return
    if threading.current_thread() is not threading.main_thread():
        yield Requests(lambda step: None)
        return
    received: list[int] = []
    requests = Requests(lambda step: received[0] if received else None)

    def handle(signum: int, frame: Any) -> None:
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)
        requests.stop_if_idle()

    asking = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        asking.append(signal.SIGHUP)
    before = {s: signal.signal(s, handle) for s in asking}
    try:
        yield requests
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
