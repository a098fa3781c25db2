"""The TFDS builder of a set, made of its entry; this is what imports TFDS.

What may be added: nothing of one set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxstruct.data.entry import Entry
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
            return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

        def _generate_examples(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
            for position, (key, example) in enumerate(pairs):
                # TFDS sorts by key what it does not shuffle, if keys are integers.
                yield position if entry.in_order else key, example

    return Builder
