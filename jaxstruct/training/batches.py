"""Batches as a pure function of the step: the position in the data is the step itself."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct.data import DataError, Examples
from jaxstruct.data.kinds import Kind, dtype_in_batch, kinds_of

Read = Callable[[np.ndarray], Mapping[str, Any]]
Augment = Callable[[Any, dict], dict]


@dataclass(frozen=True)
class Batches:
    """The input of each step: examples are read, augmented, and converted to the spec's dtypes.

    - `spec`: {key: ShapeDtypeStruct} of the global batch as a step sees it, after `augment`, known
      without reading anything.
    - `indices(step) -> int [B]`: the examples of a step, from (seed, step) alone. In a sweep
      through a set (evaluation) the last batch may be short, and an empty batch ends the sweep.
    - `read`: arrays [N, ...] by key, which then live on the devices and are gathered inside the
      step; or `read(indices) -> {key: array, or a list of arrays of several shapes}`, called in
      threads ahead of the step.
    - `augment(draws, batch) -> batch` gets the examples as they are stored. Where `read` is arrays,
      `augment` is JAX on the device with one random key per example; where `read` is a function,
      `augment` is NumPy in the threads with one Generator per example (`augment_each` makes it from
      a function of one example). Draws depend on seed, step and the example's place in the batch
      alone; in an evaluation, on seed and place.
    - `kinds`: the kinds of keys whose names do not tell, see `data.kinds`. An image that is stored
      as uint8 becomes float32 in [0, 1]; other uint8 becomes an integer.
    - `first`: added to each step of a stage that goes on where another one ended; its first batch
      is that of step `first`.
    """

    spec: Mapping[str, jax.ShapeDtypeStruct]
    indices: Callable[[int], np.ndarray]
    read: Mapping[str, np.ndarray] | Read
    augment: Augment | None = None
    seed: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    first: int = 0

    @property
    def size(self) -> int:
        """Examples in a global batch."""
        return next(iter(self.spec.values())).shape[0]

    @property
    def on_device(self) -> bool:
        """Whether the examples are arrays that live on the devices."""
        return isinstance(self.read, Mapping)

    @property
    def parts(self) -> dict[str, Batches]:
        """The sets that batches come from, by name; the name of a single set is empty."""
        return {"": self}

    def plan(self, first: int, last: int) -> list[tuple[str, int]]:
        """The set and the number of the batch in that set, for each step in [first, last)."""
        return [("", self.first + step) for step in range(first, last)]

    def finished(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch that was read and augmented, as a step takes it: the keys and dtypes of the spec.

        Raises ValueError where the examples of a batch still differ in shape.
        """
        kinds = kinds_of(self.spec, self.kinds)
        return {
            key: _convert(key, x, kinds[key], self.spec[key].dtype)
            for key, x in batch.items()
            if key in self.spec
        }


@dataclass(frozen=True)
class Interleaved:
    """Batches of several sets in turn; made by `interleaved`."""

    parts: Mapping[str, Batches]
    schedule: Callable[[int], str]

    def plan(self, first: int, last: int) -> list[tuple[str, int]]:
        """The set and the number of the batch in that set, for each step in [first, last)."""
        seen: Counter[str] = Counter()
        found = []
        for step in range(last):
            name = self.schedule(step)
            if name not in self.parts:
                raise ValueError(
                    f"the schedule names {name!r} at step {step}, expected one of {[*self.parts]}"
                )
            if step >= first:
                found.append((name, self.parts[name].first + seen[name]))
            seen[name] += 1
        return found


def interleaved(sets: Mapping[str, Batches], schedule: Callable[[int], str]) -> Interleaved:
    """Batches of several sets in an order that is a pure function of the step.

    `schedule(step)` names the set that gives the batch of a step; `in_proportion` makes such a
    schedule. Sets may differ in keys, shapes and batch size. The examples of one set are seen
    equally often. A stage of interleaved sets declares one compilation per set
    (`Stage.compilations`). Raises ValueError where there is no set.
    """
    if not sets:
        raise ValueError("there is no set to interleave, expected {name: Batches}")
    return Interleaved(dict(sets), schedule)


