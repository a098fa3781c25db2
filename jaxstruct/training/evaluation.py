"""One pass over a set of examples, on all devices, to the last example.

Metrics that add up over examples are summed on the devices (`make_evaluation`). Predictions that do
not add up, such as detections for average precision or features for an SVM, are gathered on the
host (`make_prediction`, `make_collection`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxstruct.metrics import Mean
from jaxstruct.training import parallel
from jaxstruct.training.batches import Batches
from jaxstruct.training.feed import Swept, on_devices, on_the_host, sweep

READ = ""  # in place of a set's name, so that no compiled program depends on the name
AUGMENT = 1 << 16  # a purpose of random keys

Sums = Mapping[str, Any]
Count = Callable[[Any, Any, jax.Array, jax.Array], Sums]
Predict = Callable[[Any, Any, jax.Array], Mapping[str, jax.Array]]
Finish = Callable[[dict[str, Any]], Mapping[str, float]]


def means(sums: Sums) -> dict[str, float]:
    """The default `finish`: total / count of each `Mean` of scalars.

    A mean whose count is 0 has no value, and is left out. Raises TypeError for another sum.
    """
    for name, total in sums.items():
        if not isinstance(total, Mean) or np.ndim(total.total) or np.ndim(total.count):
            shapes = ", ".join(str(np.shape(x)) for x in jax.tree.leaves(total))
            raise TypeError(
                f"the sum {name!r} is a {type(total).__name__} of {shapes}, expected a Mean of two "
                "scalars; give make_evaluation(finish=...) a function that makes numbers of it"
            )
    return {name: float(m.total / m.count) for name, m in sums.items() if m.count}


def make_evaluation(
    count: Count,
    batches: Batches | Sequence[Batches],
    *,
    finish: Finish = means,
    compilations: int | None = None,
) -> Callable[[Any], dict[str, float]]:
    """An `evaluate(state) -> {metric: float}` that adds up `count` over one sweep of `batches`.

    - `count(state, batch, valid, keys) -> {name: sum}`: `valid` (bool [b]) is False for the
      examples that pad the last batch; `keys` [b] are one per example and depend on its position
      alone, so that the same numbers are drawn at every evaluation, for any batch size and on any
      number of devices. A sum is a NamedTuple of arrays that add up: a `Mean`, a `Confusion`.
    - `finish({name: sum}) -> {metric: float}` turns the sums into metrics, once, on the host, where
      the sums are float64.
    - `compilations`: how many shapes or sets of keys the batches have, by default one for each of
      the `batches` (a set with a few canvas shapes is several `Batches`).

    The state is any PyTree. The evaluation runs on the devices of the state and is compiled once
    for each shape of state, so that stages may share one evaluation.
    """

    def counted(state: Any, batch: Any, valid: Any, keys: Any) -> Any:
        return jax.lax.psum(dict(count(state, batch, valid, keys)), parallel.AXIS)

    sets = _named(batches)
    swept = _Sweep(counted, compilations or len(sets), "make_evaluation")

    def evaluate(state: Any) -> dict[str, float]:
        sums: dict[str, Any] = {}
        for _, found in swept(state, sets):
            for name, part in found.items():
                # Float64 on the host: 60,000 bounds of -100 do not add up in float32.
                part = jax.tree.map(_of_first_device, part)
                sums[name] = jax.tree.map(np.add, sums[name], part) if name in sums else part
        return {name: float(value) for name, value in finish(sums).items()}

    return evaluate


def make_prediction(
    predict: Predict, *, compilations: int = 1
) -> Callable[[Any, Batches | Sequence[Batches]], dict[str, np.ndarray]]:
    """A function (state, batches) -> {name: [N, ...]}: `predict` of every example, on the host.

    `predict(state, batch, keys) -> {name: [b, ...]}` runs on all devices of the state, which is any
    PyTree; `keys` are as in `make_evaluation`. The rows of the result are the examples of one sweep
    in its order, without padding, and equal in every process. `compilations`: how many shapes or
    sets of keys the batches have. `predict` is compiled once for each of these and each shape of
    state, whatever batches the function is called with.
    """
    swept = _Sweep(
        lambda state, batch, valid, keys: dict(predict(state, batch, keys)),
        compilations,
        "make_prediction",
    )

    def predicted(state: Any, batches: Batches | Sequence[Batches]) -> dict[str, np.ndarray]:
        rows: dict[str, list[np.ndarray]] = {}
        for call, found in swept(state, {n: on_the_host(b) for n, b in _named(batches).items()}):
            for name, part in found.items():
                rows.setdefault(name, []).append(_gathered(part)[: call.size])
        return {name: _joined(name, parts) for name, parts in rows.items()}

    return predicted


def make_collection(
    predict: Predict,
    batches: Batches | Sequence[Batches],
    finish: Finish,
    *,
    compilations: int | None = None,
) -> Callable[[Any], dict[str, float]]:
    """An `evaluate(state) -> {metric: float}` of metrics that need all examples at once.

    `finish({name: [N, ...]}) -> {metric: float}` runs on the host, on the predictions of all
    examples as `make_prediction` gathers them; average precision is such a metric. `compilations`
    as in `make_evaluation`.
    """
    several = list(_named(batches).values())
    predicted = make_prediction(predict, compilations=compilations or len(several))

    def evaluate(state: Any) -> dict[str, float]:
        found = finish(predicted(state, several))
        return {name: float(value) for name, value in found.items()}

    return evaluate


class _Sweep:
    """`f(state, batch, valid, keys)` over sweeps, compiled once for each shape of its arguments."""

    def __init__(self, f: Callable, compilations: int, maker: str):
        self._f, self._compilations, self._maker = f, compilations, maker
        self._kept: dict[Any, Any] = {}
        self._calls: dict[Any, parallel.Call] = {}

    def __call__(self, state: Any, sets: dict[str, Batches]) -> Iterator[tuple[Swept, Any]]:
        devices = parallel.devices_of(state)
        stacked = parallel.stack(state, devices)
        # Sets on the devices belong to an evaluation, which sweeps the same sets every time.
        # Batches that are read on the host are finished when they come here, and share one program.
        alike = tuple((b.on_device, tuple(b.spec.items())) for b in sets.values())
        place = tuple(devices), alike
        if place not in self._kept:
            self._kept[place] = {name: on_devices(b, devices) for name, b in sets.items()}
        arrays = self._kept[place]
        shapes = place, parallel.shapes_of(state)
        if shapes not in self._calls:
            self._calls[shapes] = parallel.Call(
                functools.partial(self._one, {n: b for n, b in sets.items() if b.on_device}),
                devices,
                donate=False,
                compilations=self._compilations,
                name="evaluation",
                declare=f"{self._maker}(compilations=...)",
            )
        call = self._calls[shapes]
        for swept in sweep(sets, devices):
            part = swept.name if sets[swept.name].on_device else READ
            fed = {part: swept.fed[swept.name]}
            yield swept, call(stacked, arrays[swept.name], fed, swept.valid, swept.positions)

    def _one(
        self, sets: dict[str, Batches], state: Any, arrays: Any, fed: Any, valid: Any, at: Any
    ) -> Any:
        ((name, given),) = fed.items()
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(at)
        if name != READ:
            part = sets[name]
            given = {key: x[given] for key, x in arrays.items()}
            if part.augment:
                # `count` has no such key, so that its draws differ from those of the augmentation.
                key = jax.random.fold_in(jax.random.key(part.seed), AUGMENT)
                draws = jax.vmap(lambda i: jax.random.fold_in(key, i))(at)
                given = part.augment(draws, given)
            given = part.finished(given)
        return self._f(state, given, valid, keys)


def _named(batches: Batches | Sequence[Batches]) -> dict[str, Batches]:
    several = [batches] if isinstance(batches, Batches) else list(batches)
    if not several:
        raise ValueError("there are no batches, expected Batches, or several of them")
    for one in several:
        if not isinstance(one, Batches):
            raise TypeError(
                f"got batches of {type(one).__name__}, expected Batches, or several of them"
            )
    return {str(number): one for number, one in enumerate(several)}


def _of_first_device(x: jax.Array) -> np.ndarray:
    return np.asarray(x.addressable_data(0))[0].astype(np.float64)


def _gathered(x: jax.Array) -> np.ndarray:
    """[D, b, ...] of each process as [B, ...] of all, in order."""
    mine = np.concatenate([np.asarray(s.data) for s in _in_order(x)])
    if parallel.process_count() > 1:
        from jax.experimental import multihost_utils

        mine = np.asarray(multihost_utils.process_allgather(mine, tiled=True))
    return mine.reshape(-1, *mine.shape[2:])


def _in_order(x: jax.Array) -> list[Any]:
    return sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)


def _joined(name: str, parts: list[np.ndarray]) -> np.ndarray:
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"predictions {name!r} have shapes {str(shapes)[1:-1]} an example, expected one; bring "
            "them to a fixed size with a mask"
        )
    return np.concatenate(parts)
