"""Batches as a pure function of the step: the position in the data is the step itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct.data import DataError, Examples


@dataclass(frozen=True)
class Batches:
    """What each step is fed with.

    - `spec`: {key: ShapeDtypeStruct} of the global batch, known without reading anything.
    - `indices(step) -> int [B]`: which examples, from (seed, step) alone. Of a sweep through
      a set (evaluation) the last batch may be short; an empty one ends it.
    - `read`: arrays [N, ...] by key, which then live on the devices and are gathered inside the
      step; or `read(indices) -> {key: array}`, called in threads ahead of the step. Stored uint8
      becomes float32 in [0, 1] where the spec says float32.
    - `augment(draws, batch) -> batch`: for arrays, JAX on the device with one random key per
      example; for a function, NumPy in the threads with one Generator per example. Both draw from
      (seed, step, example).
    """

    spec: Mapping[str, jax.ShapeDtypeStruct]
    indices: Callable[[int], np.ndarray]
    read: Mapping[str, np.ndarray] | Callable[[np.ndarray], dict[str, np.ndarray]]
    augment: Callable[[Any, dict], dict] | None = None
    seed: int = 0

    @property
    def size(self) -> int:
        """Examples in a global batch."""
        return next(iter(self.spec.values())).shape[0]

    @property
    def on_device(self) -> bool:
        """Whether the examples are arrays that live on the devices."""
        return isinstance(self.read, Mapping)


def shuffled_batches(
    examples: Mapping[str, np.ndarray],
    batch_size: int,
    *,
    seed: int,
    augment: Callable[[Any, dict], dict] | None = None,
) -> Batches:
    """Batches of arrays [N, ...] for training: epoch after epoch, each in an order of its own.

    A batch may straddle two epochs, so that every example is seen equally often. Stored uint8
    becomes float32 in [0, 1] for images [N, H, W, C] and int32 for class maps [N, H, W]. Raises
    DataError for an empty set and ValueError for a batch size below 1.
    """
    indices = _shuffled(_size(examples, batch_size), batch_size, seed)
    return Batches(_spec(examples, batch_size), indices, examples, augment, seed)


def shuffled_reads(
    read: Callable[[np.ndarray], dict[str, np.ndarray]],
    size: int,
    batch_size: int,
    *,
    like: Mapping[str, np.ndarray],
    seed: int,
    augment: Callable[[Any, dict], dict] | None = None,
) -> Batches:
    """The batches of `shuffled_batches` for a set of so many examples that no memory holds.

    `read(indices [M]) -> {key: array [M, ...]}` is called in threads; `like` are some examples as
    it gives them, for shapes and dtypes. Raises as `shuffled_batches` does.
    """
    _size(like, batch_size)
    if size < 1:
        raise DataError(f"a set of {size} examples is empty: no batch can be made of it")
    return Batches(_spec(like, batch_size), _shuffled(size, batch_size, seed), read, augment, seed)


def batches_in_order(examples: Mapping[str, np.ndarray], batch_size: int) -> Batches:
    """Batches of arrays [N, ...] for one sweep, the last one short; raises as the above."""
    size = _size(examples, batch_size)
    batch_size = min(batch_size, size)

    def indices(step: int) -> np.ndarray:
        return np.arange(step * batch_size, min((step + 1) * batch_size, size), dtype=np.int32)

    return Batches(_spec(examples, batch_size), indices, examples)


def as_spec(key_values: Mapping[str, Any], spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict:
    """Gives stored arrays the dtypes of the batch; uint8 becomes float32 in [0, 1]."""

    def convert(x: Any, dtype: Any) -> Any:
        scaled = x.dtype == jnp.uint8 and dtype == jnp.float32
        return x.astype(dtype) / np.float32(255) if scaled else x.astype(dtype)

    return {key: convert(x, spec[key].dtype) for key, x in key_values.items() if key in spec}


def _shuffled(size: int, batch_size: int, seed: int) -> Callable[[int], np.ndarray]:
    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)

    def indices(step: int) -> np.ndarray:
        position = np.arange(step * batch_size, (step + 1) * batch_size)
        epochs = position // size
        parts = [order(int(e))[position[epochs == e] % size] for e in np.unique(epochs)]
        return np.concatenate(parts)

    return indices


def _size(examples: Mapping[str, np.ndarray], batch_size: int) -> int:
    sizes = {key: len(x) for key, x in examples.items()}
    if not sizes or len(set(sizes.values())) > 1:
        raise ValueError(f"examples must be arrays of one length, got {sizes or 'none'}")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    size = next(iter(sizes.values()))
    if size == 0:
        source = examples.source if isinstance(examples, Examples) else None
        name = f"split {source.split!r} of {source.name}" if source else "the set"
        raise DataError(f"{name} is empty: no batch can be made of it; choose a larger split")
    return size


def _spec(examples: Mapping[str, np.ndarray], batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    def dtype(x: np.ndarray) -> Any:
        if x.dtype != np.uint8:
            return jax.dtypes.canonicalize_dtype(x.dtype)
        return np.dtype(np.float32 if x.ndim == 4 else np.int32)

    return {
        key: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), dtype(x))
        for key, x in examples.items()
    }
