"""PASCAL VOC's layout: JPEGImages, Annotations (one XML an image) and lists of images in ImageSets.

Boxes of the files are 1-based and include their last pixel; here they are continuous, 0-based
(x1 - 1, y1 - 1, x2, y2). Class masks are in SegmentationClass.

What may be added: another thing that an XML file says of an object, masks of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from jaxstruct.data import boxes, class_maps, image_files
from jaxstruct.data.boxes import LeftOut
from jaxstruct.data.class_maps import Pair
from jaxstruct.data.errors import DataError, blamed, read_raw

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""PASCAL VOC's, in the devkit's order."""

MASKED = ("background", *CLASSES)
"""What the values 0, 1, ... of a class mask mean."""

FOLDERS = ("JPEGImages", "Annotations", "ImageSets")
MASKS = ("SegmentationClass", "SegmentationClassAug")
"""The folders of class masks: PASCAL VOC's own, and those that came with more images later."""

EXPECTED = "PASCAL VOC's layout: JPEGImages/x.jpg, Annotations/x.xml, ImageSets/Main/train.txt"
_OTHER_LISTS = ("Layout", "Action")  # of persons, not of images


def is_layout(folder: Path) -> bool:
    """Whether a folder has the three folders of PASCAL VOC."""
    return all((folder / name).is_dir() for name in FOLDERS)


def has_masks(folder: Path) -> bool:
    """Whether a folder has images, lists of images and class masks in PASCAL VOC's layout."""
    there = {name for name in (*FOLDERS, *MASKS) if (folder / name).is_dir()}
    return {"JPEGImages", "ImageSets"} <= there and bool(there & set(MASKS))


