"""MNIST's format, which other sets took over: four IDX files, compressed or unpacked.

What may be added: what several sets in this format share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxstruct.data import idx
from jaxstruct.data.entry import File
from jaxstruct.data.errors import DataError
from jaxstruct.data.sets import _digits, _labelled

_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def files(mirrors: Sequence[str], *md5s: str) -> tuple[File, ...]:
    """The four files: images and labels to train, images and labels to test."""
    return tuple(
        File(f"{name}.gz", tuple(f"{mirror}{name}.gz" for mirror in mirrors), md5, (name,))
        for name, md5 in zip(_NAMES, md5s, strict=True)
    )


def images_and_labels(
    folder: Path, files: Sequence[File]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read and check the files: {"train" and "test": (images [N,28,28], labels [N]), uint8}.

    Raises DataError that names the file and what was expected in it.
    """
    train_images, train_labels, test_images, test_labels = (file.path(folder) for file in files)
    return {"train": _pair(train_images, train_labels), "test": _pair(test_images, test_labels)}


def read(folder: Path, files: Sequence[File]) -> dict[str, Iterator[tuple[int, dict]]]:
    """The examples of both splits, in official order."""
    return _labelled.examples(images_and_labels(folder, files))


def write_digits(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write the four files of an imitation made of scikit-learn's digits, in their order."""
    parts = slice(None, _digits.TRAIN), slice(_digits.TRAIN, None)
    arrays = [array[part] for part in parts for array in (images, labels)]
    for name, array in zip(_NAMES, arrays, strict=True):
        idx.write(folder / f"{name}.gz", array)


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
