"""Runs an experiment, or a study of them, in a folder: trains, scores, draws, and can go on.

What a workdir holds: config.json (configuration, versions, devices, data, commit), checkpoints/,
metrics.jsonl (records while training), tensorboard/, metrics.json (the results), figures/. A study
has a folder of this kind for each of its experiments, and metrics.json and figures/ of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxstruct.data import Examples
from jaxstruct.data.output import unbroken
from jaxstruct.training import hardware
from jaxstruct.training import workdir as files
from jaxstruct.training.experiment import Claim, Experiment, Stage, Study
from jaxstruct.training.loop import RunError
from jaxstruct.training.progress import Progress, announce_devices
from jaxstruct.training.restored import SEED, Run, StudyRun
from jaxstruct.training.results import (
    ABOUT,
    Record,
    judged_claims,
    read_results,
    records_of,
    records_of_member,
    summary,
)
from jaxstruct.training.stages import train_all


def run(
    experiment: Experiment | Study,
    workdir: str | Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    name: str | None = None,
    command: str | None = None,
    profile: bool = False,
) -> Any:
    """Trains, scores and draws; a `Run`, or a `StudyRun` for a study.

    A workdir that holds a part of the same run is gone on with, to the same bits; one that is
    finished only has its figures drawn again. `name` and `command` are written into the results;
    `profile` writes a trace of some steps. Raises RunError (with the remedy) and Stopped.
    """
    folder = Path(workdir)
    devices = list(devices or jax.devices())
    with unbroken(), files.locked(folder) if _primary() else contextlib.nullcontext():
        if isinstance(experiment, Study):
            return _run_study(experiment, folder, devices, name, command, profile)
        return _run_one(experiment, folder, devices, name, command, profile)


def _run_one(
    experiment: Experiment,
    folder: Path,
    devices: list[jax.Device],
    name: str | None,
    command: str | None,
    profile: bool,
) -> Run:
    config, sources = files.plain(experiment.config), _data(experiment)
    files.check_config(folder, name, config)
    before = files.read_config(folder) or {}
    about = {
        "hardware": hardware.hardware(devices),
        "versions": hardware.versions(),
        "commit": hardware.commit(Path.cwd()),
    }
    weights: dict[str, Any] = dict(before.get("weights", {}))

    def write_config() -> None:
        about_run = {
            "experiment": name,
            "config": config,
            "data": sources,
            "sets": _sets(experiment),
        }
        if _primary():
            _write(folder, "config.json", {**about_run, "weights": weights, **about})

    def started(stage: Stage, read: list[dict[str, str]]) -> None:
        weights[stage.name] = read
        write_config()

    results = read_results(folder)
    write_config()
    since = time.perf_counter()
    with Progress(devices, quiet=not _primary()) as progress:
        progress.say(f"{name or 'run'} in {folder}, {announce_devices(devices)}")
        states, history, cost = train_all(
            experiment, folder, config, devices, progress, profile, started
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
            folder, experiment.config, states, history, results["metrics"], sources,
            results["cost"], experiment,
        )  # fmt: skip
        if _primary():
            # Written before the figures: a mistake in drawing must not cost the scoring.
            _write(folder, "metrics.json", results)
            _draw(experiment.figures, finished, folder, progress)
            _report(experiment.claims, results, folder, progress)
    return finished


def _run_study(
    study: Study,
    folder: Path,
    devices: list[jax.Device],
    name: str | None,
    command: str | None,
    profile: bool,
) -> StudyRun:
    config = files.plain(study.config)
    files.check_config(folder, name, config, study=True)
    if _primary():
        _write(folder, "config.json", {"experiment": name, "config": config})
    runs = {
        member: run(experiment, folder / member, devices=devices, name=name, profile=profile)
        for member, experiment in study.experiments.items()
    }
    records: list[Record] = []
    for member, done in runs.items():
        own = (member, getattr(done.config, "seed", None))
        records += records_of_member(done.records, *study.repeats.get(member, own))
    finished = StudyRun(folder, study.config, runs, records)
    if not _primary():
        return finished
    stored = [read_results(folder / member) or {} for member in runs]
    data: list[dict] = []
    for done in runs.values():
        data += [d for d in done.data if d not in data]
    results = {
        "experiment": name,
        "config": config,
        "metrics": records,
        "data": data,
        "cost": {
            "wall_seconds": sum(r.cost["wall_seconds"] for r in runs.values()),
            "members": {m: r.cost for m, r in runs.items()},
            "command": command,
        },
        # Where its members were made: they may be of another day and machine than this call.
        **{key: _one_or_all(made.get(key) for made in stored) for key in ABOUT},
    }
    with Progress(devices) as progress:
        _write(folder, "metrics.json", results)
        _draw(study.figures, runs, folder, progress)
        _report(study.claims, results, folder, progress)
    return finished


def _one_or_all(values: Iterable[Any]) -> Any:
    """The value where all are equal, else the list of the different ones."""
    different: list[Any] = []
    for value in values:
        if value not in different:
            different.append(value)
    return different[0] if len(different) == 1 else different


def seeds(make: Any, config: Any, count: int) -> Study:
    """A study of the same experiment under `count` seeds, from config.seed on: `name/seed=n`.

    Its numbers are means over the seeds and their standard deviations; its figures are those of
    the first seed.
    """
    experiments: dict[str, Experiment] = {}
    repeats: dict[str, tuple[str | None, int]] = {}
    first: Experiment | Study | None = None
    for seed in range(config.seed, config.seed + count):
        made = make(dataclasses.replace(config, seed=seed))
        first = first or made
        members: Mapping[Any, Experiment] = (
            made.experiments if isinstance(made, Study) else {None: made}
        )
        for member, experiment in members.items():
            name = "/".join(filter(None, (member, f"{SEED}{seed}")))
            experiments[name], repeats[name] = experiment, (member, seed)

    def figures(runs: Mapping[str, Run]) -> dict[str, Any]:
        of_first = {
            member: runs[name] for name, (member, seed) in repeats.items() if seed == config.seed
        }
        assert first is not None
        if first.figures is None:
            return {}
        seen: Any = of_first if isinstance(first, Study) else of_first[None]
        return first.figures(seen)

    assert first is not None
    return Study(config, experiments, figures, first.claims, repeats)


def _data(experiment: Experiment) -> list[dict[str, Any]]:
    """Which sets the experiment and its stages read."""
    found = [source.plain() for source in experiment.data]
    for read in (part.read for s in experiment.stages for part in s.batches.parts.values()):
        source = getattr(read, "source", None)
        if isinstance(read, Examples) and source is None:
            about: dict[str, Any] = {"name": "given arrays", "origin": "user", "size": read.size}
        elif source is None:
            about = {"name": "given arrays", "origin": "user"}
        else:
            about = source.plain()
        if about not in found:
            found.append(about)
    return found


def _sets(experiment: Experiment) -> list[dict[str, Any]]:
    """What a machine without the sets needs to know of them."""
    reads = [part.read for stage in experiment.stages for part in stage.batches.parts.values()]
    sources = [*experiment.data, *(getattr(read, "source", None) for read in reads)]
    records = {s.record.name: s.record for s in sources if s is not None and s.record}
    return [record.plain() for record in records.values()]


def _scored(experiment: Experiment) -> dict[str, Any]:
    """Which checkpoint the numbers are of."""
    return {"checkpoint": "last", "number": sum(stage.steps for stage in experiment.stages)}


def _best(experiment: Experiment, history: Sequence[dict]) -> dict[str, Any] | None:
    if not experiment.ranking:
        return None
    stage, name, mode = experiment.ranking
    (ranked,) = (one for one in experiment.stages if one.name == stage)
    records = [
        r for r in history
        if r["stage"] == stage and name in r.get("evaluation", {}) and _saved(ranked, r["step"])
    ]  # fmt: skip
    if not records:
        return None
    # Of equal ones the latest, as the checkpoints have it.
    better = max if mode == "max" else min
    chosen = better(reversed(records), key=lambda r: r["evaluation"][name])
    found = {"stage": stage, "metric": name, "value": chosen["evaluation"][name]}
    return {**found, "number": chosen["number"]}


def _saved(stage: Stage, step: int) -> bool:
    return step == stage.steps or step % (stage.save_every or stage.steps) == 0


def _draw(figures: Any, seen: Any, folder: Path, progress: Progress) -> None:
    for name, figure in (figures(seen) if figures else {}).items():
        path = folder / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path)
        progress.say(f"drew {path}")


def _report(
    claims: Sequence[Claim], results: Mapping[str, Any], folder: Path, progress: Progress
) -> None:
    told = judged_claims(claims, results["config"], results["metrics"])
    for line in (summary(results["metrics"]), *told, f"results in {folder / 'metrics.json'}"):
        if line:
            progress.say(line)


def _write(folder: Path, name: str, value: Any) -> None:
    try:
        files.write_json(folder / name, value)
    except OSError as error:
        raise RunError(f"cannot write {folder / name} ({error.strerror})") from error


def _primary() -> bool:
    return jax.process_index() == 0
