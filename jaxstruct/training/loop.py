"""The loop of a stage: it calls the step, records terms, and evaluates and saves at intervals.

What may be added: another event in a stage that an observer is told of.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct.training import parallel
from jaxstruct.training.batches import Batches, Interleaved
from jaxstruct.training.errors import RunError, Stopped
from jaxstruct.training.experiment import Stage
from jaxstruct.training.feed import Feed
from jaxstruct.training.state import State
from jaxstruct.training.step import example_keys

Sums = dict[str, list[float]]  # term: [total, count]


class Observer(Protocol):
    """What the loop calls: an observer writes records and checkpoints and shows the progress."""

    def record(self, stage: Stage, step: int, values: dict[str, float], kind: str) -> None:
        """Values of kind "train", the terms' means since the last record, or of "evaluation"."""

    def save(
        self, stage: Stage, state: State, metrics: dict[str, float] | None, pending: Sums
    ) -> None:
        """A checkpoint is due; `pending` are the sums of terms that are in no record yet."""

    def progress(self, stage: Stage, step: int, clock: Clock, flops: float | None) -> None:
        """A call has ended."""

    def stop_requested(self, step: int) -> int | None:
        """The signal that asks the run to stop, or None."""

    def at_once(self, during: str) -> AbstractContextManager[None]:
        """Where a signal that asks the run to stop ends it at once; see `Requests`."""


class Clock:
    """How many seconds of a stage were spent on what."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.preparing = self.data = self.device = self.compiling = self.aside = 0.0

    def add(self, name: str, since: float) -> None:
        """Adds the seconds since `since` to one of the parts."""
        setattr(self, name, getattr(self, name) + time.perf_counter() - since)

    @property
    def total(self) -> float:
        """Seconds since the stage began."""
        return time.perf_counter() - self.started


def train(
    stage: Stage,
    state: State,
    devices: Sequence[jax.Device],
    observer: Observer,
    pending: Sums | None = None,
) -> State:
    """Runs a stage from `state` to its last step and returns its last state.

    Raises RunError for a term that is not finite and Stopped after saving on request.
    """
    step, sums, clock = int(state.step), dict(pending or {}), Clock()
    if step == stage.steps:
        # On all devices, as the last step leaves the state: scores have the same bits.
        return parallel.unstack(parallel.stack(state, devices))
    if step % stage.steps_per_call:
        raise RunError(
            f"step {step} of stage {stage.name!r} lies between two calls: steps_per_call "
            f"{stage.steps_per_call} does not divide it; choose the value it was saved with"
        )
    since = time.perf_counter()
    with observer.at_once(f"the preparation of stage {stage.name!r}"):
        batches = stage.prepare(state) if stage.prepare else stage.batches
    clock.add("preparing", since)
    call = parallel.Call(
        _steps(stage.update, batches, stage.steps_per_call),
        devices,
        compilations=stage.compilations,
        name=f"the step of stage {stage.name!r}",
    )
    in_flight: list[tuple[int, Any]] = []

    def finish(ahead: int = 0) -> None:
        while len(in_flight) > ahead:
            last, terms = in_flight.pop(0)
            since = time.perf_counter()
            _add_finite(sums, terms, stage, last)
            clock.add("device", since)
            observer.progress(stage, last, clock, call.flops)

    stacked = parallel.stack(state, devices)
    with Feed(batches, devices, step, stage.steps, stage.steps_per_call) as feed:
        while step < stage.steps:
            since = time.perf_counter()
            fed = feed.next()
            clock.add("data", since)
            since, compiled = time.perf_counter(), call.compilations
            stacked, terms = call(stacked, feed.constant, fed)
            clock.add("compiling" if call.compilations > compiled else "device", since)
            step += stage.steps_per_call
            in_flight.append((step, terms))
            finish(ahead=1)
            log, evaluate, save = _due(step, stage)
            stop = observer.stop_requested(step)
            if not (log or evaluate or save or stop):
                continue
            finish()
            since = time.perf_counter()
            if log:
                means = {name: total / n for name, (total, n) in sums.items() if n}
                observer.record(stage, step, means, "train")
                sums.clear()
            if evaluate or save or stop:
                state = parallel.unstack(stacked)
            metrics = stage.evaluate(state) if evaluate and stage.evaluate else None
            if metrics is not None:
                _check_metrics(metrics, stage, step)
                observer.record(stage, step, metrics, "evaluation")
            if save or stop or metrics is not None:
                _check_params(state, stage, step)
            if save or stop:
                # A copy, since the sums change while the checkpoint is written in the background.
                observer.save(stage, state, metrics, dict(sums))
            clock.add("aside", since)
            if stop:
                raise Stopped(f"saved stage {stage.name!r} at step {step}", stop)
    return state


def _due(step: int, stage: Stage) -> tuple[bool, bool, bool]:
    last = step == stage.steps
    every = (stage.log_every, stage.evaluate_every, stage.save_every)
    log, evaluate, save = (last or step % n == 0 for n in every if n)
    return log, evaluate, save


def _steps(update: Callable, batches: Batches | Interleaved, per_call: int) -> Callable:
    """`per_call` updates as one function of (state, arrays on the device, what `Feed` gives)."""

    def one(state: State, arrays: Any, fed: Any) -> Any:
        ((name, given),) = fed.items()
        part = batches.parts[name]
        if not part.on_device:
            return update(state, given)
        batch = {key: x[given] for key, x in arrays[name].items()}
        if part.augment:
            batch = part.augment(example_keys(state, batch, purpose=AUGMENT), batch)
        return update(state, part.finished(batch))

    def steps(state: State, arrays: Any, fed: Any) -> Any:
        if per_call == 1:
            return one(state, arrays, jax.tree.map(lambda x: x[0], fed))
        state, terms = jax.lax.scan(lambda s, x: one(s, arrays, x), state, fed)
        return state, jax.tree.map(lambda x: jnp.sum(x, 0), terms)

    return steps


AUGMENT = 1 << 16  # a purpose that no update's own draws have


def _add_finite(sums: Sums, terms: Any, stage: Stage, step: int) -> None:
    for name, m in terms.items():
        total, count = (float(np.asarray(x.addressable_data(0))[0]) for x in m)
        if not (math.isfinite(total) and math.isfinite(count)):
            first = step - stage.steps_per_call + 1
            steps = f"step {step}" if first == step else f"steps {first} to {step}"
            raise RunError(f"term {name!r} is {total} at {steps} of stage {stage.name!r}")
        before = sums.get(name, [0.0, 0.0])
        sums[name] = [before[0] + total, before[1] + count]


def _check_metrics(metrics: dict[str, float], stage: Stage, step: int) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise RunError(f"metric {name!r} is {value} at step {step} of stage {stage.name!r}")


@jax.jit
def _finite(tree: Any) -> jax.Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))


def _check_params(state: State, stage: Stage, step: int) -> None:
    """Raises RunError for parameters that the last update spoiled, which no loss has seen yet."""
    if not bool(_finite(state.params)):
        raise RunError(
            f"a parameter is not finite after step {step} of stage {stage.name!r}, although the "
            "loss was: its gradient is not"
        )
