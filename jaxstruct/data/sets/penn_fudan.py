"""Penn-Fudan pedestrians: photographs of streets with a box and a mask of each pedestrian."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data import boxes, class_maps, image_files, shapes
from jaxstruct.data.boxes import LeftOut
from jaxstruct.data.class_maps import Pair
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.errors import DataError, read_raw

CLASSES = ("pedestrian",)
PLACES = ("FudanPed", "PennPed")
_BOX = re.compile(
    r"Bounding box for object (\d+) .*\(Xmin, Ymin\) - \(Xmax, Ymax\) : "
    r"\((\d+), (\d+)\) - \((\d+), (\d+)\)"
)
_EXPECTED = "an annotation of Penn-Fudan, with a line Bounding box for each object"


def features(tf: Any) -> dict[str, Any]:
    """An image with the boxes and the masks [n, H, W] of its pedestrians, in the same order."""
    return {
        **boxes.features(tf, CLASSES),
        "masks": tf.Tensor(shape=(None, None, None), dtype=np.bool_, encoding="zlib"),
    }


def read(folder: Path) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of both splits, see `names_of_splits`."""
    left_out = LeftOut(folder)
    return {
        split: _examples(folder, names, left_out)
        for split, names in names_of_splits(folder).items()
    }


def names_of_splits(folder: Path) -> dict[str, list[str]]:
    """The names of the images of both splits: every fifth image of each place tests."""
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for place in PLACES:
        names = sorted(path.stem for path in (folder / "Annotation").glob(f"{place}*.txt"))
        if not names:
            raise DataError(f"{folder / 'Annotation'}: no file {place}*.txt; expected some")
        for i, name in enumerate(names, 1):
            splits["train" if i % 5 else "test"].append(name)
    return splits


def pair(folder: Path, name: str) -> Pair:
    """An image and its mask, which has a value for each pedestrian."""
    image = class_maps.with_ending((".png", ".jpg"), folder / "PNGImages" / name)
    return Pair(name, image, folder / "PedMasks" / f"{name}_mask.png")


def _examples(folder: Path, names: list[str], left_out: LeftOut) -> Iterator[tuple[str, dict]]:
    for name in names:
        yield name, _example(folder, name, left_out)


def _example(folder: Path, name: str, left_out: LeftOut) -> dict[str, Any]:
    path = folder / "Annotation" / f"{name}.txt"
    _, image_path, mask_path = pair(folder, name)
    image, height, width = image_files.read_encoded(image_path, "an image")
    numbers = image_files.read_values(mask_path, "a mask with a value for each pedestrian")
    if numbers.shape != (height, width):
        raise DataError(
            f"{mask_path}: {numbers.shape[1]} x {numbers.shape[0]} pixels; expected {width} x "
            f"{height}, as the image has"
        )
    found = _BOX.findall(read_raw(path, _EXPECTED).decode("utf-8", "replace"))
    if not found or len(found) != numbers.max():
        raise DataError(
            f"{path}: {len(found)} boxes and {numbers.max()} masks; expected {_EXPECTED}"
        )
    corners, masks = [], []
    for number, *sides in found:
        raw = [float(side) for side in sides]
        area = max(raw[2] - raw[0], 0) * max(raw[3] - raw[1], 0)
        whole = [raw[0] - 1, raw[1] - 1, *raw[2:]]
        box = boxes.clipped(raw, whole, area, (height, width), path, left_out)
        if box:
            corners.append(box)
            masks.append(numbers == int(number))
    return {
        "image": image,
        "name": name,
        "boxes": np.array(corners, np.float32).reshape(-1, 4),
        "classes": [0] * len(corners),
        "masks": np.array(masks, np.bool_).reshape(-1, height, width),
    }


def imitate(folder: Path) -> None:
    """Write twenty images of 96x128 of each place, with one to five shapes that hide each other."""
    for name in ("PNGImages", "PedMasks", "Annotation"):
        (folder / name).mkdir()
    for i, place in enumerate(PLACES):
        for number in range(1, 21):
            name = f"{place}{number:05}"
            group = shapes.group(3 + i, number, (96, 128))
            large = np.minimum(*(group.boxes[:, 2:] - group.boxes[:, :2]).T) >= 4
            around, masks = group.boxes[large].astype(int), group.masks[large]
            numbers = np.zeros(group.image.shape[:2], np.uint8)
            for k, mask in enumerate(masks, 1):
                numbers[mask] = k
            lines = [
                f'Bounding box for object {k} "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : '
                f"({x1 + 1}, {y1 + 1}) - ({x2}, {y2})\n"
                for k, (x1, y1, x2, y2) in enumerate(around.tolist(), 1)
            ]
            if not lines:
                continue
            (folder / "Annotation" / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
            (folder / "PNGImages" / f"{name}.png").write_bytes(image_files.png(group.image))
            (folder / "PedMasks" / f"{name}_mask.png").write_bytes(image_files.png(numbers))


ENTRY = Entry(
    version="1.0.0",
    description=(
        "170 photographs of streets with 423 pedestrians, a box and a mask of each. The split is "
        "ours: every fifth image of each of the two places, Fudan and Penn, tests."
    ),
    citation=(
        "L. Wang, J. Shi, G. Song, I. Shen. Object Detection Combining Recognition and "
        "Segmentation. Asian Conference on Computer Vision, 2007."
    ),
    classes=CLASSES,
    features=features,
    files=tuple(File(name) for name in ("PNGImages", "PedMasks", "Annotation")),
    folders=("PennFudanPed",),
    by_hand="unpack https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip",
    read=read,
    imitate=imitate,
)
