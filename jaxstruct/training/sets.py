"""The sets that an experiment reads, and whether a run resumes on those that it began on.

What may be added: another property of a set that a run depends on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstruct.data import Examples, SetRecord
from jaxstruct.training import workdir as files
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Experiment


def data_of(experiment: Experiment) -> list[dict[str, Any]]:
    """The sets that the experiment and its stages read."""
    found = [source.plain() for source in experiment.data]
    for read in (part.read for s in experiment.stages for part in s.batches.parts.values()):
        source = getattr(read, "source", None)
        if isinstance(read, Examples) and source is None:
            about: dict[str, Any] = {"name": "given arrays", "origin": "user", "size": read.size}
        elif source is None:
            about = {"name": "given arrays", "origin": "user"}
        else:
            about = source.plain()
        if about not in found:
            found.append(about)
    return found


def sets_of(experiment: Experiment) -> list[SetRecord]:
    """What a machine without these sets must know about them, to predict."""
    reads = [part.read for stage in experiment.stages for part in stage.batches.parts.values()]
    sources = [*experiment.data, *(getattr(read, "source", None) for read in reads)]
    return [*{s.record.name: s.record for s in sources if s is not None and s.record}.values()]


def check_sets(
    workdir: Path, data: Sequence[Mapping[str, Any]], records: Sequence[SetRecord]
) -> None:
    """Raises RunError where a run would resume on other data than it began on, naming them.

    `data` and `records` are what `data_of` and `sets_of` give now; config.json has the former ones.
    What was not read may differ: splits, further keys of the examples.
    """
    before = (files.read_config(workdir) or {}).get("data", [])
    found = [*_of_splits(before, data), *_of_sets(before, files.stored_sets(workdir), records)]
    if found:
        raise RunError(
            f"{workdir} is a run on other data: {', '.join(found)}; put the former data back, or "
            "choose another --workdir"
        )


def _of_splits(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Where version, origin or size of a split that was read are others now."""
    for old in before:
        name = _named(old)
        changes = [
            [f"{name} had {k} {v} and has {new[k]}" for k, v in old.items() if new.get(k, v) != v]
            for new in now
            if _named(new) == name
        ]
        if changes and all(changes):
            yield from changes[0]


def _of_sets(
    data: Sequence[Mapping[str, Any]], before: Sequence[SetRecord], now: Sequence[SetRecord]
) -> Iterator[str]:
    """Where the classes or keys of a set, or a split of which a part was read, are others now."""
    known = {record.name: record for record in now}
    for old in (record for record in before if record.name in known):
        new = known[old.name]
        read = [str(one.get("split", "")) for one in data if one["name"] == old.name]
        parts = {part.partition("[")[0].strip() for split in read for part in split.split("+")}
        for split in sorted(parts - {*read} & {*old.splits}):
            if new.splits.get(split) != old.splits[split]:
                yield (
                    f"{old.name} {split} had size {old.splits[split]} and has "
                    f"{new.splits.get(split)}"
                )
        pairs = itertools.zip_longest(old.classes, new.classes)
        for i, (was, is_now) in enumerate(pairs):
            if was != is_now:
                yield f"{old.name} had {was!r} as class {i} and has {is_now!r}"
                break
        for key, kind in old.keys.items():
            if new.keys.get(key) != kind:
                yield f"{old.name} had {key} of {kind} and has {new.keys.get(key)}"


def _named(source: Mapping[str, Any]) -> str:
    return " ".join(str(source[key]) for key in ("name", "split") if key in source)
