"""The observer of the loop: it writes records and checkpoints, shows progress, and adds up costs.

What may be added: another cost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxstruct.training.checkpoints import Checkpoints, Restored
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Stage
from jaxstruct.training.journal import Journal, up_to
from jaxstruct.training.loop import Clock, Sums
from jaxstruct.training.progress import Progress
from jaxstruct.training.signals import Requests
from jaxstruct.training.state import State


class Writer:
    """Writes records and checkpoints; see `loop.Observer` for the methods of the loop."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        journal: Journal,
        progress: Progress,
        requested: Requests,
        restored: Restored | None,
        folder: Path,
        profile: bool,
    ):
        self._checkpoints, self._journal, self._progress = checkpoints, journal, progress
        self.stop_requested, self.at_once = requested, requested.at_once
        self._started, self._saving, self._trained = time.perf_counter(), 0.0, 0
        self._clock: Clock | None = None
        parts = ("total", "preparing", "device", "data", "compiling", "aside")
        self._spent = dict.fromkeys(parts, 0.0)
        self.seconds_before = restored.seconds if restored else 0.0
        self.offset = 0
        self.again = False  # whether a stage is trained again, whose records exist already
        self._profile = _Profile(folder / "profile") if profile else None

    def record(self, stage: Stage, step: int, values: dict[str, float], kind: str) -> None:
        """See `loop.Observer`."""
        number, values = self.offset + step, numbers(values)
        seconds = round(self._seconds(), 3)
        head = {"stage": stage.name, "step": step, "number": number}
        if not self.again:
            self._journal.add({**head, kind: values, "cost": {"seconds": seconds}})
        if kind == "evaluation":
            self._progress.metrics(stage, step, values)

    def save(
        self, stage: Stage, state: State, metrics: dict[str, float] | None, pending: Sums
    ) -> None:
        """See `loop.Observer`."""
        since = time.perf_counter()
        ranked = None if metrics is None else numbers(metrics)
        self._checkpoints.save(
            stage,
            state,
            metrics=ranked,
            pending=pending,
            seconds=self._seconds(),
            records=up_to(self._journal.history, self.offset + int(state.step)),
        )
        self._saving += time.perf_counter() - since

    def progress(self, stage: Stage, step: int, clock: Clock, flops: float | None) -> None:
        """See `loop.Observer`."""
        self._clock = clock
        self._trained += stage.steps_per_call
        self._progress.update(stage, step, clock, flops)
        if self._profile:
            self._profile.step()

    def close(self) -> None:
        """Ends a trace that has begun; the loop calls nothing after this."""
        if self._profile:
            self._profile.close()

    def ended(self, stage: Stage) -> None:
        """Adds up the costs of a stage that is at its last step, and stops its clock."""
        for part in self._spent if self._clock else ():
            self._spent[part] += getattr(self._clock, part)
        self._clock = None
        self.offset += stage.steps

    def costs(self) -> dict[str, Any]:
        """Seconds of this process by what they were spent on, and steps per second."""
        parts = {part: round(seconds, 3) for part, seconds in self._spent.items()}
        busy = parts["total"] - sum(parts[x] for x in ("preparing", "aside", "compiling"))
        rate = round(self._trained / busy, 2) if busy > 0 else None
        seconds = {**parts, "saving": round(self._saving, 3)}
        return {"training_seconds": seconds, "steps_per_second": rate}

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self._started


class _Profile:
    """A trace of the calls 3 to 7, when everything is compiled."""

    def __init__(self, folder: Path):
        self._folder, self._calls, self._tracing = folder, 0, False

    def step(self) -> None:
        self._calls += 1
        if self._calls == 2:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        if self._calls == 7:
            self.close()

    def close(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
        self._tracing = False


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The values as Python floats, as JSON needs them; RunError where one is not finite."""
    numbers = {name: float(value) for name, value in values.items()}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise RunError(f"metric {name!r} is {value}")
    return numbers
