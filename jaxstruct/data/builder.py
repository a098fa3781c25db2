"""The TFDS builder of a set, made of its entry, and the set that it builds, put into its place.

What may be added: nothing of one set.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxstruct.data import on_disk, places
from jaxstruct.data.entry import Entry
from jaxstruct.data.errors import DataError
from jaxstruct.data.kinds import kinds_of


def builder(called: str, entry: Entry, raw: Path | None = None) -> Any:
    """The TFDS builder class of a set that is `called` so, whose raw files are in the folder `raw`.

    Raises ValueError for an entry that declares the kind of a key it has not.
    """
    import tensorflow_datasets as tfds

    features = entry.features(tfds.features)
    kinds_of(features, entry.kinds)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """TFDS builder of one set."""

        name = called
        VERSION = tfds.core.Version(entry.version)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=entry.description,
                citation=entry.citation,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=entry.in_order,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            splits = entry.read(raw)
            return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

        def _generate_examples(self, split: str, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
            position = -1
            for position, (key, example) in enumerate(pairs):
                # TFDS sorts by key what it does not shuffle, if keys are integers.
                yield position if entry.in_order else key, example
            if position < 0:
                raise DataError(f"{raw or called}: no example of the split {split}; expected some")

    return Builder


def build(
    name: str,
    entry: Entry,
    target: Path,
    origin: str,
    made_of: Any,
    raw: Path | None = None,
    *,
    replace: bool = False,
) -> on_disk.Prepared:
    """Let TFDS make a set of the raw files in the folder `raw`, and put it into its place.

    What is there is kept where another process has made it of the same, unless it is to `replace`.
    """
    import tensorflow_datasets as tfds

    root = target.parents[1]
    with places.workshop(root) as folder, _quiet(tfds):
        making = builder(name, entry, raw)(data_dir=folder, file_format="array_record")
        making.download_and_prepare()
        made = Path(making.data_path)
        _check_written(tfds, made)
        on_disk.write_record(made, origin, made_of)
        install(made, target, replace)
        return on_disk.described(name, target, origin, entry.classes)


def _check_written(tfds: Any, made: Path) -> None:
    """The writer of the records says nothing where the disk is full."""
    written = tfds.builder_from_directory(made)
    for split, info in written.info.splits.items():
        if info.num_examples:
            try:
                records = written.as_data_source(split=split)
                records[0], records[info.num_examples - 1]
            except Exception as error:
                reason = str(error).split("\n")[0]
                raise OSError(errno.ENOSPC, f"what was written cannot be read: {reason}") from None


@contextlib.contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def install(made: Path, target: Path, replace: bool = False) -> None:
    """Rename a whole folder into place, unless another process has put the same there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(100):
        try:
            os.rename(made, target)  # fails where a folder that is not empty stands
            return
        except OSError:
            if not replace and _are_equal(made, target):
                return
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, made.parent / f"replaced-{attempt}")
    raise DataError(f"{target}: cannot be replaced; expected a folder that can be written")


def _are_equal(made: Path, target: Path) -> bool:
    """Whether two sets are whole, and made of the same."""
    try:
        records = [
            on_disk.read("", path, "") and on_disk.read_record(path) for path in (made, target)
        ]
    except (DataError, OSError, ValueError):
        return False
    ours, theirs = ({**(record or {}), "files": None, "stamps": None} for record in records)
    return ours == theirs and None not in records
