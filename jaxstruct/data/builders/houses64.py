"""Rooms and fronts of houses from class folders: ROOM/N.jpg, in which N is the house."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxstruct.data import class_folders
from jaxstruct.data.builders import class_label, info
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.class_folders import ClassFolders
from jaxstruct.data.errors import DataError

_ENTRY = CATALOGUE["houses64"]


class Houses64(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of the houses; `manual_dir` holds the four folders."""

    VERSION = tfds.core.Version(_ENTRY.version)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the four folders"

    def _info(self) -> Any:
        image = tfds.features.Image(shape=(64, 64, 3))
        features = {"image": image, "label": class_label(self), "house": np.int32}
        return info(self, features, in_order=False)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        found = class_folders.scan(Path(dl_manager.manual_dir))
        class_folders.expect(found, _ENTRY.classes, ("train",))
        splits: dict[str, dict[str, int]] = {"train": {}, "test": {}}
        for file, label in found.files["train"].items():
            # All images of a house are in one split.
            splits["train" if _house(found.path / file) % 5 else "test"][file] = label
        found = dataclasses.replace(found, files=splits)
        return {split: self._generate_examples(found, split) for split in splits}

    def _generate_examples(self, found: ClassFolders, split: str) -> Iterator[Any]:
        for file, label, content in class_folders.images(found, split, shape=(64, 64)):
            yield file, {"image": content, "label": label, "house": _house(Path(file))}


def _house(path: Path) -> int:
    if not re.fullmatch("[0-9]{1,6}", path.stem):
        raise DataError(f"{path}: expected the number of a house as its name")
    return int(path.stem)


BUILDER = Houses64
