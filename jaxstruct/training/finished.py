"""What a run or a study returns: states, history and records, and answers about an image.

What may be added: another question to a run that has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxstruct import data
from jaxstruct.training.errors import Known, RunError
from jaxstruct.training.experiment import Experiment
from jaxstruct.training.results import Record, mean_and_spread, named
from jaxstruct.training.state import State


@dataclass(frozen=True)
class Run:
    """A run, as `run` and `restore` return it and `figures` gets it.

    Attributes:
        workdir: its folder.
        config: its configuration.
        states: the last state of each stage, by the stage's name.
        history: the records of metrics.jsonl.
        records: the records of metrics.json.
        data: the sets that the run read.
        cost: seconds, by what they were spent on.
        experiment: what was run.
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
        """The answer of the experiment's `predict` about an image: (record, figure).

        `image` is uint8 [H, W, 3] or the path of an image file; without an image, samples are drawn
        from `seed`. Raises RunError where the experiment has no `predict`, and DataError where the
        path leads to no image.
        """
        if self.experiment is None or self.experiment.predict is None:
            raise RunError("this experiment has no predict")
        if isinstance(image, str | Path):
            image = data.read_image(image)
        return self.experiment.predict(jax.random.key(seed), self.state, image)

    @property
    def metrics(self) -> dict[str, float]:
        """The values by metric, or by stage/metric where several stages have metrics.

        Asking for a metric that the run has not raises RunError.
        """
        found = {name: values[-1] for name, values in named(self.records).items()}
        return Known(
            found,
            lambda name: (
                f"{self.workdir / 'metrics.json'} has no metric {name}: there is "
                f"{', '.join(found)}; remove the file, and the command that trained the run scores "
                "again"
            ),
        )

    @property
    def state(self) -> State | None:
        """The last state of the last stage; None without stages."""
        return list(self.states.values())[-1] if self.states else None

    def curve(self, name: str, *, of: str = "evaluation", stage: str | None = None) -> Any:
        """The steps [n] and the values [n] of a metric, or of a term with of="train".

        Steps are counted through all stages, or within the `stage` that is named.
        """
        count = "step" if stage else "number"
        records = [r for r in self.history if stage in (None, r["stage"]) and name in r.get(of, {})]
        return np.array([r[count] for r in records]), np.array([r[of][name] for r in records])


@dataclass(frozen=True)
class StudyRun:
    """The runs of a study by their members' names, and all their records."""

    workdir: Path
    config: Any
    runs: Mapping[str, Run]
    records: Sequence[Record]

    @property
    def metrics(self) -> dict[str, float]:
        """Means over seeds by member/metric, or member/stage/metric; see `Run.metrics`."""
        found = named(self.records)
        return {name: mean_and_spread(values).mean for name, values in found.items()}
