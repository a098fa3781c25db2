"""Runs an experiment or a study in its folder, the workdir: trains, scores and draws.

A workdir holds config.json (configuration, versions, devices, data, commit), checkpoints/,
metrics.jsonl (records while training), tensorboard/, metrics.json (the results) and figures/. The
workdir of a study holds one such folder for each member, and its own metrics.json and figures/.

What may be added: another record of a run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxstruct.data.output import unbroken
from jaxstruct.data.places import expanded
from jaxstruct.training import hardware, parallel
from jaxstruct.training import workdir as files
from jaxstruct.training.checkpoints import Restored, best_of, check_place
from jaxstruct.training.experiment import Experiment, Stage
from jaxstruct.training.finished import Run
from jaxstruct.training.keys import seed_of
from jaxstruct.training.outcome import write_outcome
from jaxstruct.training.progress import Progress, announce_devices
from jaxstruct.training.results import one_or_all, read_results, records_of
from jaxstruct.training.sets import check_sets, data_of, sets_of
from jaxstruct.training.stages import train_all
from jaxstruct.training.study import Study, run_study


def run(
    experiment: Experiment | Study,
    workdir: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    name: str | None = None,
    command: str | None = None,
    profile: bool = False,
) -> Any:
    """Trains, scores and draws an experiment, or each member of a study.

    A run that was interrupted resumes bit for bit from the checkpoints in its workdir. A run that
    is finished is not trained again: only its figures are drawn again.

    Args:
        experiment: what to run.
        workdir: the folder of the run; ~ is the home folder.
        devices: the devices that share each batch; all by default.
        name, command: written into the results.
        profile: writes a trace of some steps into the workdir.

    Returns:
        a `Run`, or a `StudyRun` for a study.

    Raises:
        RunError: the run cannot continue; the message says why.
        Stopped: a signal asked the run to stop, and the run has saved.
        TraceError: a step needs more compilations than its stage declares.
        DataError: a set of the experiment is missing or damaged.
        ValueError: the workdir is a path that is refused, see `places.expanded`; the seed of a
            configuration is below 0 or above 32 bits; the devices cannot share a batch evenly; or a
            call has batches of several sets.

    What functions of the experiment raise is passed on.
    """
    folder = expanded(workdir)
    members = experiment.experiments if isinstance(experiment, Study) else {"": experiment}
    for inside, member in members.items():  # before anything is written
        seed_of(member.config)
        if member.stages:
            check_place(folder / inside)
    devices = list(devices or jax.devices())
    with unbroken(), files.locked(folder) if parallel.is_first() else contextlib.nullcontext():
        if isinstance(experiment, Study):
            run_member = partial(run, devices=devices, name=name, profile=profile)
            return run_study(experiment, folder, run_member, devices, name, command)
        return _run_one(experiment, folder, devices, name, command, profile)


def _run_one(
    experiment: Experiment,
    folder: Path,
    devices: list[jax.Device],
    name: str | None,
    command: str | None,
    profile: bool,
) -> Run:
    experiment = experiment.at(folder)
    config, sources, sets = files.plain(experiment.config), data_of(experiment), sets_of(experiment)
    files.check_config(folder, name, config)
    before = files.read_config(folder) or {}
    results = read_results(folder)
    about = {
        "hardware": hardware.hardware(devices),
        "versions": hardware.versions(),
        "commit": hardware.commit_of_code(),
    }
    weights: dict[str, Any] = dict(before.get("weights", {}))

    def write_config() -> None:
        about_run = {
            "experiment": name,
            "config": config,
            "data": sources,
            "sets": [record.plain() for record in sets],
        }
        if parallel.is_first():
            files.write_json(folder / "config.json", {**about_run, "weights": weights, **about})

    resumes = results is not None

    def begins(at: Restored | None) -> None:
        """What is only drawn again keeps its config.json; what resumes keeps its data."""
        nonlocal resumes
        if before and results is not None and _has_ended(experiment, at):
            return
        if at is not None:
            check_sets(folder, sources, sets)
            resumes = True
            # Of all processes that have trained, on another day and machine perhaps.
            shared = about.keys() & before.keys()
            about.update({key: one_or_all([before[key], about[key]]) for key in shared})
        write_config()

    def started(stage: Stage, read: list[dict[str, str]]) -> None:
        if resumes:
            files.check_weights(folder, stage.name, weights.get(stage.name), read)
        weights[stage.name] = read
        write_config()

    since = time.perf_counter()
    with Progress(devices, quiet=not parallel.is_first()) as progress:
        progress.say(f"{name or 'run'} in {folder}, {announce_devices(devices)}")
        states, history, cost = train_all(
            experiment, folder, config, devices, progress, profile, begins, started
        )
        if results is None:
            scored: Mapping[str, Any] = {}
            if experiment.score:
                progress.say("scoring")
                scored = experiment.score(states)
            records = records_of(experiment, history, scored)
            cost["wall_seconds"] += time.perf_counter() - since
            results = {
                "experiment": name,
                "config": config,
                "metrics": records,
                **({"best": best} if (best := _best(experiment, history)) else {}),
                **({"scored": _scored(experiment)} if experiment.stages else {}),
                **({"weights": weights} if weights else {}),
                "data": sources,
                "cost": {**cost, "command": command},
                **about,
            }
        finished = Run(
            folder, experiment.config, states, history, results["metrics"], results["data"],
            results["cost"], experiment,
        )  # fmt: skip
        write_outcome(folder, results, experiment.figures, finished, experiment.claims, progress)
    return finished


def _has_ended(experiment: Experiment, at: Restored | None) -> bool:
    """Whether no step is missing where an experiment resumes."""
    if at is None:
        return not experiment.stages
    ends = at.index == len(experiment.stages) - 1 == len(at.finals)
    return ends and int(at.state.step) == experiment.stages[-1].steps


def _scored(experiment: Experiment) -> dict[str, Any]:
    """Which checkpoint was scored: the last one, by its number."""
    return {"checkpoint": "last", "number": sum(stage.steps for stage in experiment.stages)}


def _best(experiment: Experiment, history: Sequence[dict]) -> dict[str, Any] | None:
    """The best evaluation of those that were saved, and the number of its checkpoint."""
    if not experiment.ranking:
        return None
    stage, name, mode = experiment.ranking
    (ranked,) = (one for one in experiment.stages if one.name == stage)
    ranks = {
        r["number"]: r["evaluation"][name] for r in history
        if r["stage"] == stage and name in r.get("evaluation", {}) and _saved(ranked, r["step"])
    }  # fmt: skip
    number = best_of(ranks, mode)
    if number is None:
        return None
    return {"stage": stage, "metric": name, "value": ranks[number], "number": number}


def _saved(stage: Stage, step: int) -> bool:
    return step == stage.steps or step % (stage.save_every or stage.steps) == 0
