"""Proposals of a prepared set: made once, kept beside it, and read with its examples.

What may be added: another method that proposes boxes, with a kind of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxstruct import machine
from jaxstruct.data import places
from jaxstruct.data.errors import DataError
from jaxstruct.data.on_disk import Prepared
from jaxstruct.data.prepared import locate
from jaxstruct.data.progress import progress
from jaxstruct.data.proposal_files import read_proposals
from jaxstruct.data.proposal_store import (
    SEARCHED,
    Kept,
    check_writable,
    options_of,
    path_of,
    read,
    read_part,
    record_of,
    write,
    write_part,
)
from jaxstruct.data.selective_search import check_options, selective_search
from jaxstruct.data.sources import Reader, reader_of, slices_of

_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PART = 100  # images of a search that are kept while it goes on
_BEYOND = 0.01  # pixels that a box may reach over the border, by rounding


Result = TypeVar("Result")


@dataclass(frozen=True)
class StoredProposals:
    """Proposals of a set on the disk: their folder, and the images of the splits asked for.

    `boxes` is the mean number of boxes an image; `seconds` the mean time of a core that the search
    took for an image, None for proposals of a user's own.
    """

    name: str
    kind: str
    path: Path
    splits: dict[str, int]
    boxes: float
    seconds: float | None = None


def propose(
    name: str,
    splits: Sequence[str] | None = None,
    *,
    mode: str = "fast",
    width: int | None = 320,
    workers: int | None = None,
) -> StoredProposals:
    """Search proposals for all images of splits of a prepared set, and keep them beside it.

    Args:
        name: of a set, found or prepared as `load` does.
        splits: whole ones, all without it. A split that is done with these options stays.
        mode, width: see `selective_search`; the kind is `selective_search-fast-320`, or -full.
        workers: threads that search at once, by default one for each core that may be used.

    A split is stored when it is done. A search that was interrupted goes on where it was, to the
    hundred images, as long as the set and OpenCV are the same. Raises ValueError for other options,
    and DataError as `load` does, for a set without images, for a full disk, and, before anything is
    searched, for a folder that cannot be written.
    """
    check_options(mode, width)
    kind = f"{SEARCHED}{mode}-{width or 'full'}"
    prepared = locate(name)
    wanted = _whole(prepared, splits)
    for split in wanted:
        if not _is_done(prepared, kind, split):
            _search(prepared, kind, split, mode, width, workers)
    return _stored(prepared, kind, wanted)


def keep_proposals(
    name: str, path: str | PathLike[str], kind: str, splits: Sequence[str] | None = None
) -> StoredProposals:
    """Keep proposals of a user's own beside a prepared set, under a kind that the user names.

    Args:
        name: of a set whose examples have a `name`, as those in PASCAL VOC's and COCO's layouts.
        path: what `read_proposals` reads; it may have other images, too.
        kind: letters, digits and _.-, and not `selective_search-...`.
        splits: whole ones, all without it.

    Raises ValueError for another kind, and DataError as `read_proposals` and `load` do, for an
    image that has no proposals, and a box that is not within its image.
    """
    _check_kind(kind)
    if kind.startswith(SEARCHED):
        raise ValueError(f"kind {kind!r} is of proposals that are searched here, expected another")
    given, prepared = read_proposals(path), locate(name)
    file = places.given(path).absolute()
    wanted = _whole(prepared, splits)
    check_writable(prepared, kind)
    found = {}
    for split in wanted:
        reader, record = _begin(prepared, split, "image", "name")

        def one(index: int, split: str = split, reader: Reader = reader) -> np.ndarray:
            example = reader(np.array([index]))
            called = example["name"][0].decode()
            if called not in given:
                raise DataError(
                    f"{file}: nothing for image {called!r:.80} of the split {split}; expected "
                    "boxes for each image (--split names the splits that the file is for)"
                )
            return _within(file, called, given[called], example["image"][0].shape)

        boxes = [*_of_each(one, range(reader.size), None, f"{name}, {split}")]
        found[split] = boxes, {**record, "file": str(file)}
    for split, (boxes, record) in found.items():
        write(prepared, kind, split, boxes, record)
    return _stored(prepared, kind, wanted)


def with_proposals(reader: Reader, kind: str) -> ReaderWithProposals:
    """A reader of the same examples that have the key `proposals`, too: a list of float32 [n, 4].

    `reader` is what `open_reader` gives, of any slice or sum of splits. That of a set which is not
    on this machine stays so. `kind` is what `keep_proposals` was told, or one that `propose` makes,
    such as "selective_search-fast-320". Proposals are looked for when examples are first read.
    Raises ValueError for a kind that is no name, and for examples that have proposals of their own.
    """
    _check_kind(kind)
    if "proposals" in reader.keys:
        raise ValueError(f"{reader.source.name} has `proposals` of its own, expected a set without")
    return ReaderWithProposals(reader, kind)


def searched(kind: str, image: np.ndarray) -> np.ndarray:
    """What `selective_search` finds in an image with the options of a kind, float32 [n, 4].

    `kind` is one that `propose` makes, such as "selective_search-fast-320". Raises ValueError for
    a user's own, which cannot be made of another image, and as `selective_search` does.
    """
    options = options_of(kind)
    if options is None:
        raise ValueError(
            f"proposals {kind!r:.80} are a user's own, and of no other image; expected a kind such "
            "as selective_search-fast-320"
        )
    return selective_search(image, **options)


class ReaderWithProposals(Reader):
    """A reader whose examples have `proposals`, which it looks for once: see `ready`.

    A copy by pickle has what was found, so that it is not looked for in each of several processes.
    """

    def __init__(self, reader: Reader, kind: str):
        self._reader, self._kind = reader, kind
        self._found: Kept | None = None
        self.prepared, self.source, self.size = reader.prepared, reader.source, reader.size
        self.classes, self.keys = reader.classes, (*reader.keys, "proposals")

    @property
    def absent(self) -> bool:
        """As the reader without proposals."""
        return self._reader.absent

    @property
    def seconds(self) -> float | None:
        """The mean time of a core that an image's search took, if known; raises as `ready` does."""
        found = self._look()
        return found and found.seconds

    def ready(self) -> None:
        """Look for the proposals now, not when examples are first read; does nothing a second time.

        Of those that `propose` makes, what is missing is searched, which may take hours: best in
        the main thread, which can be interrupted. Raises DataError that names the command to run
        where a user's own are missing, or where proposals are damaged or of other examples than the
        set has; and as `propose` does.
        """
        self._look()

    def __call__(self, indices: np.ndarray) -> dict[str, np.ndarray | list]:
        """What the reader without proposals reads, and raises, and the proposals; see `ready`."""
        read = self._reader(indices)
        found = self._look()
        assert found is not None  # an absent set is not read
        return {**read, "proposals": [found.boxes[i] for i in np.asarray(indices)]}

    def __getstate__(self) -> dict[str, Any]:
        self._look()
        return self.__dict__

    def _look(self) -> Kept | None:
        """What is stored for its examples; None of a set that is absent."""
        if self._found is None and self.prepared is not None:
            with _LOOKING:
                if self._found is None:
                    self._found = _found(self.prepared, self.source.split, self._kind)
        return self._found


