"""Names of files that are written beside a user's: none of them is taken.

What may be added: another rule for such names.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path


def numbered(stem: str) -> Iterator[str]:
    """The stem, then stem-2, stem-3, and so on."""
    yield stem
    yield from (f"{stem}-{i}" for i in itertools.count(2))


def taken(path: Path) -> bool:
    """Whether anything has this name: a file, a folder, a link that leads nowhere."""
    return os.path.lexists(path)


def free_path(path: Path) -> Path:
    """The path, or the first of stem-2, stem-3, ... with its suffix that nothing has."""
    tried = (path.with_name(name + path.suffix) for name in numbered(path.stem))
    return next(one for one in tried if not taken(one))
