"""Trains the stages of an experiment one after the other, and resumes them from checkpoints.

What may be added: another check before the first step, or another measurement after the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxstruct import data
from jaxstruct.training import parallel
from jaxstruct.training.checkpoints import Checkpoints, Restored
from jaxstruct.training.errors import RunError, Stopped
from jaxstruct.training.experiment import Experiment, Stage
from jaxstruct.training.journal import Journal, Record, check_history, read_records
from jaxstruct.training.keys import root_key, stage_key
from jaxstruct.training.loop import train
from jaxstruct.training.progress import Progress
from jaxstruct.training.signals import stop_requests
from jaxstruct.training.state import State
from jaxstruct.training.writer import Writer


def train_all(
    experiment: Experiment,
    folder: Path,
    config: dict,
    devices: list[jax.Device],
    progress: Progress,
    profile: bool,
    begins: Callable[[Restored | None], None],
    started: Callable[[Stage, list[dict[str, str]]], None],
) -> tuple[dict[str, State], list[dict], dict[str, Any]]:
    """Trains the steps that are missing; returns (last states by stage, records, cost).

    A stage whose last state is lost is trained again to the same bits, and the checkpoints of later
    stages stay. `begins(at)` is called once, when what is there could be read, and before anything
    is written. `started(stage, weights)` is called where a stage has read weights at its start.
    Raises RunError, Stopped, TraceError, DataError and ValueError as `run` does, and what functions
    of the experiment raise.
    """
    root = root_key(experiment)
    cost: dict[str, Any] = {"wall_seconds": 0.0}
    if not experiment.stages:
        begins(None)
        return {}, [], cost
    with Checkpoints(folder / "checkpoints", experiment.stages, config, experiment.ranking) as kept:
        at = kept.restore(root)
        read_records(folder / "metrics.jsonl")  # a damaged line ends the run before it writes
        begins(at)
        number = 0
        if at:
            ends = [stage.steps for stage in experiment.stages[: at.index]]
            number = sum(ends) + int(at.state.step)
            progress.say(
                f"resuming at step {int(at.state.step):,} of stage "
                f"{experiment.stages[at.index].name!r}"
            )
        # On all devices, as training leaves states: scores have the same bits.
        finals = at.finals if at else {}
        states = {n: parallel.unstack(parallel.stack(x, devices)) for n, x in finals.items()}
        with (
            Journal(folder, number, parallel.is_first()) as journal,
            stop_requests() as requested,
        ):
            check_history(folder, journal.history, number, at.records if at else 0)
            observer = Writer(kept, journal, progress, requested, at, folder, profile)
            try:
                if at is None:
                    _check_metric_of_best(experiment, root, devices)
                previous: State | None = None
                for i, stage in enumerate(experiment.stages):
                    if stage.name not in states:
                        observer.again = at is not None and i < at.index
                        state, pending = None, None
                        if at and at.index == i:
                            state, pending = at.state, at.pending
                        elif observer.again:
                            state = kept.restore_stage(stage, root)
                        if state is None:
                            state = stage.init(stage_key(root, i), previous)
                            if stage.start:
                                with requested.at_once(f"the start of stage {stage.name!r}"):
                                    state = _start(stage, state, started)
                        if observer.again:
                            progress.say(
                                f"training stage {stage.name!r} again from step "
                                f"{int(state.step):,}: its last state is lost"
                            )
                        progress.start(stage, int(state.step))
                        states[stage.name] = train(stage, state, devices, observer, pending)
                        progress.finish(stage, stage.steps)
                        observer.again = False
                    previous = states[stage.name]
                    _evaluate_where_lost(stage, previous, journal.history, observer)
                    observer.ended(stage)
                states = {stage.name: states[stage.name] for stage in experiment.stages}
                kept.wait()
                # A request during the last evaluation, before which the loop asked.
                if stop := requested(observer.offset):
                    raise Stopped("saved the end of training", stop)
            except RunError as error:
                last = kept.latest()
                where = (
                    f"checkpoint {last} is the last good one"
                    if last
                    else "no checkpoint was saved yet"
                )
                raise RunError(f"{error}; {where}") from error
            finally:
                observer.close()
            cost |= {"wall_seconds": observer.seconds_before, **observer.costs()}
            return states, journal.history, cost


def _evaluate_where_lost(
    stage: Stage, last: State, history: Sequence[Record], observer: Writer
) -> None:
    """Evaluates the end of a stage again where the record of its last evaluation is lost."""
    if stage.evaluate is None or any(
        r["stage"] == stage.name and r["step"] == stage.steps and "evaluation" in r for r in history
    ):
        return
    observer.record(stage, stage.steps, stage.evaluate(last), "evaluation")


def _check_metric_of_best(
    experiment: Experiment, root: jax.Array, devices: Sequence[jax.Device]
) -> None:
    """Raises RunError, before hours of training, where `evaluate` lacks the metric of `best`.

    Trusts a stage that names the metric. Passes on what `init` and `evaluate` raise.
    """
    if not experiment.ranking:
        return
    ranked, metric, _ = experiment.ranking
    if any(stage.name == ranked and metric in stage.metrics for stage in experiment.stages):
        return
    state: State | None = None
    for i, stage in enumerate(experiment.stages):
        state = stage.init(stage_key(root, i), state)
        if stage.name == ranked:
            assert stage.evaluate is not None
            found = stage.evaluate(parallel.unstack(parallel.stack(state, devices)))
            if metric not in found:
                raise RunError(
                    f"best is by {metric!r}, but evaluate of stage {ranked!r} gives "
                    f"{sorted(found)} before its first step; name one of these"
                )
            return


def _start(
    stage: Stage, state: State, started: Callable[[Stage, list[dict[str, str]]], None]
) -> State:
    """The state after `stage.start`; the weights that it read are passed to `started`.

    Raises RunError where the shapes are not those of `state`, and what `start` raises.
    """
    assert stage.start is not None
    with data.noted_weights() as read:
        begun = stage.start(state)
    expected, found = (parallel.shapes_of(tree) for tree in (state, begun))
    if expected != found:
        raise RunError(
            f"start of stage {stage.name!r} changed the shapes of the state that init made; "
            "expected other values alone"
        )
    started(stage, list(read))
    return begun
