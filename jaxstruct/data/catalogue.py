"""The sets this package knows how to prepare, as plain values: name -> Entry.

What may be added: nothing. A set is a file in sets/, and is found there.
"""

from __future__ import annotations

import importlib
import pkgutil

from jaxstruct.data import sets
from jaxstruct.data.entry import Entry


def find() -> dict[str, Entry]:
    """The `ENTRY` of each file in sets/ without a leading underscore, by the files' names."""
    names = sorted(file.name for file in pkgutil.iter_modules(sets.__path__))
    return {
        name: importlib.import_module(f"{sets.__name__}.{name}").ENTRY
        for name in names
        if not name.startswith("_")
    }


CATALOGUE: dict[str, Entry] = find()