def in_proportion(counts: Mapping[str, int], *, seed: int) -> Callable[[int], str]:
    """A schedule of rounds in which every name comes `counts[name]` times, in a random order.

    The order of a round depends on (seed, round) alone. Raises ValueError for a count below 1.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"the count of {name!r} is {count}, expected at least 1")
    names = [name for name, count in counts.items() for _ in range(count)]

    @functools.lru_cache(maxsize=2)
    def order(number: int) -> np.ndarray:
        return np.random.default_rng((seed, number)).permutation(len(names))

    return lambda step: names[order(step // len(names))[step % len(names)]]


def augment_each(one: Callable[[np.random.Generator, dict], dict]) -> Augment:
    """An `augment` for a reader that applies `one(generator, example) -> example` to each example.

    An example has the keys of the batch, without the batch axis.
    """

    def augment(draws: Any, batch: dict) -> dict:
        examples = [one(draw, {k: x[i] for k, x in batch.items()}) for i, draw in enumerate(draws)]
        return {key: [example[key] for example in examples] for key in examples[0]}

    return augment


def steps_of_epochs(epochs: float, size: int, batch_size: int, *, steps_per_call: int = 1) -> int:
    """How many steps see each of `size` examples `epochs` times, rounded to whole calls.

    A call is `steps_per_call` steps, see `Stage`. There is at least one call, be there no epoch or
    no example: an empty set is refused where its batches are made. Raises ValueError for epochs
    that are negative or not finite, and for a batch size or steps per call below 1.
    """
    for name, number in (("batch_size", batch_size), ("steps_per_call", steps_per_call)):
        if number < 1:
            raise ValueError(f"{name} is {number}, expected at least 1")
    if not 0 <= epochs < math.inf:
        raise ValueError(f"epochs is {epochs}, expected a finite number of at least 0")
    return steps_per_call * max(1, round(epochs * size / batch_size / steps_per_call))


def shuffled_batches(
    examples: Mapping[str, np.ndarray],
    batch_size: int,
    *,
    seed: int,
    augment: Augment | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> Batches:
    """Batches of arrays [N, ...] for training: epoch after epoch, each in an order of its own.

    A batch may straddle two epochs, so that every example is seen equally often. For `kinds` see
    `Batches`. Raises DataError for an empty set, and ValueError for a batch size below 1 and a seed
    below 0.
    """
    indices = _shuffled(_size(examples, batch_size), batch_size, seed)
    one = _on_device(examples, augment)
    declared = _declared(examples, one, kinds)
    spec = _spec(one, batch_size, declared)
    return Batches(spec, indices, examples, augment, seed, declared)


def shuffled_reads(
    read: Read,
    size: int,
    batch_size: int,
    *,
    like: Mapping[str, Any],
    seed: int,
    augment: Augment | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> Batches:
    """Batches as `shuffled_batches` makes them, for a set that does not fit into memory.

    `read(indices [M]) -> {key: array [M, ...] or list of M}` is called in threads, for examples 0
    to `size` - 1. `like` holds some examples as `read` returns them; one of these is augmented
    once, to learn shapes and dtypes. Raises as `shuffled_batches` does.
    """
    _size(like, batch_size)
    if size < 1:
        raise DataError(f"a set of {size} examples is empty: no batch can be made of it")
    one = _on_host(like, augment)
    declared = _declared(read, one, kinds)
    indices = _shuffled(size, batch_size, seed)
    return Batches(_spec(one, batch_size, declared), indices, read, augment, seed, declared)


def batches_in_order(
    examples: Mapping[str, np.ndarray],
    batch_size: int,
    *,
    kinds: Mapping[str, Kind] | None = None,
    one_shape: bool = False,
) -> Batches:
    """Batches of arrays [N, ...] for one sweep, of which the last may be short.

    A set that is smaller than a batch makes the batch smaller, unless `one_shape` is asked for:
    then batches of sets of any size have one shape, and a prediction compiles once. Raises
    DataError for an empty set, and ValueError for a batch size below 1.
    """
    size = _size(examples, batch_size)
    batch_size = batch_size if one_shape else min(batch_size, size)
    indices = functools.partial(_in_order, size, batch_size)
    declared = _declared(examples, examples, kinds)
    return Batches(_spec(examples, batch_size, declared), indices, examples, kinds=declared)


def reads_in_order(
    read: Read,
    size: int,
    batch_size: int,
    *,
    like: Mapping[str, Any],
    seed: int = 0,
    augment: Augment | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> Batches:
    """Batches as `batches_in_order` makes them, from a reader; see `shuffled_reads`."""
    made = shuffled_reads(
        read, size, batch_size, like=like, seed=seed, augment=augment, kinds=kinds
    )
    indices = functools.partial(_in_order, size, batch_size)
    return Batches(made.spec, indices, read, augment, seed, made.kinds)


def _convert(key: str, x: Any, kind: Kind, dtype: Any) -> Any:
    """Values of one key in the dtype of the batch."""
    if isinstance(x, list | tuple):
        shapes = sorted({np.shape(one) for one in x})
        if len(shapes) > 1:
            raise ValueError(
                f"{key!r} has examples of shapes {str(shapes)[1:-1]} in one batch; let augment "
                "bring them to one shape (data.letter_box and data.padded, say)"
            )
        x = np.stack(x)
    if kind == "masks":
        return x != 0
    if kind == "image" and x.dtype == jnp.uint8 and jnp.issubdtype(dtype, jnp.floating):
        return x.astype(dtype) / np.float32(255)
    return x.astype(dtype)


def _in_order(size: int, batch_size: int, step: int) -> np.ndarray:
    return np.arange(step * batch_size, min((step + 1) * batch_size, size), dtype=np.int32)


def _shuffled(size: int, batch_size: int, seed: int) -> Callable[[int], np.ndarray]:
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected at least 0")

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)

    def indices(step: int) -> np.ndarray:
        position = np.arange(step * batch_size, (step + 1) * batch_size)
        epochs = position // size
        parts = [order(int(e))[position[epochs == e] % size] for e in np.unique(epochs)]
        return np.concatenate(parts)

    return indices


def _size(examples: Mapping[str, Any], batch_size: int) -> int:
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


def _on_device(examples: Mapping[str, np.ndarray], augment: Augment | None) -> Mapping[str, Any]:
    """Shapes and dtypes of one example after an augmentation in JAX, which is not run."""
    if augment is None:
        return examples
    one = {key: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for key, x in examples.items()}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    return jax.eval_shape(augment, keys, one)


def _on_host(like: Mapping[str, Any], augment: Augment | None) -> Mapping[str, Any]:
    """One example after an augmentation in NumPy."""
    one = {key: x[:1] for key, x in like.items()}
    found = augment([np.random.default_rng(0)], one) if augment else one
    return {key: np.stack(x) if isinstance(x, list | tuple) else x for key, x in found.items()}


def _declared(
    read: Any, keys: Mapping[str, Any], kinds: Mapping[str, Kind] | None
) -> dict[str, Kind]:
    """The kinds that the caller gives, then those that the set has for the keys of a batch."""
    source = getattr(read, "source", None)
    of_set = source.kinds if source else {}
    return {**{key: kind for key, kind in of_set.items() if key in keys}, **(kinds or {})}


def _spec(
    examples: Mapping[str, Any], batch_size: int, kinds: Mapping[str, Kind]
) -> dict[str, jax.ShapeDtypeStruct]:
    found = kinds_of(examples, kinds)

    def dtype(key: str, x: Any) -> Any:
        if x.dtype.kind in "OSUMm":
            raise ValueError(
                f"{key!r} is of dtype {x.dtype}, expected numbers or booleans; leave it out, "
                "or let augment make numbers of it"
            )
        return jax.dtypes.canonicalize_dtype(dtype_in_batch(found[key], x.dtype))

    return {
        key: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), dtype(key, x))
        for key, x in examples.items()
    }