def features(classes: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """What TFDS is told of an image with boxes (see `Entry.features`)."""
    return lambda tf: {
        **boxes.features(tf, classes),
        "difficult": tf.Sequence(np.bool_),
    }


def lists(folder: Path) -> dict[str, list[str]]:
    """The names of images by list: ImageSets/Main/train.txt is `train`, Pack/val.txt `pack_val`.

    Lists with a second column (of one class, say), and those of persons, are passed over. A list
    that is the sum of others of its folder, as trainval is, is passed over too: "train+val" asks
    for it. Raises DataError for a list that cannot be read, and where there is none.
    """
    found: dict[str, list[str]] = {}
    sets = folder / "ImageSets"
    for inside in sorted(sets.iterdir()):
        if not inside.is_dir() or inside.name in _OTHER_LISTS:
            continue
        of_folder: dict[str, list[str]] = {}
        for path in sorted(inside.glob("*.txt")):
            rows = [line.split() for line in _text(path, "a name a line").splitlines()]
            if any(len(row) > 1 for row in rows):
                continue
            of_folder[path.stem] = [row[0] for row in rows if row]
        for name, names in of_folder.items():
            others = [set(x) for other, x in of_folder.items() if other != name]
            parts = [x for x in others if x < set(names)]
            if parts and set.union(*parts) == set(names):
                continue
            prefix = "" if inside.name == "Main" else f"{inside.name.lower()}_"
            found[f"{prefix}{name}"] = names
    if not any(found.values()):
        raise DataError(f"{sets}: no list of images; expected {EXPECTED}")
    return {name: names for name, names in found.items() if names}


def masked_pairs(folder: Path) -> dict[str, list[Pair]]:
    """The images and class masks of every list for segmentation, by the name of the list.

    Lists for segmentation are those of ImageSets/Segmentation, whose train.txt is `train`, and in
    other folders those that segmentation_ begins: Pack/segmentation_val.txt is `pack_val`. The mask
    of an image is that of SegmentationClass, where there is one, or else of SegmentationClassAug.
    Raises DataError as `lists` does, and where no list is for segmentation.
    """
    mark = "segmentation_"
    found = {
        name.replace(mark, "", 1): [_pair(folder, one) for one in names]
        for name, names in lists(folder).items()
        if mark in name
    }
    if not found:
        raise DataError(
            f"{folder / 'ImageSets'}: no list for segmentation; expected Segmentation/train.txt"
        )
    return found


def _pair(folder: Path, name: str) -> Pair:
    masks = (folder / kind / name for kind in MASKS)
    mask = class_maps.with_ending(class_maps.MASKS, *masks)
    return Pair(name, _image_path(folder, name), mask)


def scan_classes(folder: Path) -> tuple[str, ...]:
    """The names of all objects in the annotations of the listed images, in alphabetical order."""
    names = {name for names in lists(folder).values() for name in names}
    classes = {
        _of(thing, "name", path)
        for path in (_xml_path(folder, name) for name in sorted(names))
        for thing in _parsed(path).iter("object")
    }
    if not classes:
        raise DataError(f"{folder / 'Annotations'}: no object in any file; expected some")
    boxes.check_classes(folder / "Annotations", sorted(classes))
    return tuple(sorted(classes))


def read(folder: Path, classes: Sequence[str]) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of every list, {`image`, `name`, `boxes`, `classes`, `difficult`} by name.

    Boxes without area or outside of the image are left out, boxes that reach over its border are
    clipped, and names that a list repeats are read once; each is said in a line on stderr, and
    counted in the end. Raises DataError that names the file for an image or an XML file that is
    missing or cut, an object of another class, and an image of another size than the XML says.
    """
    found = lists(folder)
    left_out = LeftOut(folder)
    last = [*found][-1]
    return {
        split: _examples(folder, names, tuple(classes), left_out, split == last)
        for split, names in found.items()
    }


def _examples(
    folder: Path, names: Sequence[str], classes: tuple[str, ...], left_out: LeftOut, last: bool
) -> Iterator[tuple[str, dict]]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            left_out.add(_xml_path(folder, name), "names listed twice", "listed twice")
            continue
        seen.add(name)
        yield name, _example(folder, name, classes, left_out)
    if last:
        left_out.say()


def _example(folder: Path, name: str, classes: tuple[str, ...], left_out: LeftOut) -> dict:
    path = _xml_path(folder, name)
    root = _parsed(path)
    image, height, width = image_files.read_encoded(_image_path(folder, name), "an image")
    size = root.find("size")
    if size is not None:
        said = int(_number(size, "width", path)), int(_number(size, "height", path))
        if said != (width, height):
            raise DataError(
                f"{path}: size {said[0]} x {said[1]}; expected {width} x {height}, as the image has"
            )
    corners, labels, difficult = [], [], []
    for thing in root.iter("object"):
        of_class = _of(thing, "name", path)
        if of_class not in classes:
            raise DataError(
                f"{path}: an object of class {of_class!r}; expected one of {', '.join(classes)}"
            )
        bounds = thing.find("bndbox")
        if bounds is None:
            raise DataError(f"{path}: an object without bndbox; expected {EXPECTED}")
        raw = [_number(bounds, side, path) for side in ("xmin", "ymin", "xmax", "ymax")]
        # Of the raw numbers: a box that ends where it begins would have a pixel by VOC's count.
        area = max(raw[2] - raw[0], 0) * max(raw[3] - raw[1], 0)
        box = boxes.clipped(
            raw, [raw[0] - 1, raw[1] - 1, *raw[2:]], area, (height, width), path, left_out
        )
        if box:
            corners.append(box)
            labels.append(classes.index(of_class))
            difficult.append(_flag(thing, "difficult", path))
    return {
        "image": image,
        "name": name,
        "boxes": np.array(corners, np.float32).reshape(-1, 4),
        "classes": labels,
        "difficult": np.array(difficult, np.bool_),
    }


def _xml_path(folder: Path, name: str) -> Path:
    return folder / "Annotations" / f"{name}.xml"


def _image_path(folder: Path, name: str) -> Path:
    return class_maps.with_ending((".jpg", ".jpeg", ".png"), folder / "JPEGImages" / name)


def _text(path: Path, expected: str) -> str:
    if path.is_file() and not path.stat().st_size:
        return ""
    try:
        return read_raw(path, expected).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text ({error.reason}); expected {expected}") from None


def _parsed(path: Path) -> ElementTree.Element:
    expected = "an annotation in PASCAL VOC's XML"
    raw = read_raw(path, expected)
    with blamed(path, expected, "no whole XML file"):
        return ElementTree.fromstring(raw)


def _of(element: ElementTree.Element, tag: str, path: Path) -> str:
    text = element.findtext(tag, "").strip()
    if not text:
        raise DataError(f"{path}: <{element.tag}> without <{tag}>; expected {EXPECTED}")
    return text


def _number(element: ElementTree.Element, tag: str, path: Path) -> float:
    text = _of(element, tag, path)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{path}: <{tag}> is {text!r}; expected a number")
    return number


def _flag(element: ElementTree.Element, tag: str, path: Path) -> bool:
    return element.find(tag) is not None and _number(element, tag, path) != 0
