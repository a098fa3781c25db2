"""Rooms and fronts of houses from class folders: ROOM/N.jpg, in which N is the house."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data import class_folders
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.errors import DataError
from jaxstruct.data.image_files import jpeg
from jaxstruct.data.imitate import resize

ROOMS = ("bathroom", "bedroom", "frontal", "kitchen")


def features(tf: Any) -> dict[str, Any]:
    """An image with the room that it shows, and the number of its house."""
    image = tf.Image(shape=(64, 64, 3))
    return {"image": image, "label": tf.ClassLabel(names=ROOMS), "house": np.int32}


def read(folder: Path) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of both splits; all images of a house are in one."""
    found = class_folders.scan(folder)
    class_folders.expect(found, ROOMS, ("train",))
    splits: dict[str, dict[str, int]] = {"train": {}, "test": {}}
    for file, label in found.files["train"].items():
        splits["train" if _house(found.path / file) % 5 else "test"][file] = label
    found = dataclasses.replace(found, files=splits)
    examples = class_folders.examples(found, shape=(64, 64))
    return {split: _with_house(pairs) for split, pairs in examples.items()}


def _with_house(examples: Iterable[tuple[str, dict]]) -> Iterator[tuple[str, dict]]:
    for file, example in examples:
        yield file, {**example, "house": _house(Path(file))}


def _house(path: Path) -> int:
    if not re.fullmatch("[0-9]{1,6}", path.stem):
        raise DataError(f"{path}: expected the number of a house as its name")
    return int(path.stem)


def imitate(folder: Path) -> None:
    """Write four class folders of 100 images each: windows of four of scikit-image's photographs.

    The window, which is the same in all images of a house, and the light wander slowly.
    """
    from skimage import data

    photographs = {
        "bathroom": data.chelsea(),
        "bedroom": data.coffee(),
        "frontal": data.rocket(),
        "kitchen": data.astronaut(),
    }
    for room, photograph in photographs.items():
        (folder / room).mkdir()
        height, width = photograph.shape[0] - 200, photograph.shape[1] - 200
        for house in range(1, 101):
            top = round(height * (0.5 + 0.5 * np.sin(0.61 * house)))
            left = round(width * (0.5 + 0.5 * np.sin(0.37 * house + 1)))
            light = 0.8 + 0.2 * np.sin(0.23 * house)
            window = photograph[top : top + 200, left : left + 200] * light
            image = resize(window.astype(np.uint8)[None], 64, 64)[0]
            (folder / room / f"{house:03}.jpg").write_bytes(jpeg(image))


ENTRY = Entry(
    version="1.0.0",
    description=(
        "Rooms and fronts of 535 houses for sale, 64x64 colour: a bathroom, a bedroom, the "
        "front and a kitchen of each. The split is ours, by `house`: those whose number is a "
        "multiple of 5 test (107), the others train (428)."
    ),
    citation=(
        "E. Ahmed, M. Moustafa. House Price Estimation from Visual and Textual Features. "
        "International Joint Conference on Computational Intelligence, 2016."
    ),
    classes=ROOMS,
    features=features,
    files=tuple(File(room) for room in ROOMS),
    by_hand=(
        "shrink the middle square of N_ROOM.jpg of https://github.com/emanhamed/Houses-dataset "
        "to 64x64, as ROOM/N.jpg"
    ),
    read=read,
    in_order=False,
    imitate=imitate,
)
