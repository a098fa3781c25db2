"""COCO's layout: a JSON file of images, categories and annotations for each split.

Boxes of the files are x, y, width, height from 0 on; here they are (x1, y1, x2, y2).

What may be added: another thing that an annotation says of an object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data import boxes, image_files
from jaxstruct.data.boxes import LeftOut
from jaxstruct.data.errors import DataError, blamed, read_raw
from jaxstruct.data.pickles import short

_LARGEST = 1e30  # a float32 holds it

EXPECTED = (
    "COCO's layout: annotations/instances_SPLIT.json beside the images in SPLIT/, or "
    "SPLIT/_annotations.coco.json among them"
)


def files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The JSON file of each split, and the folder of its images; empty where there is none."""
    found = {}
    for path in sorted((folder / "annotations").glob("instances_*.json")):
        split = path.stem.removeprefix("instances_")
        beside = [folder / split, folder / "images" / split, folder / "images"]
        found[split] = path, next((place for place in beside if place.is_dir()), beside[0])
    for path in sorted(folder.glob("*/_annotations.coco.json")):
        found[path.parent.name] = path, path.parent
    return found


def features(classes: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """What TFDS is told of an image with boxes (see `Entry.features`)."""
    return lambda tf: {
        **boxes.features(tf, classes),
        "crowd": tf.Sequence(np.bool_),
        "areas": tf.Tensor(shape=(None,), dtype=np.float32),
    }


def scan_classes(folder: Path) -> tuple[str, ...]:
    """The names of the categories, by their numbers.

    Raises DataError where two splits differ in them, and where there are none.
    """
    found = {path: _categories(_parsed(path), path) for path, _ in files(folder).values()}
    if not found:
        raise DataError(f"{folder}: no JSON file; expected {EXPECTED}")
    first, *others = found
    for path in others:
        if found[path] != found[first]:
            raise DataError(
                f"{path}: categories {', '.join(found[path].values())}; expected those of {first}, "
                f"{', '.join(found[first].values())}"
            )
    if not found[first]:
        raise DataError(f"{first}: no categories; expected some")
    return tuple(found[first].values())


def read(folder: Path, classes: Sequence[str]) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of every split, {`image`, `name`, `boxes`, `classes`, `crowd`, `areas`}.

    Boxes without area or outside of the image are left out, boxes that reach over its border are
    clipped; each is said in a line on stderr, and counted in the end. Raises DataError that names
    the file for an image that is missing, cut or of another size than the JSON says, an annotation
    of an unknown image or category, and an image that is there twice.
    """
    found, left_out = files(folder), LeftOut(folder)
    last = [*found][-1] if found else None
    return {
        split: _examples(path, images, tuple(classes), left_out, split == last)
        for split, (path, images) in found.items()
    }


def _examples(
    path: Path, images: Path, classes: tuple[str, ...], left_out: LeftOut, last: bool
) -> Iterator[tuple[str, dict]]:
    content = _parsed(path)
    if not _rows(content, "images", path):
        raise DataError(f"{path}: no images; expected some")
    categories = _categories(content, path)
    if tuple(categories.values()) != classes:
        raise DataError(
            f"{path}: categories {', '.join(categories.values())}; expected {', '.join(classes)}"
        )
    label = {number: classes.index(name) for number, name in categories.items()}
    things: dict[Any, list[dict]] = {image["id"]: [] for image in _rows(content, "images", path)}
    for thing in _rows(content, "annotations", path):
        for key, what, known in (("image_id", "image", things), ("category_id", "category", label)):
            if not _is_number(thing.get(key)) or thing[key] not in known:
                there = f"its {len(things):,} images" if known is things else short(list(label))
                raise DataError(
                    f"{path}: annotation {short(thing.get('id'))} is of {what} "
                    f"{short(thing.get(key))}; expected one of {there}"
                )
        things[thing["image_id"]].append(thing)
    seen = set()
    for image in content["images"]:
        if image["id"] in seen:
            raise DataError(f"{path}: image {image['id']!r} is there twice; expected it once")
        seen.add(image["id"])
        name, example = _example(path, images, image, things[image["id"]], label, left_out)
        yield name, example
    if last:
        left_out.say()


def _example(
    path: Path,
    images: Path,
    image: dict,
    things: list[dict],
    label: dict[Any, int],
    left_out: LeftOut,
) -> tuple[str, dict]:
    name = image.get("file_name")
    if not isinstance(name, str):
        raise DataError(f"{path}: image {image['id']!r} without file_name; expected {EXPECTED}")
    encoded, height, width = image_files.read_encoded(images / name, "an image")
    said = image.get("width", width), image.get("height", height)
    if said != (width, height):
        raise DataError(
            f"{path}: image {name} of {short(said[0])} x {short(said[1])}; expected {width} x "
            f"{height}, as the file has"
        )
    corners, classes, crowd, areas = [], [], [], []
    for thing in things:
        raw = thing.get("bbox")
        if not (isinstance(raw, list) and len(raw) == 4 and all(map(_is_number, raw))):
            raise DataError(
                f"{path}: annotation {short(thing.get('id'))} with bbox {short(raw)}; expected x, "
                "y, width and height"
            )
        x, y, across, down = raw
        area = max(across, 0) * max(down, 0)
        box = boxes.clipped(
            raw, [x, y, x + across, y + down], area, (height, width), path, left_out
        )
        if box:
            corners.append(box)
            classes.append(label[thing["category_id"]])
            crowd.append(bool(thing.get("iscrowd", 0)))
            areas.append(_number(thing, "area", area, path))
    return name, {
        "image": encoded,
        "name": name,
        "boxes": np.array(corners, np.float32).reshape(-1, 4),
        "classes": classes,
        "crowd": np.array(crowd, np.bool_),
        "areas": np.array(areas, np.float32),
    }


def _categories(content: dict, path: Path) -> dict[Any, str]:
    """The names of the categories by their numbers, which are in order."""
    rows = sorted(_rows(content, "categories", path), key=lambda row: row["id"])
    for row in rows:
        if not isinstance(row.get("name"), str):
            raise DataError(f"{path}: category {row['id']!r} without a name; expected {EXPECTED}")
    boxes.check_classes(path, [row["name"] for row in rows])
    return {row["id"]: row["name"] for row in rows}


def _parsed(path: Path) -> dict[str, Any]:
    raw = read_raw(path, EXPECTED)
    with blamed(path, EXPECTED, "no whole JSON file"):
        content = json.loads(raw)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a {type(content).__name__}; expected {EXPECTED}")
    return content


def _rows(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: {key} is no list of objects; expected {EXPECTED}")
    if key != "annotations" and not all(type(row.get("id")) is int for row in rows):
        raise DataError(f"{path}: {key} without whole numbers as id; expected {EXPECTED}")
    return rows


def _number(thing: dict, key: str, default: float, path: Path) -> float:
    if not _is_number(number := thing.get(key, default)):
        raise DataError(
            f"{path}: annotation {short(thing.get('id'))} with {key} {short(number)}; expected a "
            "number"
        )
    return number


def _is_number(x: Any) -> bool:
    return type(x) in (int, float) and abs(x) <= _LARGEST  # NaN is not, and no integer overflows
