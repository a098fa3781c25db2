"""Prepared sets as arrays in memory (`load`) and as random access to records (`open_reader`).

What may be added: another way of reading. Order and augmentation belong to the batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxstruct.data import decoded, on_disk, places
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.errors import DataError
from jaxstruct.data.kinds import Kind
from jaxstruct.data.later import Later
from jaxstruct.data.on_disk import Damaged, Prepared
from jaxstruct.data.prepared import again, remedy
from jaxstruct.data.recorded import SetRecord, absent, find

_AT_ONCE = 4096  # records decoded between two copies into the stacked array


@dataclass(frozen=True)
class Source:
    """Where examples come from.

    `origin` is "official" (raw files of the official layout), "package" (real data an installed
    package carries), "imitation", or "user" (the user's own images, or a set prepared with TFDS).
    `size` counts the examples of `split`; `record` is what is known of the whole set.
    """

    name: str
    version: str
    split: str
    origin: str
    size: int
    record: SetRecord | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """What the set's keys are whose names do not say it, see `data.kinds`."""
        return CATALOGUE[self.name].kinds if self.name in CATALOGUE else {}

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, without the record."""
        return {key: getattr(self, key) for key in ("name", "version", "split", "origin", "size")}


class Examples(Mapping[str, np.ndarray]):
    """A set that fits memory: a mapping from key to an array [N,...], read-only where it is loaded.

    `image` is uint8 [N,H,W,C], `label` int32 [N], an index into `classes` where those have names.
    Raises ValueError if lengths differ.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        source: Source | None = None,
        classes: Sequence[str] = (),
    ):
        self._arrays = dict(arrays)
        self.source = source
        self.classes = tuple(classes)
        sizes = {key: len(array) for key, array in self._arrays.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"arrays of lengths {sizes}; expected at least one, all equally long")
        self.size = next(iter(sizes.values()))

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{key}: {value.dtype} {value.shape}" for key, value in self.items())
        classes = f"; classes {', '.join(self.classes)}" if self.classes else ""
        return f"Examples({arrays}{classes}; {self.source})"

    def take(self, indices: Any) -> Examples:
        """The examples at `indices` (integers [M], a slice or a mask [N]), source kept."""
        taken = {key: array[indices] for key, array in self.items()}
        return Examples(taken, self.source, self.classes)

    def spread(self, count: int) -> Examples:
        """At most so many examples, evenly spaced from the first to the last."""
        places = np.linspace(0, self.size - 1, min(count, self.size))
        return self.take(places.round().astype(int))

    def hold_out(self, count: int, *, seed: int | None = None) -> tuple[Examples, Examples]:
        """The examples without and with `count` of them: the last ones, or a seed's random choice.

        Raises ValueError unless both parts have examples.
        """
        if not 0 < count < self.size:
            raise ValueError(f"got count={count}, expected 1 to {self.size - 1}: some are left")
        if seed is None:
            return self.take(slice(-count)), self.take(slice(-count, None))
        order = np.random.default_rng(seed).permutation(self.size)
        return self.take(order[:-count]), self.take(order[-count:])

    def only(self, *keys: str) -> Examples:
        """The same examples with these keys alone; raises KeyError if there is no such key."""
        return Examples({key: self[key] for key in keys}, self.source, self.classes)


class Reader:
    """Random access to a prepared split: `reader(indices [M]) -> {key: array [M,...] or list}`.

    A key whose values differ in shape, or are no arrays, comes as a list of M. Pickles, and may be
    called by several threads at once. `classes` are the names of the labels 0, 1, ...; `prepared`
    is the set that is read, None where it is absent.
    """

    def __init__(
        self,
        records: Any,
        source: Source,
        classes: Sequence[str],
        keys: tuple[str, ...],
        reading: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
        prepared: Prepared | None = None,
    ):
        self._records, self._reading = records, reading
        self.prepared = prepared
        self.source = source
        self.classes = tuple(classes)
        self.size = source.size
        self.keys = keys

    @property
    def absent(self) -> bool:
        """Whether the set is not on this machine, and known by the record of a run alone."""
        return self._records is None

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray | list]:
        """Read and decode the examples at `indices`, integers [M] from 0 to size - 1.

        Raises TypeError for anything but integers [M], IndexError for one out of range, DataError
        for files that are damaged.
        """
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise TypeError(f"indices: {wanted.dtype} {wanted.shape}; expected integers [M]")
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.size:
            raise IndexError(
                f"indices: {wanted.min()} to {wanted.max()}; expected 0 to {self.size - 1}"
            )
        if self.absent:
            assert self.source.record is not None
            raise absent(self.source.record)
        with self._reading():
            return _columns(self._records, wanted.tolist(), self.keys)


