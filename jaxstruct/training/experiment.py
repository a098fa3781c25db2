"""The values that describe an experiment; what runs them is in `run`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jaxstruct.data import Source
from jaxstruct.training.batches import Batches, Interleaved
from jaxstruct.training.state import State


class Reference(NamedTuple):
    """A number to compare with: the key of `metrics`, its value and where it stands."""

    metric: str
    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One phase of training: `steps` updates from one initial state.

    - `init(key, previous) -> State`: `previous` is the last state of the stage before, or None. It
      tells the shapes to whatever restores a checkpoint, too, and reads no file.
    - `start(state) -> State`: on the host, once, where the stage begins and not where it is gone on
      with: trained weights in place of initial ones. What `data.read_weights` reads there is
      written into the results. The result has the state's shapes.
    - `update(state, batch) -> (State, {term: Mean})`: made by `make_step` or `make_game_step`, or
      written by hand with their parts; runs on every device with its share of the batch.
    - `batches`: see `Batches`, and `interleaved` for several sets in turn.
    - `evaluate(state) -> {metric: float}`: made by `make_evaluation` or `make_collection`; every
      `evaluate_every` steps and after the last.
    - `save_every`: steps between checkpoints (by default after each evaluation); the last state of
      a stage is always saved.
    - `steps_per_call`: steps in one compiled call. More than 1 only without convolutions, or on an
      accelerator: a CPU runs a convolution inside a loop 10 to 20 times slower.
    - `log_every`: steps whose terms are averaged into one record (about 200 a stage by default).
    - `compilations`: how many sets of batch keys there are; one more is an error.

    Raises ValueError where `steps_per_call` does not divide the steps and the intervals.
    """

    name: str
    steps: int
    init: Callable[[Any, State | None], State]
    update: Callable[[State, Any], tuple[State, dict]]
    batches: Batches | Interleaved
    evaluate: Callable[[State], dict[str, float]] | None = None
    start: Callable[[State], State] | None = None
    compilations: int = 1
    evaluate_every: int | None = None
    save_every: int | None = None
    log_every: int | None = None
    steps_per_call: int = 1

    def __post_init__(self) -> None:
        """Fills in the intervals and checks that they fit together."""
        call = self.steps_per_call
        evaluate = self.steps if self.evaluate_every is None else self.evaluate_every
        save = evaluate if self.save_every is None else self.save_every
        log = self.log_every
        if log is None:
            log = call * max(1, round(self.steps / 200 / max(call, 1)))
        intervals = {"evaluate_every": evaluate, "save_every": save, "log_every": log}
        counts = {"steps_per_call": call, "steps": self.steps, **intervals}
        for name, value in {"compilations": self.compilations, **counts}.items():
            if value < 1:
                raise ValueError(f"stage {self.name!r}: {name} is {value}, expected at least 1")
        for name, value in counts.items():
            if value % call:
                raise ValueError(
                    f"stage {self.name!r}: {name} is {value}, which steps_per_call {call} does not "
                    "divide; choose a divisor"
                )
        for name, value in intervals.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Experiment:
    """A configuration and what it means: the stages to train, then what to score and draw.

    Without stages there is no state: what it scores and draws follows from the configuration.

    - `score(states) -> {metric: float}`: metrics too dear to compute during training, once at the
      end, from the last state of each stage by its name.
    - `figures(run) -> {name: Figure}` sees `run.states`, `run.history` and `run.metrics`.
    - `predict(key, state, image) -> (record, Figure)` for one user's image (uint8 [H, W, 3]), or
      samples where `image` is None; `state` is the last stage's.
    - `collect(records) -> {file name: JSON}`: one file for all images of a `predict`; the records
      are those of `predict`, in order, with the image's path as `image`.
    - `best`: ("stage/metric", "max" or "min"), whose best checkpoint is kept; of a single stage,
      ("metric", ...) is enough. Stages without that metric have no rank.
    - `model`: the module whose parameters `State.params` are, for use by hand.
    - `colors`: uint8 [L, 3] of the class indices that `predict` returns; VOC's without it.
    - `commands`: further verbs of the command line, {name: (dataclass of arguments, function)};
      a field without a default must be given; the function gets the arguments and the restored
      `Run`, which without stages has no states.
    - `data`: the sets that are read beside those of the stages' batches.
    """

    config: Any
    stages: Sequence[Stage] = ()
    score: Callable[[Mapping[str, State]], dict[str, float]] | None = None
    figures: Callable[[Any], dict[str, Any]] | None = None
    predict: Callable[[Any, State | None, Any], tuple[dict, Any]] | None = None
    collect: Callable[[Sequence[dict[str, Any]]], Mapping[str, Any]] | None = None
    best: tuple[str, Literal["max", "min"]] | None = None
    references: Sequence[Reference] = ()
    commands: Mapping[str, tuple[type, Callable[[Any, Any], None]]] = field(default_factory=dict)
    data: Sequence[Source] = ()
    model: Any = None
    colors: Any = None

    def __post_init__(self) -> None:
        """Checks what would otherwise fail after hours of training."""
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages must have different names, got {names}")
        if self.best:
            self._check_best(*self.best)

    @property
    def ranking(self) -> tuple[str, str, str] | None:
        """Stage, metric and direction of `best`."""
        if not self.best:
            return None
        stage, _, metric = self.best[0].partition("/")
        if metric and stage in (one.name for one in self.stages):
            return stage, metric, self.best[1]
        return self.stages[0].name, self.best[0], self.best[1]

    def _check_best(self, name: str, mode: str) -> None:
        if mode not in ("max", "min"):
            raise ValueError(
                f'best is {self.best}, expected ("stage/metric", "max") or ("stage/metric", "min")'
            )
        evaluated = [stage.name for stage in self.stages if stage.evaluate]
        if not evaluated:
            raise ValueError(f"best is by {name!r}, but no stage has an evaluate")
        stage, _, metric = name.partition("/")
        if not (metric and stage in evaluated) and len(self.stages) != 1:
            stages = ", ".join(evaluated)
            raise ValueError(f"best is by {name!r}, expected STAGE/metric, STAGE one of {stages}")


@dataclass(frozen=True)
class Study:
    """A flat grid of experiments that runs, resumes and is drawn as a whole.

    `figures(runs) -> {name: Figure}` sees the finished runs by the names of their experiments.
    """

    config: Any
    experiments: Mapping[str, Experiment]
    figures: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    references: Sequence[Reference] = ()


def config_type(make: Callable[[Any], Any]) -> type:
    """The dataclass that `experiment(config: Config)` names. Raises TypeError where it does not."""
    hints = typing.get_type_hints(make)
    hints.pop("return", None)
    kind = next(iter(hints.values()), None)
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{make.__name__}(config: Config) must name its dataclass, found {kind}")
    return typing.cast(type, kind)
