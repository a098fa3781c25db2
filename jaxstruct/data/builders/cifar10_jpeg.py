"""CIFAR-10 as JPEG files in class folders: train/CLASS/x.jpg and test/CLASS/x.jpg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxstruct.data import class_folders
from jaxstruct.data.builders import class_label, info
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.class_folders import ClassFolders

_ENTRY = CATALOGUE["cifar10_jpeg"]


class Cifar10Jpeg(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of CIFAR-10's JPEG files; `manual_dir` holds their archive, or both folders."""

    VERSION = tfds.core.Version(_ENTRY.version)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the archive"

    def _info(self) -> Any:
        image = tfds.features.Image(shape=(32, 32, 3))
        return info(self, {"image": image, "label": class_label(self)}, in_order=False)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        path = _ENTRY.files[0].find(folder)
        found = class_folders.scan(path if path and path.is_file() else folder)
        class_folders.expect(found, _ENTRY.classes, ("train", "test"))
        return {split: self._generate_examples(found, split) for split in found.files}

    def _generate_examples(self, found: ClassFolders, split: str) -> Iterator[Any]:
        for file, label, content in class_folders.images(found, split, shape=(32, 32)):
            yield file, {"image": content, "label": label}


BUILDER = Cifar10Jpeg
