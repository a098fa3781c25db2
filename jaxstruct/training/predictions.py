"""What `predict` writes: a picture and a JSON file for each image, class maps, one file for all.

What may be added: another kind of value in a record that has a file format of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxstruct.data.label_maps import write_class_map
from jaxstruct.data.names import numbered, taken


class Predictions:
    """The files of one call of `predict`, in a folder; none replaces another that is there."""

    def __init__(self, folder: Path, colors: Any = None):
        self._folder, self._colors = folder, colors
        self._records: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, image: Path | None, record: Mapping[str, Any], figure: Any) -> Path:
        """Writes what was predicted of an image, or the samples without one; returns the picture.

        uint8 arrays [H, W] of the record become index PNGs, whose names stand in their place.
        """
        arrays = {k: x for k, x in record.items() if isinstance(x, np.ndarray | jax.Array)}
        maps = {k: np.asarray(x) for k, x in arrays.items() if (x.ndim, x.dtype) == (2, np.uint8)}
        endings = [".png", ".json", *(f"-{key}.png" for key in maps)]
        stem = self._free("samples" if image is None else image.stem, endings)
        figure.savefig(self._folder / f"{stem}.png")
        about = {"image": str(image) if image else None, **record}
        self._records.append(about)
        written = dict(about)
        for key, labels in maps.items():
            written[key] = f"{stem}-{key}.png"
            write_class_map(self._folder / written[key], labels, self._colors)
        _write_json(self._folder / f"{stem}.json", written)
        return self._folder / f"{stem}.png"

    def collect(self, of_all: Callable[[Sequence[dict]], Mapping[str, Any]] | None) -> list[Path]:
        """Writes what the records of all images become, a JSON file for each name."""
        found = []
        for name, value in (of_all(self._records) if of_all else {}).items():
            stem = self._free(Path(name).stem, [Path(name).suffix or ".json"])
            found.append(self._folder / f"{stem}{Path(name).suffix or '.json'}")
            _write_json(found[-1], value)
        return found

    def _free(self, stem: str, endings: Sequence[str]) -> str:
        """The stem, or one with a number, of whose files none is there."""
        return next(
            name
            for name in numbered(stem)
            if not any(taken(self._folder / f"{name}{ending}") for ending in endings)
        )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
