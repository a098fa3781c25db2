"""Sets that a run wrote down: they have names, sizes and classes on a machine without them, too.

What may be added: something else that a run must know of a set to predict without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxstruct.data import places
from jaxstruct.data.errors import DataError
from jaxstruct.data.prepared import Prepared, locate

_SHOWN = 5  # names of classes in an error


@dataclass(frozen=True)
class SetRecord:
    """What a run writes down of a set, so that it can be used where the set is absent.

    `splits` are {split: examples}; `keys` are {key: (shape of one example, dtype)}, with None for
    a length that differs between examples.
    """

    name: str
    version: str
    origin: str
    splits: dict[str, int]
    classes: tuple[str, ...]
    keys: dict[str, tuple[tuple[int | None, ...], str]]

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; `of_plain` is the inverse."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> SetRecord:
        """From what `plain` gave. Raises TypeError, ValueError or KeyError for anything else."""
        texts = [plain["name"], plain["version"], plain["origin"], *plain["classes"]]
        sizes = [*plain["splits"].values()]
        lengths = [length for shape, _ in plain["keys"].values() for length in shape]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a name that is no text")
        if not all(type(n) is int and 0 <= n < 2**63 for n in [*sizes, *filter(None, lengths)]):
            raise ValueError("a size that is no whole number")
        for _, dtype in plain["keys"].values():
            np.dtype(dtype)
        keys = {key: (tuple(shape), dtype) for key, (shape, dtype) in plain["keys"].items()}
        return cls(**{**plain, "classes": tuple(plain["classes"]), "keys": keys})


@contextlib.contextmanager
def recorded(records: Iterable[SetRecord]) -> Iterator[None]:
    """For the code inside: a run knew these sets; where one is absent, its record stands in.

    A set of this machine with another origin or version, with other classes, or without a split of
    the recorded size counts as absent. It may have further splits.
    """
    token = _recorded.set({record.name: record for record in records})
    try:
        yield
    finally:
        _recorded.reset(token)


_recorded: ContextVar[Mapping[str, SetRecord] | None] = ContextVar("recorded", default=None)


def find(name: str) -> Prepared | SetRecord:
    """The prepared set of a name, or what `recorded` says of it; raises as `locate` does."""
    record = (_recorded.get() or {}).get(name)
    if record is None:
        return locate(name)
    imitated = record.origin == "imitation"
    try:
        with contextlib.nullcontext() if imitated else places.without_imitations():
            found = locate(name)
    except DataError:
        return record
    same = all(getattr(found, of) == getattr(record, of) for of in ("origin", "version", "classes"))
    return found if same and record.splits.items() <= found.splits.items() else record


def absent(record: SetRecord) -> DataError:
    """What is raised where a set is read that is known by its record alone."""
    about = ", ".join(f"{split} of {size:,}" for split, size in record.splits.items())
    if record.classes:
        names = ", ".join(record.classes[:_SHOWN])
        more = len(record.classes) - _SHOWN
        about += f"; classes {names}{f' and {more} more' if more > 0 else ''}"
    return DataError(
        f"{record.name}: the set of this run ({record.origin}, version {record.version}: {about}) "
        f"is not on this machine; expected it where examples are read; python -m jaxstruct.data "
        f"describe {record.name} says where it is looked for"
    )
