"""A study: several experiments that run as one, such as a grid of settings or of seeds.

What may be added: another way to make the members of a study.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from jaxstruct.training import parallel
from jaxstruct.training import workdir as files
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Claim, Experiment
from jaxstruct.training.finished import Run, StudyRun
from jaxstruct.training.outcome import write_outcome
from jaxstruct.training.progress import Progress
from jaxstruct.training.results import (
    ABOUT,
    Record,
    different,
    one_or_all,
    read_results,
    records_of_member,
)

SEED = "seed="  # how the members of `seeds` are named


@dataclass(frozen=True)
class Study:
    """A flat grid of experiments that runs, resumes and is drawn as a whole.

    - `figures(runs) -> {name: Figure}` gets the finished runs by the names of their experiments.
    - `claims`: see `Experiment`; the claims of the experiments themselves are not judged.
    - `repeats`: {name: (member, seed)} of experiments that `seeds` made of one member. Every other
      experiment is a member under its own name, with the seed of its configuration.
    """

    config: Any
    experiments: Mapping[str, Experiment]
    figures: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    claims: Sequence[Claim] = ()
    repeats: Mapping[str, tuple[str | None, int]] = field(default_factory=dict)


def seeds(make: Any, config: Any, count: int) -> Study:
    """A study of an experiment, or of a study's members, under `count` seeds from config.seed on.

    Its members are called `seed=n`, or `member/seed=n`. Its results are means over the seeds and
    standard deviations; its figures show the first seed.
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


def of_member(
    make: Callable[[Any], Experiment | Study], config: Any, member: str | None
) -> Experiment:
    """The experiment of one run: what `make` returns, or its member, possibly under another seed.

    Raises RunError where a study has no such member, and for a seed that is no number; passes on
    what `make` raises.
    """
    made = make(config)
    if member and isinstance(made, Study) and member in made.experiments:
        return made.experiments[member]
    of_study, _, last = (member or "").rpartition("/")
    if last.startswith(SEED):
        seed = last.removeprefix(SEED)
        if not (seed.isdecimal() and hasattr(config, "seed")):
            raise RunError(
                f"member is {member!r}, expected {SEED}NUMBER, and a configuration with a seed"
            )
        made = make(dataclasses.replace(config, seed=int(seed)))
    else:
        of_study = member or ""
    if not isinstance(made, Study):
        return made
    if of_study not in made.experiments:
        choice = ", ".join(made.experiments)
        raise RunError(f"this is a study: member is {member!r}, expected {choice}")
    return made.experiments[of_study]


def run_study(
    study: Study,
    folder: Path,
    run_member: Callable[[Experiment, Path], Run],
    devices: Sequence[jax.Device],
    name: str | None,
    command: str | None,
) -> StudyRun:
    """Runs each member in a folder of its name, then writes the study's results and figures.

    Raises what `run_member` raises, and RunError where `folder` holds another run.
    """
    config, is_first = files.plain(study.config), parallel.is_first()
    files.check_config(folder, name, config, study=True)
    if is_first:
        files.write_json(folder / "config.json", {"experiment": name, "config": config})
    runs = {
        member: run_member(experiment, folder / member)
        for member, experiment in study.experiments.items()
    }
    records: list[Record] = []
    for member, done in runs.items():
        own = (member, getattr(done.config, "seed", None))
        records += records_of_member(done.records, *study.repeats.get(member, own))
    finished = StudyRun(folder, study.config, runs, records)
    results = _results_of(finished, name, config, command) if is_first else {}
    with Progress(devices, quiet=not is_first) as progress:
        write_outcome(folder, results, study.figures, runs, study.claims, progress)
    return finished


def _results_of(
    finished: StudyRun, name: str | None, config: Any, command: str | None
) -> dict[str, Any]:
    """What metrics.json holds of a finished study."""
    runs = finished.runs
    stored = [read_results(finished.workdir / member) or {} for member in runs]
    return {
        "experiment": name,
        "config": config,
        "metrics": finished.records,
        "data": different(one for done in runs.values() for one in done.data),
        "cost": {
            "wall_seconds": sum(r.cost["wall_seconds"] for r in runs.values()),
            "members": {m: r.cost for m, r in runs.items()},
            "command": command,
        },
        # Of the members' own runs, which may be of another day and machine than this call.
        **{key: one_or_all(made.get(key) for made in stored) for key in ABOUT},
    }
