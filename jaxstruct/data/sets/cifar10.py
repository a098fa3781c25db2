"""CIFAR-10 from its official batches for Python, in their archive or unpacked."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxstruct.data import archives, pickles, shapes
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.errors import DataError
from jaxstruct.data.sets import _cifar10, _labelled

_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_EXPECTED = (
    "the batches for Python, data_batch_1 to data_batch_5 and test_batch, each a pickle of a dict "
    "with `data`, uint8 [N, 3072], and `labels`, N integers from 0 to 9"
)


def read(folder: Path) -> dict[str, Iterator[tuple[int, dict]]]:
    """The examples of both splits, in official order."""
    (archive,) = ENTRY.files
    return _labelled.examples(images_and_labels(archive.path(folder)))


def images_and_labels(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read and check the batches: {"train" and "test": (images [N,32,32,3], labels [N]), uint8}.

    In official order, from the archive or the folder. Raises DataError that names the file and what
    was expected in it.
    """
    wanted = {name for names in _BATCHES.values() for name in names}
    found = {}
    for inside, content in archives.files(path, _EXPECTED):
        name = inside.split("/")[-1]
        if name in found:
            raise DataError(f"{path / inside}: there twice; expected {_EXPECTED}")
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


def imitate(folder: Path) -> None:
    """Write the batches: shapes of ten classes, six times 200."""
    (folder / "cifar-10-batches-py").mkdir()
    for number, name in enumerate([name for names in _BATCHES.values() for name in names]):
        scenes = [shapes.scene(0, index) for index in range(200 * number, 200 * (number + 1))]
        planes = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)
        batch = {
            "batch_label": name,
            "labels": [scene.label for scene in scenes],
            "data": planes.reshape(200, 3072),
            "filenames": [f"{index:05}.png" for index in range(200)],
        }
        content = pickle.dumps(batch, protocol=3)  # the last that writes arrays as the first did
        (folder / "cifar-10-batches-py" / name).write_bytes(content)


ENTRY = Entry(
    version="1.0.0",
    description=(
        "Photographs of ten classes, 32x32 colour: 50,000 to train, 10,000 to test, in "
        "official order."
    ),
    citation=_cifar10.CITATION,
    classes=_cifar10.CLASSES,
    features=_labelled.features((32, 32, 3), _cifar10.CLASSES),
    files=(
        File(
            "cifar-10-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            md5="c58f30108f718f92721af3b95e74349a",  # torchvision has it, too
            also=("cifar-10-batches-py",),
        ),
    ),
    read=read,
    imitate=imitate,
)
