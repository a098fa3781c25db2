"""Devices and processes: the only file that names pmap, and where a device axis exists.

Outside, a State has no device axis: `stack` adds it, with a copy on each device, and `unstack`
removes it. JAX itself moves from pmap to shard_map; only this file has to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxstruct.training.errors import TraceError

# Bound for one device too, so that batch norm and the steps have one code path.
AXIS = "devices"


def process_count() -> int:
    """How many processes train together; each sees its part of a batch."""
    return jax.process_count()


def is_first() -> bool:
    """Whether this process writes the files of a run: the first of several, or the only one."""
    return jax.process_index() == 0


def local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices of this process among `devices`."""
    return [d for d in devices if d.process_index == jax.process_index()]


def choose(count: int | None = None) -> list[jax.Device]:
    """The first `count` devices, by default all; raises ValueError where there are fewer."""
    devices = jax.devices()
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise ValueError(f"devices is {count}, expected 1 to {len(devices)}: {devices}")
    if process_count() > 1 and count < len(devices):
        raise ValueError(f"devices is {count}, but {process_count()} processes use all")
    return devices[:count]


def check_divisible(batch_size: int, devices: Sequence[jax.Device]) -> None:
    """Raises ValueError where the devices cannot share a global batch evenly."""
    n = len(devices)
    if batch_size % n:
        fits = -(-batch_size // n) * n
        raise ValueError(
            f"batch_size {batch_size} cannot be shared evenly by {n} devices; choose a multiple of "
            f"{n} ({fits}, say) or fewer devices (--devices)"
        )


def stack(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every leaf on each of this process's devices: [...] -> [D, ...].

    The placement is exactly that of pmap's results; with another, the second step would compile
    again.
    """
    mine = local(devices)
    mesh = Mesh(np.array(mine), AXIS)
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))

    def place(x: Any) -> jax.Array:
        shards = [jax.device_put(x[None], d) for d in mine]
        return jax.make_array_from_single_device_arrays((len(mine), *x.shape), sharding, shards)

    return jax.tree.map(place, tree)


def unstack(tree: Any) -> Any:
    """The inverse of `stack`: one logical copy of every leaf, [D, ...] -> [...].

    The copy stays on all of the devices (replicated), so that `devices_of` finds the devices of a
    state, and shares no memory with `tree`, which the next step donates.
    """

    def take(x: jax.Array) -> jax.Array:
        sharding = NamedSharding(x.sharding.mesh, PartitionSpec())  # type: ignore[attr-defined]
        shards = [s.data[0] for s in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape[1:], sharding, shards)

    return jax.tree.map(take, tree)


def devices_of(tree: Any) -> list[jax.Device]:
    """The devices of a tree's arrays; all devices for host arrays and in several processes."""
    leaves = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
    if process_count() > 1 or not leaves:
        return jax.devices()
    return sorted(leaves[0].devices(), key=lambda d: d.id)


def on_devices_of(tree: Any, like: Any = None) -> Any:
    """One logical copy of arrays on the devices of the tree `like`, without it on all devices."""
    return unstack(stack(tree, devices_of(like)))


def share(batch: Any, devices: Sequence[jax.Device], axis: int = 0) -> Any:
    """This process's part of a global batch on the host: axis [B] -> leading axes [D, ..., B/D]."""
    processes = len(devices) // len(local(devices))
    first = len(local(devices)) * (jax.process_index() if processes > 1 else 0)

    def split(x: Any) -> np.ndarray:
        parts = np.split(np.asarray(x), len(devices), axis)
        return np.stack(parts[first : first + len(local(devices))])

    return jax.tree.map(split, batch)


def shapes_of(tree: Any) -> Any:
    """The structure, shapes and dtypes of a tree of arrays, as a key of a dict."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, *((x.shape, x.dtype) for x in leaves)


def must_wait(devices: Sequence[jax.Device]) -> bool:
    """Whether each call must end before the next call is made.

    On several CPU devices, collectives of calls made ahead dead-lock in jax 0.9 to 0.11.
    """
    return devices[0].platform == "cpu" and len(devices) > 1


class Call:
    """`f` on every device, compiled once per set of shapes, with the first argument donated.

    `f` runs with AXIS bound. Arguments have a leading device axis. Raises TraceError where `f`
    would need more than `compilations`; the message names `declare` as the place to declare more.
    `flops` is the count of the last compilation on one device, with the body of a loop counted
    once; None where the backend gives no count.
    """

    def __init__(
        self,
        f: Callable,
        devices: Sequence[jax.Device],
        *,
        compilations: int | None = 1,
        donate: bool = True,
        name: str = "step",
        declare: str = "Stage(compilations=...)",
    ):
        self._pmapped = jax.pmap(
            f, AXIS, devices=list(devices), donate_argnums=(0,) if donate else ()
        )
        self._wait = must_wait(devices)
        self._compiled: dict[Any, Any] = {}
        self._compilations, self._name, self._declare = compilations, name, declare
        self.flops: float | None = None

    def __call__(self, *args: Any) -> Any:
        """Calls `f`, compiling it first where shapes are new."""
        # The state never changes shape within a stage: the rest of the arguments is the key.
        shapes = shapes_of(args[1:])
        if shapes not in self._compiled:
            self._compile(shapes, args)
        results = self._compiled[shapes](*args)
        return jax.block_until_ready(results) if self._wait else results

    @property
    def compilations(self) -> int:
        """How often the function was compiled so far."""
        return len(self._compiled)

    def _compile(self, shapes: Any, args: Any) -> None:
        if self._compilations is not None and len(self._compiled) >= self._compilations:
            raise TraceError(
                f"{self._name} was compiled {len(self._compiled)} times, as declared, and now "
                f"another batch came: {jax.tree.map(lambda x: x.shape, args[1:])}; give batches "
                f"one shape, or declare more with {self._declare}"
            )
        compiled = self._pmapped.lower(*args).compile()
        costs = compiled.cost_analysis() or {}
        costs = costs[0] if isinstance(costs, list) else costs
        self.flops = costs.get("flops")
        # A compiled program takes arrays of all processes; pmap makes these of this process's own.
        self._compiled[shapes] = compiled if process_count() == 1 else self._pmapped


def global_index(per_device: int) -> Any:
    """Inside a step: the position in the global batch of this device's first example."""
    return jax.lax.axis_index(AXIS) * per_device


def device_count() -> Any:
    """Inside a step: over how many devices the batch is shared."""
    return jax.lax.axis_size(AXIS)
