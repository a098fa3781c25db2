"""The progress of a run on stderr: a bar in a terminal, plain lines elsewhere.

What may be added: another number in a line of progress.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import jax

from jaxstruct.training import parallel
from jaxstruct.training.experiment import Stage
from jaxstruct.training.hardware import peak_flops
from jaxstruct.training.loop import Clock

INTERVAL = 10.0  # seconds between plain lines


class Progress:
    """Step, rate, time left, share of time waiting for data, share of the peak, last metrics.

    A context manager. With `quiet` nothing is written (in a process that is not the first).
    """

    def __init__(self, devices: Any, *, quiet: bool = False):
        self._devices, self._quiet = devices, quiet
        self._bar: Any = None
        self._task: Any = None
        self._stage: str | None = None
        self._first, self._said = 0, 0.0
        self._metrics: dict[str, float] = {}
        if not quiet and sys.stderr.isatty():
            self._bar = _bar()

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Writes one line."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def start(self, stage: Stage, step: int) -> None:
        """Begins or resumes a stage at a step."""
        self._stage, self._first, self._said = stage.name, step, time.perf_counter()
        self._metrics = {}
        if self._bar:
            self._task = self._bar.add_task(stage.name, total=stage.steps, completed=step, note="")

    def metrics(self, stage: Stage, step: int, values: dict[str, float]) -> None:
        """Shows the metrics of an evaluation from now on."""
        self._metrics = values
        if not self._bar:
            self.say(f"{stage.name} {step:,}/{stage.steps:,}: {_numbers(values)}")

    def update(self, stage: Stage, step: int, clock: Clock, flops: float | None) -> None:
        """Shows the step of the stage; cheap enough to be called after every step."""
        now = time.perf_counter()
        if self._quiet or now - self._said < (0.1 if self._bar else INTERVAL):
            return
        self._said = now
        note = self._note(step, clock, flops)
        if self._bar:
            text = "  ".join(filter(None, (note, _numbers(self._metrics))))
            self._bar.update(self._task, completed=step, note=text)
        else:
            each = (clock.total - clock.preparing) / max(step - self._first, 1)
            left = (stage.steps - step) * each
            self.say(
                f"{stage.name} {step:,}/{stage.steps:,} ({step / stage.steps:.0%}), {note}, "
                f"{_duration(left)} left"
            )

    def finish(self, stage: Stage, step: int) -> None:
        """Ends a stage."""
        if self._bar:
            self._bar.update(self._task, completed=step, note=_numbers(self._metrics))

    def _note(self, step: int, clock: Clock, flops: float | None) -> str:
        since_prepared = max(clock.total - clock.preparing, 1e-9)
        rate = (step - self._first) / max(since_prepared - clock.aside - clock.compiling, 1e-9)
        parts = [f"{rate:,.1f} steps/s", f"data {clock.data / since_prepared:.0%}"]
        peak = peak_flops(self._devices[0])
        if peak and flops:
            parts.append(f"{flops * rate / peak:.1%} of peak FLOP/s")
        return ", ".join(parts)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    return Bar(*columns, console=Console(stderr=True), refresh_per_second=4)


def _numbers(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in values.items())


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def announce_devices(devices: list[jax.Device]) -> str:
    """One line about the devices of a run."""
    first = devices[0]
    count = parallel.process_count()
    more = f", {count} processes" if count > 1 else ""
    return f"on {len(devices)} x {first.device_kind} ({first.platform}){more}"