def open_reader(name: str, split: str, *, without: Sequence[str] = ()) -> Reader:
    """Open a split (TFDS's slice syntax) of a prepared set, for sets too large for memory.

    Looks, prepares and raises as `load` does. Of its records, the first and the last are read. The
    keys `without` are neither decoded nor read: without "image", boxes come a hundred times faster.
    """
    return reader_of(find(name), split, without)


def reader_of(found: Prepared | SetRecord, split: str, without: Sequence[str] = ()) -> Reader:
    """The reader that `open_reader` gives of a set that was found."""
    slices = slices_of(found, split)
    if isinstance(found, SetRecord):
        keys = tuple(key for key in found.keys if key not in without)
        return Reader(None, _source(found, split, slices, dict), found.classes, keys)
    try:
        records = _records(found, split, without)
    except Damaged as error:
        records = _records(found := again(found, error), split, without)
    features = records.dataset_info.features
    source = _source(found, split, slices, lambda: _of_features(features))
    reading = partial(on_disk.reading, found.path, remedy(found))
    keys = tuple(key for key in features if key not in without)
    return Reader(records, source, found.classes, keys, reading, found)


def _records(found: Prepared, split: str, without: Sequence[str] = ()) -> Any:
    """TFDS's random access to a split. Raises Damaged where its ends cannot be read."""
    with on_disk.reading(found.path, remedy(found)):
        import tensorflow_datasets as tfds

        skipped = {key: tfds.decode.SkipDecoding() for key in without}
        records = _builder(found).as_data_source(split=split, decoders=skipped)
        if len(records):
            records[0], records[len(records) - 1]
        return records


def load(name: str, split: str) -> Examples:
    """Load a split of a set into memory; `split` is in TFDS's slice syntax: "train[:50%]+test".

    Looks for a set we prepared (prepared again if raw files on the machine are others), raw files,
    a set the user prepared with TFDS, and, where `looking` allows, an imitation. Decoded arrays
    are kept beside the prepared sets, where that folder can be written, and mapped into memory.
    What is damaged of all these is made again where its raw files are there. Inside `recorded`, a
    set that is absent is known by its record, and reading it is what fails. Raises DataError if
    nothing is found, the files are bad, there is no such split, or examples differ in shape.
    """
    found = find(name)
    slices = slices_of(found, split)
    if isinstance(found, SetRecord):
        return _absent_examples(found, _source(found, split, slices, dict))
    try:
        pieces = _pieces(found, slices)
    except Damaged as error:
        pieces = _pieces(found := again(found, error), slices)
    arrays = pieces[0]
    if len(pieces) > 1:
        arrays = {key: np.concatenate([piece[key] for piece in pieces]) for key in arrays}
    keys = {key: (array.shape[1:], array.dtype.str) for key, array in arrays.items()}
    return Examples(arrays, _source(found, split, slices, lambda: dict(keys)), found.classes)


def _pieces(found: Prepared, slices: list[tuple[str, int, int]]) -> list[dict[str, np.ndarray]]:
    return [
        {key: array[start:stop] for key, array in _decoded(found, part).items()}
        for part, start, stop in slices
    ]


def _absent_examples(record: SetRecord, source: Source) -> Examples:
    def read() -> np.ndarray:
        raise absent(record)

    arrays: dict[str, Any] = {}
    for key, (shape, dtype) in record.keys.items():
        if None in shape:
            raise absent(record)  # `load` takes no ragged set
        arrays[key] = Later((source.size, *shape), dtype, read)  # type: ignore[arg-type]
    return Examples(arrays, source, record.classes)


def _source(
    found: Prepared | SetRecord,
    split: str,
    slices: list[tuple[str, int, int]],
    keys: Callable[[], dict[str, tuple[tuple[int | None, ...], str]]],
) -> Source:
    size = sum(stop - start for _, start, stop in slices)
    record = found if isinstance(found, SetRecord) else SetRecord(
        found.name, found.version, found.origin, found.splits, found.classes, keys()
    )  # fmt: skip
    return Source(found.name, found.version, split, found.origin, size, record)


