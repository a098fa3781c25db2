"""The inputs of the calls of a stage or a sweep: indices, or batches that threads read ahead.

What may be added: another order in which a set is read. parallel.py shares batches among devices.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxstruct.training.batches import Batches, Interleaved
from jaxstruct.training.parallel import check_divisible, share, stack


class Feed:
    """The inputs of the calls of a stage, one after the other: a context manager.

    `constant` is the first argument after the state: the arrays that live on the devices, by set.
    `next()` returns the second: {set: indices [D, K, b], or batches [D, K, b, ...]}.
    """

    def __init__(
        self,
        batches: Batches | Interleaved,
        devices: Sequence[jax.Device],
        first: int,
        last: int,
        per_call: int,
    ):
        self._parts, self._devices, self._per_call = dict(batches.parts), devices, per_call
        self._first, self._plan = first, batches.plan(first, last)
        for part in self._parts.values():
            check_divisible(part.size, devices)
        self._check_calls()
        self.constant = {name: on_devices(part, devices) for name, part in self._parts.items()}
        calls = range(first // per_call, last // per_call)
        self._calls: Iterator[Any]
        if all(part.on_device for part in self._parts.values()):
            self._calls = (self._call(call) for call in calls)
        else:
            self._calls = ahead(self._call, calls)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: Any) -> None:
        if close := getattr(self._calls, "close", None):
            close()

    def next(self) -> Any:
        """The input of the next call; raises what reading it raised."""
        return next(self._calls)

    def _call(self, call: int) -> dict[str, Any]:
        begin = call * self._per_call - self._first
        steps = self._plan[begin : begin + self._per_call]
        name = steps[0][0]
        part = self._parts[name]
        read = self._indices if part.on_device else self._read
        return {name: jax.tree.map(_stack, *[read(part, step) for _, step in steps])}

    def _check_calls(self) -> None:
        """Raises ValueError where one call, which is one program, has batches of several sets."""
        for begin in range(0, len(self._plan), self._per_call):
            names = sorted({name for name, _ in self._plan[begin : begin + self._per_call]})
            if len(names) > 1:
                raise ValueError(
                    f"a call of {self._per_call} steps has batches of {', '.join(names)}; choose "
                    "steps_per_call 1, or a schedule that changes between calls alone"
                )

    def _indices(self, part: Batches, step: int) -> np.ndarray:
        return share(part.indices(step), self._devices)

    def _read(self, part: Batches, step: int) -> dict[str, np.ndarray]:
        """This process's part of one step's batch, [D, b, ...]."""
        positions = share(np.arange(part.size), self._devices)
        mine = positions.reshape(-1)
        draws = lambda: [np.random.default_rng((part.seed, step, int(i))) for i in mine]
        return _read(part, part.indices(step)[mine], draws, positions.shape)


class Swept(NamedTuple):
    """One call of a sweep: which of several sets, and its arguments."""

    name: str
    fed: Any  # {set: indices [D, b], or a batch [D, b, ...]}
    valid: np.ndarray  # bool [D, b], False for the examples that pad the last batch
    positions: np.ndarray  # int32 [D, b] in the whole sweep
    size: int  # examples in the call, over all processes and without the padding


def sweep(sets: dict[str, Batches], devices: Sequence[jax.Device]) -> Iterator[Swept]:
    """One pass through the sets in order; threads read ahead where a set is not in memory.

    The last batch of a set is padded with repeated examples to the size of the other batches.
    """
    calls = list(_calls(sets))

    def read(number: int) -> Swept:
        name, indices, position = calls[number]
        part = sets[name]
        size = -(-part.size // len(devices)) * len(devices)
        valid = np.arange(size) < len(indices)
        positions = share((position + np.arange(size)).astype(np.int32), devices)
        fed: Any = share(np.resize(indices, size), devices)
        if not part.on_device:
            draws = lambda: [np.random.default_rng((part.seed, int(i))) for i in positions.flat]
            fed = _read(part, fed.reshape(-1), draws, fed.shape)
        return Swept(name, {name: fed}, share(valid, devices), positions, len(indices))

    if all(part.on_device or isinstance(part.read, Rows) for part in sets.values()):
        yield from map(read, range(len(calls)))
    else:
        yield from ahead(read, range(len(calls)))


class Rows:
    """Arrays [N, ...] by key as a reader of their rows."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = dict(arrays)

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The rows at indices [M]."""
        return {key: x[indices] for key, x in self._arrays.items()}


def on_the_host(part: Batches) -> Batches:
    """The same batches with arrays that stay on the host: sets of any size share one program.

    Raises ValueError for arrays that are augmented on the device.
    """
    if not part.on_device:
        return part
    if part.augment:
        raise ValueError("arrays are augmented on the devices, expected none for a prediction")
    return dataclasses.replace(part, read=Rows(part.read))  # type: ignore[arg-type]


def on_devices(part: Batches, devices: Sequence[jax.Device]) -> Any:
    """The arrays of a set, a copy on each device; empty where the set is read on the host."""
    if not part.on_device:
        return {}
    # Augmentation may give keys that are not stored, and drop others.
    return stack({k: np.asarray(x) for k, x in part.read.items() if _used(part, k)}, devices)  # type: ignore[union-attr]


def ahead(read: Callable[[int], Any], calls: range) -> Iterator[Any]:
    """`read` of each number in order, by threads that are a few calls ahead."""
    import grain  # an import of 0.5 s that arrays on the device do not need

    options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
    numbers = grain.MapDataset.range(calls.start, calls.stop)
    return iter(numbers.map(read).to_iter_dataset(options))


def _used(part: Batches, key: str) -> bool:
    return part.augment is not None or key in part.spec


def _calls(sets: dict[str, Batches]) -> Iterator[tuple[str, np.ndarray, int]]:
    """The set, the indices and the first position of each batch of a sweep."""
    position = 0
    for name, part in sets.items():
        if len(part.indices(0)) == 0:
            raise ValueError("a sweep without a batch was given, expected at least one example")
        for step in itertools.count():
            indices = part.indices(step)
            if len(indices) == 0:
                break
            if step == 10_000 and len(part.indices(1_000_000_000)):
                raise ValueError(
                    "the batches of a sweep do not end; expected those of batches_in_order or "
                    "reads_in_order, since shuffled batches never end"
                )
            if len(indices) > part.size:
                raise ValueError(
                    f"batch {step} has {len(indices)} examples, expected at most {part.size}"
                )
            yield name, indices, position
            position += len(indices)


def _read(
    part: Batches, indices: np.ndarray, draws: Callable[[], Any], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Reads, augments and converts examples; leading axes `shape` replace [M]."""
    batch = dict(part.read(indices))  # type: ignore[operator]
    if part.augment:
        batch = part.augment(draws(), batch)
    finished = part.finished(batch).items()
    return {k: np.asarray(x).reshape(*shape, *x.shape[1:]) for k, x in finished}


def _stack(*steps: np.ndarray) -> np.ndarray:
    return np.stack(steps, 1)
