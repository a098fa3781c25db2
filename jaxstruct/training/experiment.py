"""The values that describe an experiment: claims, stages, and the experiment itself.

What may be added: another value that an experiment may state. `run` runs them.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxstruct.data import Source
from jaxstruct.training.batches import Batches, Interleaved
from jaxstruct.training.state import State

VERBS = ("train", "predict")
"""What every command line has."""

Better = Literal["lower", "higher", "near"]


class Reference(NamedTuple):
    """A measured number, by its names in metrics.json, and what a paper has for it.

    - `better`: whether lower values are better, higher values, or values near to `value`.
    - `member`: of a study, or of a score; `stage`: by default the last that has the metric.
    - `value` ± `spread`: the paper's numbers, if it states any; `source`: their table or figure.
    """

    metric: str
    better: Better
    member: str | None = None
    stage: str | None = None
    value: float | None = None
    spread: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the numbers or the picture that show whether the claim holds here.

    Exactly one of the following says how the claim is judged:

    - `values`: each number is compared with the paper's value;
    - `orders`: in each sequence, every number is better than the next one, or worse by no more than
      `within`;
    - `figure`: the name of a picture, to be judged by eye.

    `source`: the place of the claim in the paper, if not the table or figure of its values; a claim
    without any source is in no paper. `why`: in a few words, why the numbers differ from the
    paper's. `config`: the claim is about runs whose configuration has these values.

    Raises ValueError where none or several of the three are given, where a value or an order has
    nothing to be compared with, or where an order mixes directions.
    """

    text: str
    values: Sequence[Reference] = ()
    orders: Sequence[Sequence[Reference]] = ()
    within: float = 0.0
    figure: str = ""
    source: str = ""
    why: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that there is one way to judge the claim."""
        ways = [name for name in ("values", "orders", "figure") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError(
                f"claim {self.text!r} has {' and '.join(ways) or 'nothing to be judged by'}, "
                "expected one of values, orders and figure"
            )
        for reference in self.values:
            if reference.value is None:
                raise ValueError(
                    f"claim {self.text!r}: {reference.metric} has no value to be compared with"
                )
        for order in self.orders:
            directions = {reference.better for reference in order}
            if len(order) < 2 or len(directions) > 1 or "near" in directions:
                raise ValueError(
                    f"claim {self.text!r}: the order of {[r.metric for r in order]} is by "
                    f"{sorted(directions)}, expected at least two references, all lower or all "
                    "higher"
                )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One phase of training: `steps` updates from one initial state.

    - `init(key, previous) -> State`: `previous` is the last state of the stage before, or None.
      Restoring a checkpoint evaluates `init` abstractly to learn the shapes, so `init` reads no
      file.
    - `start(state) -> State`: puts trained weights in the place of initial weights, on the host. It
      is called once, when the stage begins, and not when the stage resumes. Weights that it reads
      with `data.read_weights` are written into the results. Its result has the state's shapes.
    - `update(state, batch) -> (State, {term: Mean})`: made by `make_step` or `make_game_step`, or
      written by hand with their parts; runs on every device with the device's share of the batch.
    - `batches`: see `Batches`, and `interleaved` for several sets in turn.
    - `prepare(state) -> Batches`: what the steps get in place of `batches`, where it follows from
      what the stage does not learn, such as maps of frozen layers that are computed once. It is
      called when the stage begins, after `start`, and when it resumes, and gives the same each
      time. Results name the sets of `batches`.
    - `evaluate(state) -> {metric: float}`: made by `make_evaluation` or `make_collection`; called
      every `evaluate_every` steps and after the last step. `metrics` are names that it is known to
      give; see `Experiment.best`.
    - `save_every`: steps between checkpoints (by default a checkpoint follows each evaluation); the
      last state of a stage is always saved.
    - `steps_per_call`: steps in one compiled call. More than 1 only without convolutions, or on an
      accelerator: a CPU runs a convolution inside a loop 10 to 20 times slower.
    - `log_every`: steps whose terms are averaged into one record (about 200 a stage by default).
    - `compilations`: how many sets of keys and shapes batches have, at least one for each set of
      `interleaved`; a further compilation is an error.

    Raises ValueError where `steps_per_call` does not divide the steps and the intervals.
    """

    name: str
    steps: int
    init: Callable[[Any, State | None], State]
    update: Callable[[State, Any], tuple[State, dict]]
    batches: Batches | Interleaved
    evaluate: Callable[[State], dict[str, float]] | None = None
    metrics: Sequence[str] = ()
    start: Callable[[State], State] | None = None
    prepare: Callable[[State], Batches | Interleaved] | None = None
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
    """A configuration and its meaning: the stages to train, then what to score and draw.

    An experiment without stages has no state: it scores and draws from the configuration alone.

    - `score(states) -> {metric: float}`: metrics that are too expensive during training, computed
      once at the end from the last state of each stage by its name; {member: {metric: float}} where
      several things are scored, which become members of the results.
    - `figures(run) -> {name: Figure}` sees `run.states`, `run.history` and `run.metrics`.
    - `predict(key, state, image) -> (record, Figure)` for one user's image (uint8 [H, W, 3]), or
      for samples where `image` is None; `state` is the last state of the last stage, or the state
      of the best checkpoint.
    - `collect(records) -> {file name: JSON}`: one file about all images of a `predict`; the records
      are those that `predict` returned, in order, with the image's path as `image`.
    - `best`: ("stage/metric", "max" or "min"): the best checkpoint by this metric is kept. With a
      single stage, ("metric", ...) is enough. Unless the stage's `metrics` name the metric, its
      initial state is evaluated once before the first step, and the run ends where the metric is
      missing. Stages without the metric have no rank.
    - `model`: the module whose parameters `State.params` are, for use by hand.
    - `colors`: uint8 [L, 3] of the class indices that `predict` returns; by default VOC's colors.
    - `commands`: further verbs of the command line, {name: (dataclass of arguments, function)};
      a field without a default must be given; the function gets the arguments and the restored
      `Run`, which without stages has no states. No verb may be a slip of the pen for another one
      that every experiment has, see `mistyped`.
    - `in_workdir(experiment, workdir) -> Experiment`: this experiment with functions that know the
      folder of the run, such as a `score` that writes a file there and a `predict` that reads it.
      `run` and `restore` call it, and `predict` answers without it where there is no run.
    - `data`: the sets that are read in addition to the sets of the stages' batches.
    - `claims`: what the experiment is to show. Claims are judged at the end of a run and in the
      pages of results; metrics.json does not hold them.
    """

    config: Any
    stages: Sequence[Stage] = ()
    score: Callable[[Mapping[str, State]], Mapping[str, Any]] | None = None
    figures: Callable[[Any], dict[str, Any]] | None = None
    predict: Callable[[Any, State | None, Any], tuple[dict, Any]] | None = None
    collect: Callable[[Sequence[dict[str, Any]]], Mapping[str, Any]] | None = None
    best: tuple[str, Literal["max", "min"]] | None = None
    claims: Sequence[Claim] = ()
    commands: Mapping[str, tuple[type, Callable[[Any, Any], None]]] = field(default_factory=dict)
    in_workdir: Callable[[Experiment, Path], Experiment] | None = None
    data: Sequence[Source] = ()
    model: Any = None
    colors: Any = None

    def __post_init__(self) -> None:
        """Checks now what would fail after hours of training."""
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages must have different names, got {names}")
        for verb in self.commands:
            if other := mistyped(verb):
                raise ValueError(
                    f"command {verb!r} would be taken for {other}; give it another name"
                )
        if self.best:
            self._check_best(*self.best)

    def at(self, workdir: Path) -> Experiment:
        """What `in_workdir` makes of it; itself without."""
        return self.in_workdir(self, workdir) if self.in_workdir else self

    @property
    def ranking(self) -> tuple[str, str, str] | None:
        """Stage, metric and direction of `best`."""
        if not self.best:
            return None
        name, mode = self.best
        # Names of stages and of metrics may hold slashes themselves: the longest stage's is meant.
        fitting = [one.name for one in self.stages if name.startswith(f"{one.name}/")]
        if fitting:
            stage = max(fitting, key=len)
            return stage, name[len(stage) + 1 :], mode
        return self.stages[0].name, name, mode

    def _check_best(self, name: str, mode: str) -> None:
        if mode not in ("max", "min"):
            raise ValueError(
                f'best is {self.best}, expected ("stage/metric", "max") or ("stage/metric", "min")'
            )
        evaluated = [stage.name for stage in self.stages if stage.evaluate]
        if not evaluated:
            raise ValueError(f"best is by {name!r}, but no stage has an evaluate")
        stage = self.ranking[0] if self.ranking else ""
        named = name.startswith(f"{stage}/") or len(self.stages) == 1
        if not named or stage not in evaluated:
            stages = ", ".join(evaluated)
            raise ValueError(f"best is by {name!r}, expected STAGE/metric, STAGE one of {stages}")


def mistyped(verb: str) -> str | None:
    """Which of `VERBS` this is, but for a letter or two; None where it is another word."""
    near = [one for one in VERBS if abs(len(one) - len(verb)) <= 1]
    return next(iter(difflib.get_close_matches(verb, near, n=1, cutoff=0.8)), None)


def config_type(make: Callable[[Any], Any]) -> type:
    """The dataclass that `experiment(config: Config)` names. Raises TypeError where it does not."""
    hints = typing.get_type_hints(make)
    hints.pop("return", None)
    kind = next(iter(hints.values()), None)
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{make.__name__}(config: Config) must name its dataclass, found {kind}")
    return typing.cast(type, kind)
