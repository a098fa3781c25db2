"""MNIST, and the sets that took over its format, from four IDX files, compressed or unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxstruct.data import idx
from jaxstruct.data.builders import class_label, info, labelled
from jaxstruct.data.catalogue import CATALOGUE, File
from jaxstruct.data.errors import DataError


def read(folder: Path, files: Sequence[File]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read and check the files: {"train" and "test": (images [N,28,28], labels [N]), uint8}.

    They are the images and labels to train, then those to test. Raises DataError that names the
    file and what was expected in it.
    """
    train_images, train_labels, test_images, test_labels = (
        file.find(folder) or folder / file.name for file in files
    )
    return {"train": _pair(train_images, train_labels), "test": _pair(test_images, test_labels)}


def _pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = idx.read(images_path, 3, "an IDX file of unsigned bytes, N images of 28 x 28")
    labels = idx.read(labels_path, 1, "an IDX file of unsigned bytes, N labels from 0 to 9")
    if not len(images) or images.shape[1:] != (28, 28):
        size = " x ".join(map(str, images.shape))
        raise DataError(f"{images_path}: images of {size}; expected N x 28 x 28, N above 0")
    if len(labels) != len(images):
        raise DataError(
            f"{labels_path}: {len(labels)} labels; expected {len(images)}, one for each image "
            f"of {images_path.name}"
        )
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise DataError(f"{labels_path}: label {labels[first]} of example {first}; expected 0 to 9")
    return images, labels


class Mnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of MNIST; `manual_dir` holds the four files."""

    VERSION = tfds.core.Version(CATALOGUE["mnist"].version)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "the four IDX files"

    def _info(self) -> Any:
        image = tfds.features.Image(shape=(28, 28, 1))
        return info(self, {"image": image, "label": class_label(self)})

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        splits = read(Path(dl_manager.manual_dir), CATALOGUE[self.name].files)
        return {name: self._generate_examples(*pair) for name, pair in splits.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
        return labelled(images, labels)


BUILDER = Mnist
