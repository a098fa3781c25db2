"""Checkpoints: what a run can be continued from, to the bit, whatever ended it.

Orbax writes each into a temporary folder and renames it, so that a checkpoint is whole or absent;
a checksum of the arrays finds one that was damaged later. Checkpoints are numbered by the steps
of all stages, and the last of every stage is kept: the states of earlier stages are read from
there rather than written again into each.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from jaxstruct.training.experiment import Stage
from jaxstruct.training.loop import RunError, Sums
from jaxstruct.training.state import State


@dataclass(frozen=True)
class Restored:
    """Where a run goes on: the stage's index, its state, and what was not written down yet."""

    index: int
    state: State
    finals: dict[str, State]
    pending: Sums
    seconds: float


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; a context manager.

    Keeps the latest two, the best by `ranking` = (stage, metric, "max" or "min"), and the last of
    every stage. Without `write` the folder is only read. Raises RunError where it cannot be
    written.
    """

    def __init__(
        self,
        folder: Path,
        stages: Sequence[Stage],
        config: dict,
        ranking: tuple[str, str, str] | None = None,
        *,
        write: bool = True,
    ):
        self._stages, self._config, self._ranking = list(stages), config, ranking
        self._write = write
        self._ends = np.cumsum([stage.steps for stage in stages]).tolist()
        self._folder = folder
        keep: list[Any] = [managers.LatestN(2), managers.CustomSteps(self._ends)]
        by: dict[str, Any] = {}
        if ranking:
            _, name, mode = ranking
            keep.append(
                managers.BestN(
                    get_metric_fn=lambda m: m[name],
                    reverse=mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
            # Without best_fn orbax writes no metrics, and the policy has nothing to rank by.
            by = {"best_fn": lambda m: m[name], "best_mode": mode}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(keep),
            create=write,
            read_only=not write,
            **by,
        )
        self._manager = self._writing(
            lambda: ocp.CheckpointManager(folder.resolve(), options=options)
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            self._writing(self._manager.close)
        except RunError:
            # The error that is under way says more than a second one about the same disk.
            if kind is None:
                raise

    def save(
        self,
        stage: Stage,
        state: State,
        *,
        metrics: dict[str, float] | None = None,
        pending: Sums | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Writes a checkpoint in the background; `wait` tells when it is on the disk."""
        tree = _to_host(state)
        meta = {
            "stage": stage.name,
            "stages": self._plan(),
            "pending": pending or {},
            "seconds": seconds,
            "config": self._config,
            "arrays": _layout(tree),
            "checksum": _checksum(tree),
        }
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        ranked = None
        if self._ranking and stage.name == self._ranking[0] and self._ranking[1] in (metrics or {}):
            ranked = metrics  # without a rank where nothing counted for the metric
        number = self._start(self._stages.index(stage)) + int(state.step)
        self._writing(lambda: self._manager.save(number, args=items, metrics=ranked))

    def wait(self) -> None:
        """Returns when all that was saved is on the disk; raises RunError where it cannot be."""
        self._writing(self._manager.wait_until_finished)

    def restore(self, key: jax.Array, which: str = "last") -> Restored | None:
        """The newest whole checkpoint, or None; each damaged one is named on stderr and removed.

        With `which` "best", the one that ranks first, or None where none has a rank.

        `key` is the run's; the stages' `init` tell the shapes, without computing anything.
        Raises RunError where a checkpoint is of another model or of other stages.
        """
        shapes = self._shapes(key)
        numbers = sorted(self._manager.all_steps(), reverse=True)
        if which == "best":
            best = self._manager.best_step() if self._ranked() else None
            numbers = [] if best is None else [best]
        for number in numbers:
            try:
                index, state, meta = self._read(number, shapes)
                finals = {
                    stage.name: self._final(i, shapes)
                    for i, stage in enumerate(self._stages[:index])
                }
            except RunError:
                raise
            except Exception as error:  # orbax, tensorstore and json each raise their own
                reason = str(error).strip().split("\n")[0][:200]
                if which == "best":
                    raise RunError(
                        f"the best checkpoint, {number} in {self._folder}, is damaged ({reason}); "
                        "the last one is chosen without best"
                    ) from error
                print(
                    f"warning: checkpoint {number} in {self._folder} is damaged"
                    f"{' and was removed' if self._write else ''}; "
                    f"going on from the one before ({reason})",
                    file=sys.stderr,
                )
                if self._write:
                    self._manager.delete(number)
                continue
            return Restored(index, state, finals, meta["pending"], meta["seconds"])
        return None

    def _ranked(self) -> bool:
        """Whether any checkpoint has a rank: without one, orbax takes the latest for the best."""
        return any(self._manager.metrics(number) for number in self._manager.all_steps())

    def latest(self) -> int | None:
        """The number of the newest checkpoint on the disk."""
        return self._manager.latest_step()

    def _start(self, index: int) -> int:
        return self._ends[index] - self._stages[index].steps

    def _shapes(self, key: jax.Array) -> list[State]:
        shapes: list[State] = []
        for i, stage in enumerate(self._stages):
            previous = shapes[-1] if shapes else None
            shapes.append(jax.eval_shape(stage.init, stage_key(key, i), previous))
        return shapes

    def _plan(self) -> dict[str, str]:
        stages = enumerate(self._stages, 1)
        return {str(i): f"{stage.name} of {stage.steps} steps" for i, stage in stages}

    def _final(self, index: int, shapes: list[State]) -> State:
        end = self._ends[index]
        try:
            return self._read(end, shapes)[1]
        except RunError:
            raise
        except Exception as error:
            raise ValueError(f"it needs checkpoint {end}, which is damaged: {error}") from error

    def _read(self, number: int, shapes: list[State]) -> tuple[int, State, dict]:
        items = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta = self._manager.restore(number, args=items)["meta"]
        # What another program wrote is not damaged: it must not be removed.
        self._check(number, "stage", meta.get("stages", self._plan()), self._plan())
        index = next(i for i, end in enumerate(self._ends) if number <= end)
        expected = jax.tree.map(_host_shape, shapes[index])
        self._check(number, "array", meta.get("arrays", _layout(expected)), _layout(expected))
        items = ocp.args.Composite(state=ocp.args.StandardRestore(expected))
        tree = self._manager.restore(number, args=items)["state"]
        if _checksum(tree) != meta["checksum"]:
            raise ValueError("the checksum of its arrays is not the one that was saved")
        return index, jax.tree.map(_from_host, shapes[index], tree), meta

    def _check(self, number: int, kind: str, saved: dict, expected: dict) -> None:
        for name in {**saved, **expected}:
            if saved.get(name) != expected.get(name):
                raise RunError(
                    f"checkpoint {number} in {self._folder} is of another model: {kind} {name} was "
                    f"{saved.get(name)} and is now {expected.get(name)}; choose another --workdir"
                )

    def _writing(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0][:300]
            raise RunError(
                f"cannot write a checkpoint into {self._folder} ({reason}); the last one that is "
                "whole stays: free space or choose another --workdir, then start again"
            ) from error


def stage_key(key: jax.Array, index: int) -> jax.Array:
    """The random key of a stage, from the run's."""
    return jax.random.fold_in(key, index)


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(tree: Any) -> Any:
    """NumPy arrays, in any number of processes: random keys become their uint32 data."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if _is_key(x) else x), tree)


def _host_shape(x: Any) -> np.ndarray:
    x = jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x
    return np.zeros(x.shape, x.dtype)


def _from_host(shape: Any, x: np.ndarray) -> jax.Array:
    if _is_key(shape):
        # key_impl takes arrays alone, not their shapes.
        impl = jax.random.key_impl(jax.numpy.empty(shape.shape, shape.dtype))
        return jax.random.wrap_key_data(jax.numpy.asarray(x), impl=impl)
    return jax.numpy.asarray(x)


def _layout(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _checksum(tree: Any) -> int:
    value = 0
    for x in jax.tree.leaves(tree):
        value = zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, value)
    return value
