"""An observer of the loop for its tests, and how arrays are compared."""

import signal
from contextlib import nullcontext

import numpy as np

from tests.training import two_processes_worker as small


class Notes:
    """An observer that keeps everything, and asks to stop after a step."""

    def __init__(self, stop_at=None):
        self.stop_at, self.events = stop_at, []

    def record(self, stage, step, values, kind):
        self.events.append((kind, step, dict(values)))

    def save(self, stage, state, metrics, pending):
        # Not copied: a checkpoint is written in the background.
        self.events.append(("save", int(state.step), (small.arrays(state), metrics, pending)))

    def progress(self, stage, step, clock, flops):
        self.events.append(("progress", step, flops))

    def stop_requested(self, step):
        return signal.SIGTERM if step == self.stop_at else None

    def at_once(self, during):
        return nullcontext()

    def of(self, kind):
        return {step: what for k, step, what in self.events if k == kind}


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
