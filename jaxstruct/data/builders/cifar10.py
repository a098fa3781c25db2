"""CIFAR-10 from its official batches for Python, in their archive or unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxstruct.data import archives, pickles
from jaxstruct.data.builders import class_label, info, labelled
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.errors import DataError

_ENTRY = CATALOGUE["cifar10"]
_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_EXPECTED = (
    "the batches for Python, data_batch_1 to data_batch_5 and test_batch, each a pickle of a dict "
    "with `data`, uint8 [N, 3072], and `labels`, N integers from 0 to 9"
)


def read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read and check the batches: {"train" and "test": (images [N,32,32,3], labels [N]), uint8}.

    In official order, from the archive or the folder. Raises DataError that names the file and what
    was expected in it.
    """
    wanted = {name for names in _BATCHES.values() for name in names}
    found = {}
    for inside, content in archives.files(path, _EXPECTED):
        name = inside.split("/")[-1]
        if name in wanted:
            found[name] = _batch(content(), path / inside)
    for name in sorted(wanted - set(found)):
        raise DataError(f"{path / name}: missing; expected {_EXPECTED}; get the archive again")
    return {
        split: (
            np.concatenate([found[name][0] for name in names]),
            np.concatenate([found[name][1] for name in names]),
        )
        for split, names in _BATCHES.items()
    }


def _batch(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    batch = pickles.read(content, path, _EXPECTED)
    keys = batch if isinstance(batch, dict) else ()
    if lacking := [key for key in ("data", "labels") if key not in keys]:
        without = " and ".join(f"`{key}`" for key in lacking)
        raise DataError(f"{path}: a {type(batch).__name__} without {without}; expected {_EXPECTED}")
    rows, labels = batch["data"], batch["labels"]
    if not isinstance(rows, np.ndarray) or rows.shape[1:] != (3072,) or not len(rows):
        found = list(rows.shape) if isinstance(rows, np.ndarray) else f"a {type(rows).__name__}"
        raise DataError(f"{path}: `data` is {found}; expected {_EXPECTED}")
    if not isinstance(labels, list):
        raise DataError(f"{path}: `labels` is a {type(labels).__name__}; expected {_EXPECTED}")
    if len(labels) != len(rows):
        raise DataError(f"{path}: {len(labels)} labels; expected {len(rows)}, one an image")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label <= 9:
            raise DataError(
                f"{path}: label {pickles.short(label)} of example {index}; expected 0 to 9"
            )
    images = np.asarray(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, np.array(labels, np.uint8)


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of CIFAR-10; `manual_dir` holds the archive, or the folder of the batches."""

    VERSION = tfds.core.Version(_ENTRY.version)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the archive for Python"

    def _info(self) -> Any:
        image = tfds.features.Image(shape=(32, 32, 3))
        return info(self, {"image": image, "label": class_label(self)})

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        splits = read(_ENTRY.files[0].find(folder) or folder)
        return {name: self._generate_examples(*pair) for name, pair in splits.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
        return labelled(images, labels)


BUILDER = Cifar10