def _of_features(features: Any) -> dict[str, tuple[tuple[int | None, ...], str]]:
    """Shapes and dtypes of TFDS's features; what is no array is a list of unknown length."""
    arrays = {k: f for k, f in features.items() if isinstance(f.shape, tuple)}
    return {
        key: (tuple(f.shape), np.dtype(f.np_dtype).str) if key in arrays else ((None,), "object")
        for key, f in features.items()
    }


def _builder(prepared: Prepared) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(prepared.path)


def slices_of(prepared: Prepared | SetRecord, split: str) -> list[tuple[str, int, int]]:
    """The pieces (split, start, stop) that a split in TFDS's syntax names, in order.

    Raises DataError for a split that the set has not.
    """
    sizes = prepared.splits
    if split in sizes:  # the usual case needs no import of TFDS
        return [(split, 0, sizes[split])]
    import tensorflow_datasets as tfds

    try:
        read = tfds.core.ReadInstruction.from_spec(split)
        sizes_known = {name: SimpleNamespace(num_examples=n) for name, n in sizes.items()}
        pieces = read.to_absolute(sizes_known)
    except (ValueError, KeyError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{prepared.name}: no split {split!r} ({reason}); expected one of {', '.join(sizes)}, "
            "or slices of them such as train[:50%]"
        ) from None
    return [
        (name, piece.from_ or 0, sizes[name] if piece.to is None else piece.to)
        for piece in pieces
        for name in [piece.splitname]
    ]


def _columns(records: Any, indices: list[int], keys: Sequence[str]) -> dict[str, np.ndarray | list]:
    """Read these keys of records: {key: stacked values}, or lists of values that do not stack."""
    rows = records.__getitems__(indices)
    features = records.dataset_info.features
    return {key: _stack(key, [row[key] for row in rows], features[key]) for key in keys}


def _stack(key: str, values: list, feature: Any) -> np.ndarray | list:
    inner = getattr(feature, "feature", None)
    if inner is not None and inner.shape == ():  # a sequence of numbers
        values = [np.asarray(value, inner.np_dtype) for value in values]
    nested = any(isinstance(value, dict | list) for value in values)
    if nested or len({np.shape(value) for value in values}) != 1:
        return values
    stacked = np.stack(values)
    if stacked.ndim > 1 or stacked.dtype.kind not in "iufb":
        return stacked
    # TFDS hands numbers over as Python's, whatever the feature's type; a label is int64 to it.
    return stacked.astype(np.int32 if key == "label" else feature.np_dtype, copy=False)


def _decoded(prepared: Prepared, split: str) -> dict[str, np.ndarray]:
    """All examples of a split, as they are kept; decoded and kept if need be and if possible."""
    with on_disk.reading(prepared.path, remedy(prepared)):
        folder = decoded.folder_of(prepared, split)
        arrays = decoded.read(folder, prepared.splits[split])
        if arrays is None:
            arrays = _decode(prepared, split)
            if folder == decoded.folder_of(prepared, split):  # it was not prepared again meanwhile
                with contextlib.suppress(places.NotWritable):
                    arrays = decoded.write(prepared, split, folder, arrays)
    return arrays


def _decode(prepared: Prepared, split: str) -> dict[str, np.ndarray]:
    """All examples of a split, in memory and read-only."""
    records = _builder(prepared).as_data_source(split=split)
    keys = tuple(records.dataset_info.features)
    arrays: dict[str, np.ndarray] = {}
    for start in range(0, len(records), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(records))
        for key, values in _columns(records, list(range(start, stop)), keys).items():
            whole = arrays.get(key)
            if isinstance(values, list) or (
                whole is not None and whole.shape[1:] != values.shape[1:]
            ):
                raise DataError(
                    f"{prepared.path}: `{key}` differs in shape between examples or is no array; "
                    "expected values that stack; read this set with open_reader, or, if it is of "
                    "images of your own, prepare it with --size"
                )
            if whole is None:
                whole = np.empty((len(records), *values.shape[1:]), values.dtype)
            longer = np.promote_types(whole.dtype, values.dtype)  # text may become longer
            arrays[key] = whole.astype(longer, copy=False)
            arrays[key][start:stop] = values
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
