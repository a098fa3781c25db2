"""Checkpoints: a run resumes from them bit for bit, whatever ended it.

Orbax writes a checkpoint into a temporary folder and renames the folder, so that a checkpoint is
whole or absent; checksums detect damage that comes later. The number of a checkpoint counts the
steps of all stages. The last checkpoint of every stage is kept, and holds that stage's final state;
later checkpoints do not repeat it. A damaged checkpoint is set aside, never deleted, where another
one is whole; where none is, the run ends and changes nothing.
"""

from __future__ import annotations

import itertools
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxstruct.data.regular_files import check_all_regular
from jaxstruct.training import damage
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Stage
from jaxstruct.training.keys import stage_key
from jaxstruct.training.loop import Sums
from jaxstruct.training.state import State


@dataclass(frozen=True)
class Restored:
    """Where a run resumes.

    Attributes:
        index: of the stage that resumes.
        state: of that stage.
        finals: the last states of the stages before it, by name, without those that are damaged.
        pending: sums of terms that are in no record yet.
        seconds: how long the run had trained.
        records: how many records had been written up to the checkpoint.
        metrics: the evaluation at the checkpoint.
    """

    index: int
    state: State
    finals: dict[str, State]
    pending: Sums
    seconds: float
    records: int
    metrics: dict[str, float]


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; a context manager.

    Keeps the latest two checkpoints, the best by `ranking` = (stage, metric, "max" or "min"), and
    the last of every stage; see `kept`. A damaged checkpoint is named on stderr and not used: its
    folder N is renamed to damaged-N when a whole one was found. With `write` false nothing is
    renamed or written. Raises RunError where the folder cannot be written, and where a checkpoint
    cannot be read now but may be readable later.
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
        self._write, self._folder = write, folder
        self._ends = np.cumsum([stage.steps for stage in stages]).tolist()
        self._metas: dict[int, dict[str, Any]] = {}  # of each checkpoint that is not damaged
        self._damaged: dict[int, str] = {}  # why, of those that were not named yet
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_Kept(self._to_keep),
            create=write,
            read_only=not write,
            # Nothing here needs orbax's own metadata, which might be damaged.
            lightweight_initialize=True,
        )
        self._read_metas()
        self._manager = self._writing(
            lambda: ocp.CheckpointManager(folder.resolve(), options=options)
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            self._writing(self._manager.close)
        except RunError:
            # The error that is being raised says more than a second error about the same disk.
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
        records: int = 0,
    ) -> None:
        """Writes a checkpoint in the background; after `wait` it is on the disk."""
        tree = _to_host(state)
        number = self._start(self._stages.index(stage)) + int(state.step)
        meta = damage.sealed(
            {
                "number": number,
                "stage": stage.name,
                "stages": self._plan(),
                "metrics": metrics or {},
                "pending": pending or {},
                "seconds": seconds,
                "records": records,
                "config": self._config,
                "arrays": _layout(tree),
                "checksum": _checksum(tree),
            }
        )
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        self._metas[number] = meta
        # By force: a stage that is trained again writes lower numbers than later stages have.
        self._writing(lambda: self._manager.save(number, args=items, force=True))

    def wait(self) -> None:
        """Returns when all checkpoints are on the disk; raises RunError where that fails."""
        self._writing(self._manager.wait_until_finished)

    def restore(self, key: jax.Array, which: str = "last") -> Restored | None:
        """The newest whole checkpoint, or None where there is no checkpoint.

        With `which` "best", the checkpoint that ranks first, or None where no checkpoint has a
        rank. `key` is the key of the run: shapes come from an abstract evaluation of each stage's
        `init`. Raises RunError where a checkpoint belongs to another model or to other stages,
        where the best checkpoint is damaged, and where all checkpoints are damaged.
        """
        shapes = self._shapes(key)
        numbers = self._numbers()
        if which == "best":
            best = best_of(self._ranks(), self._ranking[2]) if self._ranking else None
            numbers = [] if best is None else [best]
        for number in numbers:
            state = self._whole(number, shapes, needed=which == "best")
            if state is None:
                continue
            index, meta = self._index(number), self._metas[number]
            finals = {
                stage.name: self._whole(self._ends[i], shapes)
                for i, stage in enumerate(self._stages[:index])
            }
            self._name_damaged()
            return Restored(
                index,
                state,
                {name: final for name, final in finals.items() if final is not None},
                meta["pending"],
                meta["seconds"],
                meta.get("records", 0),
                meta.get("metrics", {}),
            )
        if self._damaged and not self._metas:  # beginning again would replace what is left of them
            newest = max(self._damaged)
            raise RunError(
                f"all checkpoints in {self._folder} are damaged (the newest, {newest}: "
                f"{self._damaged[newest]}) and were left unchanged; put back copies of them, or "
                "remove that folder to begin again"
            )
        self._name_damaged()
        return None

    def restore_stage(self, stage: Stage, key: jax.Array) -> State | None:
        """The newest whole state of a stage before its last state, or None; to train from."""
        index, shapes = self._stages.index(stage), self._shapes(key)
        inside = [n for n in self._numbers() if self._start(index) < n < self._ends[index]]
        states = (self._whole(number, shapes) for number in inside)
        state = next((one for one in states if one is not None), None)
        self._name_damaged()
        return state

    def latest(self) -> int | None:
        """The number of the newest checkpoint on the disk."""
        return max(self._manager.all_steps(), default=None)

    def _start(self, index: int) -> int:
        return self._ends[index] - self._stages[index].steps

    def _index(self, number: int) -> int:
        return next(i for i, end in enumerate(self._ends) if number <= end)

    def _numbers(self) -> list[int]:
        """The numbers of the checkpoints on the disk, the newest first."""
        return sorted(set(self._metas).intersection(self._manager.all_steps()), reverse=True)

    def _shapes(self, key: jax.Array) -> list[State]:
        shapes: list[State] = []
        for i, stage in enumerate(self._stages):
            previous = shapes[-1] if shapes else None
            shapes.append(jax.eval_shape(stage.init, stage_key(key, i), previous))
        return shapes

    def _plan(self) -> dict[str, str]:
        stages = enumerate(self._stages, 1)
        return {str(i): f"{stage.name} of {stage.steps} steps" for i, stage in stages}

    def _ranks(self) -> dict[int, float]:
        """The value of the ranking's metric, for each checkpoint that has it."""
        if not self._ranking:
            return {}
        stage, name, _ = self._ranking
        found = {n: m.get("metrics", {}) for n, m in self._metas.items() if m["stage"] == stage}
        return {number: metrics[name] for number, metrics in found.items() if name in metrics}

    def _to_keep(self, numbers: Sequence[int]) -> set[int]:
        mode = self._ranking[2] if self._ranking else "max"
        ranks = {n: rank for n, rank in self._ranks().items() if n in set(numbers)}
        return kept(numbers, self._ends, best_of(ranks, mode))

    def _read_metas(self) -> None:
        """Reads the metadata of each checkpoint."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise RunError(f"cannot read {self._folder} ({error.strerror})") from error
        for number in sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name)):
            one = self._folder / str(number)
            try:
                check_all_regular(one)
                damage.read_object(one / "_CHECKPOINT_METADATA")
                meta = damage.read_sealed(one / "meta" / "metadata")
                if meta.get("number", number) != number or _META - set(meta):
                    raise ValueError("its metadata belongs to another checkpoint")
                if "metrics" not in meta and (one / "metrics").exists():  # of an earlier version
                    meta["metrics"] = damage.read_object(one / "metrics" / "metrics")
            except Exception as error:
                self._leave_out(number, error)
            else:
                self._metas[number] = meta

    def _whole(self, number: int, shapes: list[State], *, needed: bool = False) -> State | None:
        """The state of a checkpoint; None where that is damaged, or RunError if it is `needed`."""
        if number not in self._metas:
            return None
        meta = self._metas[number]
        # A checkpoint of another program is not damaged: it stays where it is.
        self._check(number, "stage", meta.get("stages", self._plan()), self._plan())
        index = self._index(number)
        expected = jax.tree.map(_host_shape, shapes[index])
        self._check(number, "array", meta.get("arrays", _layout(expected)), _layout(expected))
        items = ocp.args.Composite(state=ocp.args.StandardRestore(expected))
        try:
            tree = self._manager.restore(number, args=items)["state"]
            if _checksum(tree) != meta["checksum"]:
                raise ValueError("the checksum of its arrays is not the one that was saved")
        except Exception as error:  # orbax, tensorstore and json each raise their own
            self._leave_out(number, error, needed=needed)
            return None
        return jax.tree.map(_from_host, shapes[index], tree)

    def _leave_out(self, number: int, error: Exception, *, needed: bool = False) -> None:
        """Excludes a checkpoint that could not be read; `_name_damaged` says so."""
        folder, why = self._folder / str(number), damage.reason(error)
        named = f"checkpoint {number} in {self._folder}"
        if damage.is_gone(folder):  # the run that writes them has removed it as an old one
            self._metas.pop(number, None)
            return
        if passing := damage.may_pass(error, folder):
            raise RunError(
                f"{named} cannot be read now ({damage.reason(passing)}) and was left unchanged; "
                f"start again when it can be read, or move {folder} away to continue without it"
            ) from error
        if needed:
            raise RunError(
                f"the best checkpoint, {number} in {self._folder}, is damaged ({why}); without "
                "best, the last checkpoint is used"
            ) from error
        self._metas.pop(number, None)
        self._damaged[number] = why

    def _name_damaged(self) -> None:
        """Names the damaged checkpoints on stderr, and sets their folders aside if `write`."""
        for number, why in sorted(self._damaged.items()):
            done = "is not used"
            if self._write:
                set_aside = partial(damage.set_aside, self._folder / str(number))
                done = f"was set aside as {self._writing(set_aside).name}"
            print(
                f"warning: checkpoint {number} in {self._folder} is damaged and {done} ({why})",
                file=sys.stderr,
            )
        if self._damaged and self._write:
            self._manager.reload()
        self._damaged.clear()

    def _check(self, number: int, kind: str, saved: dict, expected: dict) -> None:
        for name in {**saved, **expected}:
            if saved.get(name) != expected.get(name):
                raise RunError(
                    f"checkpoint {number} in {self._folder} belongs to another model: {kind} "
                    f"{name} was {saved.get(name)} and is now {expected.get(name)}; choose another "
                    "--workdir"
                )

    def _writing(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except (OSError, ValueError, RuntimeError) as error:
            if not self._write:
                raise RunError(
                    f"cannot read the checkpoints in {self._folder} ({damage.reason(error)})"
                ) from error
            raise RunError(
                f"cannot write a checkpoint into {self._folder} ({damage.reason(error)}); the last "
                "whole checkpoint stays: free space or choose another --workdir, then start again"
            ) from error


class _Kept:
    """The preservation policy that orbax asks which checkpoints to keep."""

    def __init__(self, to_keep: Callable[[Sequence[int]], set[int]]):
        self._to_keep = to_keep

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        keep = self._to_keep([one.step for one in checkpoints])
        return [one.step in keep for one in checkpoints]


def check_place(workdir: Path) -> None:
    """Raises RunError for a workdir whose checkpoints could not be read back.

    Orbax lists files by patterns that begin with the whole path, and takes \\ for /.
    """
    place = str(workdir.resolve())
    if found := [mark for mark in ("[", "]", "\\", "**") if mark in place]:
        raise RunError(
            f"the workdir {place} has {' and '.join(found)} in its path, expected a path without: "
            "checkpoints there could not be read again; choose another --workdir"
        )


def kept(numbers: Iterable[int], ends: Sequence[int], best: int | None) -> set[int]:
    """Which checkpoints to keep: the latest two, the best, and the last of each stage.

    Where a stage's last checkpoint is missing, since it was damaged and the stage is trained again,
    the latest two of that stage are kept.
    """
    ordered = sorted(numbers)
    keep = {*ordered[-2:], *set(ordered).intersection(ends), *([] if best is None else [best])}
    for start, end in itertools.pairwise((0, *ends)):
        if end not in ordered:
            keep.update([n for n in ordered if start < n < end][-2:])
    return keep


def best_of(ranks: Mapping[int, float], mode: str) -> int | None:
    """The number with the "max" or "min" rank, among equal ranks the latest; None without ranks."""
    better = max if mode == "max" else min
    return better(sorted(ranks, reverse=True), key=ranks.__getitem__, default=None)


_META = {"stage", "pending", "seconds", "checksum"}  # in the metadata of every version


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(tree: Any) -> Any:
    """The tree as NumPy arrays, in any number of processes; random keys become uint32 data."""
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
