"""One pass over a set of examples, on all devices, to the last example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxstruct.metrics import Mean
from jaxstruct.training import parallel
from jaxstruct.training.batches import Batches, as_spec
from jaxstruct.training.state import State

Count = Callable[[State, Any, jax.Array], dict[str, Mean]]


def make_evaluation(count: Count, batches: Batches) -> Callable[[State], dict[str, float]]:
    """An `evaluate(state) -> {metric: float}` that adds up `count` over one sweep of `batches`.

    `count(state, batch, keys) -> {metric: Mean}`: `batch` has the key `valid` (bool [b]), False
    for the examples that pad the last batch; `keys` [b] are one per example and depend on its
    position alone, so that the same numbers are drawn at every evaluation, for any batch size and
    on any number of devices. Runs on the devices that the state is on; compiled once for each shape
    of state, so that stages may share it.
    """
    kept: dict[Any, Any] = {}
    calls: dict[Any, parallel.Call] = {}

    def counted(state: State, arrays: Any, fed: Any, valid: Any, positions: Any) -> Any:
        batch = as_spec(_gather(arrays, fed), batches.spec) if batches.on_device else dict(fed)
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(positions)
        terms = count(state, {**batch, "valid": valid}, keys)
        return {name: Mean(*jax.lax.psum(tuple(m), parallel.AXIS)) for name, m in terms.items()}

    def evaluate(state: State) -> dict[str, float]:
        devices = parallel.devices_of(state)
        place = tuple(devices)
        if place not in kept:
            arrays = {k: batches.read[k] for k in batches.spec} if batches.on_device else {}  # type: ignore[index]
            kept[place] = parallel.stack(arrays, devices)
        shapes = place, parallel.shapes_of(state)
        if shapes not in calls:
            calls[shapes] = parallel.Call(counted, devices, donate=False, name="evaluation")
        stacked = parallel.stack(state, devices)
        sums: dict[str, np.ndarray] = {}
        for arguments in parallel.sweep(batches, devices):
            for name, m in calls[shapes](stacked, kept[place], *arguments).items():
                # Float64 on the host: 60,000 bounds of -100 do not add up in float32.
                values = np.array([np.asarray(x.addressable_data(0))[0] for x in m], np.float64)
                sums[name] = sums.get(name, 0) + values
        return {name: float(m[0] / m[1]) if m[1] else 0.0 for name, m in sums.items()}

    return evaluate


def _gather(arrays: Any, indices: Any) -> Any:
    return {key: x[indices] for key, x in arrays.items()}
