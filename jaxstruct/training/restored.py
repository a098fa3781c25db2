"""A run as its workdir has it: states, history and records, and what it says of an image.

What may be added: another way to choose among the checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxstruct import data
from jaxstruct.training import workdir as files
from jaxstruct.training.checkpoints import Checkpoints, Restored
from jaxstruct.training.experiment import Experiment, Study, config_type
from jaxstruct.training.journal import check_history, read_records
from jaxstruct.training.loop import RunError
from jaxstruct.training.results import Record, mean_and_spread, named, read_results
from jaxstruct.training.state import State

SEED = "seed="  # how the members of `seeds` are named


@dataclass(frozen=True)
class Run:
    """What `figures` sees and `run` returns: the last state of each stage, and all that was noted.

    `history`: the records of metrics.jsonl; `records`: those of metrics.json.
    """

    workdir: Path
    config: Any
    states: Mapping[str, State]
    history: Sequence[dict[str, Any]]
    records: Sequence[Record]
    data: Sequence[dict[str, Any]] = ()
    cost: dict[str, Any] = field(default_factory=dict)
    experiment: Experiment | None = None

    def predict(self, image: Any = None, *, seed: int = 0) -> tuple[dict[str, Any], Any]:
        """What the experiment's `predict` says of an image: (record, figure).

        `image` is uint8 [H, W, 3] or the path of an image file; without it, samples are drawn from
        `seed`. Raises RunError where the experiment has no `predict`.
        """
        if self.experiment is None or self.experiment.predict is None:
            raise RunError("this experiment has no predict")
        if isinstance(image, str | Path):
            image = data.read_image(Path(image))
        return self.experiment.predict(jax.random.key(seed), self.state, image)

    @property
    def metrics(self) -> dict[str, float]:
        """The values by metric, or by stage/metric where several stages have some."""
        return {name: values[-1] for name, values in named(self.records).items()}

    @property
    def state(self) -> State | None:
        """The last state of the last stage; None without stages."""
        return list(self.states.values())[-1] if self.states else None

    def curve(self, name: str, *, of: str = "evaluation", stage: str | None = None) -> Any:
        """The steps [n] and the values [n] of a metric, or of a term with of="train".

        Steps are counted through all stages, or through one that is named.
        """
        count = "step" if stage else "number"
        records = [r for r in self.history if stage in (None, r["stage"]) and name in r.get(of, {})]
        return np.array([r[count] for r in records]), np.array([r[of][name] for r in records])


@dataclass(frozen=True)
class StudyRun:
    """The finished runs of a study by name, and all their records."""

    workdir: Path
    config: Any
    runs: Mapping[str, Run]
    records: Sequence[Record]

    @property
    def metrics(self) -> dict[str, float]:
        """Means over seeds, by the name in `Run` after the member's: member/metric."""
        found = named(self.records)
        return {name: mean_and_spread(values).mean for name, values in found.items()}


def restore(
    experiment: Experiment | Callable[[Any], Experiment | Study],
    workdir: str | Path,
    *,
    which: Literal["last", "best"] = "last",
    member: str | None = None,
) -> Run:
    """A run as its workdir has it, without training, on a machine with or without its data.

    Args:
        experiment: the function `experiment(config)` of an experiment's file, which gets the
            configuration of the run, or what it returned. Where the sets are absent, only the
            function will do: what the run wrote down of them stands in.
        workdir: the folder of the run.
        which: its last state, or the one that is best by `Experiment.best`.
        member: which run of a study, or which seed.

    Raises:
        RunError: there is nothing there, or it is a run of something else. Without stages nothing
        is missing: where no equal run has ended, it has no metrics yet.
    """
    folder = Path(workdir) / (member or "")
    if callable(experiment):
        # The configuration of a study is its own: those of its members may be of another type.
        config = files.stored_config(Path(workdir), config_type(experiment)(), trained=False)
        with data.recorded(files.stored_sets(folder)):
            made = of_member(experiment, config, member)
        return restore(made, folder, which=which)
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
        states = _States(states, folder)
    return Run(
        folder, experiment.config, states, history, results["metrics"], results["data"],
        experiment=experiment,
    )  # fmt: skip


def _check_best(
    restored: Restored | None, best: Mapping[str, Any], ranking: tuple[str, str, str], folder: Path
) -> None:
    """Raises RunError where what is left is worse than the best that the results name."""
    _, metric, mode = ranking
    if restored is not None:
        value, named = restored.metrics[metric], best["value"]
        if value == (max if mode == "max" else min)(value, named):
            return
    raise RunError(
        f"the best checkpoint, {best['number']} in {folder / 'checkpoints'}, is damaged or not "
        "there; the last one is chosen without best"
    )


class _States(dict[str, State]):
    """Some of the states by their stages; asking for another raises RunError."""

    def __init__(self, states: Mapping[str, State], folder: Path):
        super().__init__(states)
        self._folder = folder

    def __missing__(self, stage: str) -> State:
        raise RunError(
            f"the last state of stage {stage!r} in {self._folder} is lost: its checkpoint is "
            "damaged, or not there; the command that trained the run makes it again"
        )


def of_member(
    make: Callable[[Any], Experiment | Study], config: Any, member: str | None
) -> Experiment:
    """The experiment of a run: what `make` gives, a member of it, or that under another seed.

    Raises RunError where a study has no such member.
    """
    made = make(config)
    if member and isinstance(made, Study) and member in made.experiments:
        return made.experiments[member]
    of_study, _, last = (member or "").rpartition("/")
    if last.startswith(SEED):
        made = make(dataclasses.replace(config, seed=int(last.removeprefix(SEED))))
    else:
        of_study = member or ""
    if not isinstance(made, Study):
        return made
    if of_study not in made.experiments:
        choice = ", ".join(made.experiments)
        raise RunError(f"this is a study: member is {member!r}, expected {choice}")
    return made.experiments[of_study]


def root_key(experiment: Experiment) -> jax.Array:
    """The random key of a run."""
    return jax.random.key(getattr(experiment.config, "seed", 0))
