"""A run as its workdir has it, without training: what `restore` reads.

What may be added: another way to choose among the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxstruct import data
from jaxstruct.data.places import expanded
from jaxstruct.training import workdir as files
from jaxstruct.training.checkpoints import Checkpoints, Restored
from jaxstruct.training.errors import Known, RunError
from jaxstruct.training.experiment import Experiment, config_type
from jaxstruct.training.finished import Run
from jaxstruct.training.journal import check_history, read_records
from jaxstruct.training.keys import root_key
from jaxstruct.training.results import read_results
from jaxstruct.training.study import Study, of_member


def restore(
    experiment: Experiment | Callable[[Any], Experiment | Study],
    workdir: str | Path,
    *,
    which: Literal["last", "best"] = "last",
    member: str | None = None,
) -> Run:
    """The run in a workdir, without training, on a machine with or without the run's data.

    Args:
        experiment: the function `experiment(config)` of an experiment's file, which is called with
            the configuration of the run; or an Experiment. On a machine without the sets only the
            function works: the description of the sets in the workdir replaces them.
        workdir: the folder of the run; ~ is the home folder.
        which: the last state, or the best by `Experiment.best`.
        member: which run of a study, or which seed.

    Returns:
        the run. Where the experiment has no stages and no equal run has ended, it has no metrics.

    Raises:
        RunError: the workdir holds no run, no such member, or a run of another experiment or
            configuration; a file of the run cannot be read; or the best checkpoint is asked for,
            and is damaged or was never saved.
        DataError: the experiment reads a set that is missing, and the workdir does not describe it.
        ValueError: the workdir is a path that is refused, see `places.expanded`; or the seed of the
            configuration is below 0 or above 32 bits.
        TypeError: the function `experiment` names no dataclass.
    """
    workdir = expanded(workdir)
    folder = workdir / (member or "")
    if callable(experiment):
        # The configuration is the study's; its members may have configurations of another type.
        config = files.stored_config(workdir, config_type(experiment)(), trained=False)
        with data.recorded(files.stored_sets(folder)):
            made = of_member(experiment, config, member)
        return restore(made, folder, which=which)
    experiment = experiment.at(folder)
    config = files.plain(experiment.config)
    if not experiment.stages:
        found = read_results(folder) or {"config": None}
        ended = found if found["config"] == config else {"metrics": [], "data": []}
        return Run(
            folder, experiment.config, {}, [], ended["metrics"], ended["data"],
            experiment=experiment,
        )  # fmt: skip
    if not (folder / "config.json").exists():
        raise RunError(f"no run in {folder}: train first, or name its folder with --workdir")
    if which == "best" and not experiment.best:
        raise RunError("this experiment has no best checkpoint: Experiment.best names no metric")
    files.check_config(folder, None, config)
    results = read_results(folder) or {"metrics": [], "data": []}
    kept = Checkpoints(
        folder / "checkpoints", experiment.stages, config, experiment.ranking, write=False
    )
    with kept as checkpoints:
        restored = checkpoints.restore(root_key(experiment), which)
    if which == "best" and experiment.ranking and "best" in results:
        _check_best(restored, results["best"], experiment.ranking, folder)
    if restored is None:
        missing = "no checkpoint" if which == "last" else f"no checkpoint with {experiment.best}"
        raise RunError(f"{missing} in {folder} yet: train first")
    stages = experiment.stages[: restored.index + 1]
    history = read_records(folder / "metrics.jsonl")
    at = sum(stage.steps for stage in stages[:-1]) + int(restored.state.step)
    check_history(folder, history, at, restored.records)
    states = {**restored.finals, stages[-1].name: restored.state}
    if len(states) < len(stages):
        states = Known(
            states,
            lambda stage: (
                f"the last state of stage {stage!r} in {folder} is lost: its checkpoint is damaged "
                "or missing; the command that trained the run trains that stage again"
            ),
        )
    return Run(
        folder, experiment.config, states, history, results["metrics"], results["data"],
        experiment=experiment,
    )  # fmt: skip


def _check_best(
    restored: Restored | None, best: Mapping[str, Any], ranking: tuple[str, str, str], folder: Path
) -> None:
    """Raises RunError where the best checkpoint that is left is worse than that of the results."""
    _, metric, mode = ranking
    if restored is not None:
        value, named = restored.metrics[metric], best["value"]
        if value == (max if mode == "max" else min)(value, named):
            return
    raise RunError(
        f"the best checkpoint, {best['number']} in {folder / 'checkpoints'}, is damaged or "
        "missing; without best, the last checkpoint is used"
    )