_LOOKING = threading.Lock()  # since a search keeps all cores busy


def _found(prepared: Prepared, split: str, kind: str) -> Kept:
    """The proposals of a slice or sum of splits; of a kind that is searched, made where missing."""
    slices = slices_of(prepared, split)
    options = options_of(kind)
    missing = {s for s, *_ in slices if not path_of(prepared, kind, s).exists()}
    if options and missing:
        print(f"{prepared.name}: searching proposals {kind} (once)", file=sys.stderr)
        for part in sorted(missing):
            _search(prepared, kind, part, **options)
    kept = {split: read(prepared, kind, split) for split, _, _ in slices}
    boxes = [one for split, start, stop in slices for one in kept[split].boxes[start:stop]]
    times = [(kept[split].seconds, stop - start) for split, start, stop in slices]
    return Kept(boxes, _mean_seconds(times))


def _mean_seconds(parts: Sequence[tuple[float | None, int]]) -> float | None:
    """The mean of an image, of parts with so many images; None where one is not known."""
    known = [seconds * images for seconds, images in parts if seconds is not None]
    images = sum(images for _, images in parts)
    return sum(known) / images if len(known) == len(parts) and images else None


def _check_kind(kind: str) -> None:
    if not _KIND.fullmatch(kind):
        raise ValueError(f"kind {kind!r:.80}, expected up to 100 letters, digits and _.-")
    if kind.startswith(SEARCHED) and not options_of(kind):
        raise ValueError(
            f"kind {kind!r:.80} of proposals that are searched, expected a mode and a width, such "
            f"as {SEARCHED}fast-320 or {SEARCHED}quality-full"
        )


