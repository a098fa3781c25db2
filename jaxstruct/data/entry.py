"""What a set of the catalogue is: `Entry`, of which every file in sets/ has one, and `File`.

What may be added: a field that several sets need, with a default for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxstruct.data.kinds import Kind


@dataclass(frozen=True)
class File:
    """A raw file or folder: its name, its addresses, and the md5 of what `content` reads."""

    name: str
    urls: tuple[str, ...] = ()  # the official address first; none: it has to be got by hand
    md5: str = ""
    also: tuple[str, ...] = ()  # other names under which it is accepted
    content: Callable[[Path], bytes] = Path.read_bytes

    def find(self, folder: Path) -> Path | None:
        """The path in `folder` under the first of the names that exists there, or None."""
        paths = (folder / name for name in (self.name, *self.also))
        return next((path for path in paths if path.exists()), None)

    def path(self, folder: Path) -> Path:
        """The path that `find` gives, else the one under `name`, at which nothing is."""
        return self.find(folder) or folder / self.name


@dataclass(frozen=True)
class Entry:
    """A set: what it is, its raw files (none: a package has it), how they are read, its imitation.

    `features` is what TFDS is told to store, {key: feature}, given the module
    `tensorflow_datasets.features`, which is not imported where sets are only listed. `read` gives
    {split: pairs of a key and an example} from the folder of the raw files (None without `files`);
    an example is {key: value}, an image as encoded bytes or as a path, because TFDS needs
    TensorFlow to encode an array. It checks what it reads, and raises DataError that names the file
    and what was expected in it.
    """

    version: str  # another one when the examples change, so that the set is prepared again
    description: str
    citation: str
    features: Callable[[Any], dict[str, Any]]
    read: Callable[[Any], Mapping[str, Iterable[tuple[Any, dict[str, Any]]]]]
    classes: tuple[str, ...] = ()  # what the labels 0, 1, ... mean
    files: tuple[File, ...] = ()
    folders: tuple[str, ...] = ()  # that may hold the files, beside the one of the set's name
    by_hand: str = ""  # where to get files that have no address
    imitate: Callable[[Path], None] | None = None  # writes the official layout into a folder
    in_order: bool = True  # as read; else as drawn from the keys, so that a slice has all classes
    kinds: Mapping[str, Kind] = field(default_factory=dict)  # of keys whose name does not say it