def _whole(prepared: Prepared, splits: Sequence[str] | None) -> list[str]:
    splits = [splits] if isinstance(splits, str) else splits
    for split in splits or ():
        if split not in prepared.splits:
            raise DataError(
                f"{prepared.name}: no split {split!r} as a whole; expected some of "
                f"{', '.join(prepared.splits)}"
            )
    return list(dict.fromkeys(splits or prepared.splits))


def _begin(prepared: Prepared, split: str, *keys: str) -> tuple[Reader, dict[str, Any]]:
    """A reader of examples that have these keys, and the begin of the record."""
    reader = reader_of(prepared, split)
    if missing := [key for key in keys if key not in reader.keys]:
        raise DataError(
            f"{prepared.name}: its examples have no {' and no '.join(missing)}, but "
            f"{', '.join(sorted(reader.keys))}; expected {' and '.join(keys)}"
        )
    return reader, record_of(reader.prepared or prepared, split)


def _search(
    prepared: Prepared,
    kind: str,
    split: str,
    mode: str,
    width: int | None,
    workers: int | None = None,
) -> None:
    import cv2

    check_writable(prepared, kind)
    reader, record = _begin(prepared, split, "image")
    record |= {"mode": mode, "width": width, "opencv": cv2.__version__}

    def one(index: int) -> tuple[np.ndarray, float]:
        image = reader(np.array([index]))["image"][0]
        begin = time.thread_time()
        boxes = selective_search(image, mode=mode, width=width)
        return boxes, time.thread_time() - begin

    size = reader.size
    spans = [range(start, min(start + PART, size)) for start in range(0, size, PART)]
    parts = {span: read_part(prepared, kind, split, span, record) for span in spans}
    missing = [span for span, part in parts.items() if part is None]
    indices = [index for span in missing for index in span]
    what = f"{prepared.name}, {split}"
    if len(indices) < size:
        print(f"{what}: {size - len(indices):,} images were searched before", file=sys.stderr)
    with contextlib.closing(_of_each(one, indices, workers, what)) as results:
        for span in missing:
            boxes, times = zip(*itertools.islice(results, len(span)), strict=True)
            part = Kept([*boxes], sum(times) / len(times))
            write_part(prepared, kind, split, span, part, record)
            parts[span] = part
    found = [part for part in parts.values() if part]
    record["seconds"] = _mean_seconds([(part.seconds, len(part.boxes)) for part in found])
    write(prepared, kind, split, [boxes for part in found for boxes in part.boxes], record)


def _of_each(
    one: Callable[[int], Result], indices: Sequence[int], workers: int | None, what: str
) -> Generator[Result, None, None]:
    """What a function gives of each index, in order; several threads call it.

    Threads serve as well as processes here, since OpenCV lets other threads run meanwhile.
    """
    pool = ThreadPoolExecutor(machine.cores() if workers is None else workers)
    try:
        results = [pool.submit(one, index) for index in indices]
        with progress(what, len(indices)) as advance:
            for result in results:
                found = result.result()
                advance()  # before the last one is taken: nothing asks for another
                yield found
    finally:
        pool.shutdown(cancel_futures=True)


def _within(file: Path, name: str, boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The boxes [n, 4], clipped by no more than rounding; raises DataError for one beyond."""
    most = np.array([shape[1], shape[0]] * 2, np.float32)
    beyond = ((boxes < -_BEYOND) | (boxes > most + _BEYOND)).any(axis=1)
    if beyond.any():
        said = ", ".join(f"{side:g}" for side in boxes[beyond][0])
        raise DataError(
            f"{file}: box {said} of image {name!r:.80} reaches beyond its {shape[1]} x {shape[0]} "
            "pixels; expected x1, y1, x2, y2 within them"
        )
    return np.clip(boxes, 0, most)


def _is_done(prepared: Prepared, kind: str, split: str) -> bool:
    try:
        read(prepared, kind, split)
    except DataError:
        return False
    return True


def _stored(prepared: Prepared, kind: str, splits: list[str]) -> StoredProposals:
    kept = [read(prepared, kind, split) for split in splits]
    sizes = {split: len(one.boxes) for split, one in zip(splits, kept, strict=True)}
    total = max(sum(sizes.values()), 1)
    boxes = sum(len(image) for one in kept for image in one.boxes) / total
    seconds = _mean_seconds([(one.seconds, len(one.boxes)) for one in kept])
    return StoredProposals(
        prepared.name, kind, path_of(prepared, kind, "").parent, sizes, boxes, seconds
    )
