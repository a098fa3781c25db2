"""A folder of a user's own images becomes a prepared set: its layout says what the set holds.

What may be added: another layout, by a module that makes an `Entry` of it.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from jaxstruct.data import boxed_folder, class_folders, image_folder, mask_folder, places, voc
from jaxstruct.data.builder import build
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.errors import DataError
from jaxstruct.data.on_disk import Prepared

LONGEST_NAME = 100
"""Letters in the name of a set, which are a part of its files' names."""

LARGEST = 8192
"""Pixels of a side that images of a user's own may be resized to: 200 MB each."""


def prepare_folder(
    name: str,
    path: str | Path,
    *,
    size: int | None = None,
    crop: bool = False,
    skip_unreadable: bool = False,
    masks: bool = False,
) -> Prepared:
    """Prepare a user's own images, in class folders, with boxes or masks, as the set `name`.

    Args:
        name: small letters, digits and underscores; what `load` and the experiments take then.
        path: a folder, .zip or .tar (.gz, .xz, .bz2) of CLASS/x.jpg, or of train/CLASS/x.jpg and
            test/CLASS/x.jpg (val, valid and validation are splits, too); without splits all images
            are in train. Or a folder with boxes in PASCAL VOC's layout (see `data.voc`) or COCO's
            (`data.coco`), or one with class masks (`data.mask_folder`), to which the options of
            sizes and unreadable files do not apply.
        size: images become `size` x `size`; without it they stay as large as they are.
        crop: the square in the middle of an image is resized, not the whole image.
        skip_unreadable: files that cannot be read as images are named and left out.
        masks: of a folder with boxes and class masks, the masks make the set.

    Raises:
        ValueError: for a name of the catalogue, of other characters or of more than 100, a size
            below 1 or above 8,192, a crop without a size, an option where there are boxes or masks,
            and a path that is refused, see `places.expanded`.
        DataError: for a path at which nothing is, another layout, images that cannot be read, a
            folder of prepared sets that cannot be written, and a full disk.

    A report on stderr says how many images of each class were read, what was left out, and why.
    """
    if name in CATALOGUE or not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"the name {name!r}; expected one of small letters, digits and underscores, and none "
            f"of {', '.join(CATALOGUE)}"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"the name {name[:20]}... has {len(name)} letters, expected at most {LONGEST_NAME}"
        )
    if size is not None and size > LARGEST:
        raise ValueError(f"size {size}, expected at most {LARGEST} pixels")
    if (crop and size is None) or (size is not None and size < 1):
        raise ValueError(f"size {size}, crop {crop}; expected a size above 0, and one for a crop")
    path = places.expanded(path).absolute()
    # With the time in its record, a set that is prepared again is another one.
    made_of = [str(path), time.time_ns()]
    boxed = None if masks else boxed_folder.entry(path)
    masked = None if boxed else mask_folder.scan(path)
    if (boxed or masked) and (size or crop or skip_unreadable):
        raise ValueError(
            f"{path} has {'boxes' if boxed else 'masks'}, whose images stay as they are; expected "
            "no option of size, crop and skip_unreadable"
        )
    if boxed:
        if voc.has_masks(path):
            _say(f"{name}: boxes are read; --masks reads the class masks of {path} instead")
        return build(name, boxed, places.own_folder(name), "user", made_of)
    if masked:
        made = build(name, mask_folder.entry(masked), places.own_folder(name), "user", made_of)
        for line in mask_folder.report(masked):
            _say(f"{name}: {line}")
        return made
    if masks:
        raise DataError(f"{path}: no folder with class masks; expected {mask_folder.EXPECTED}")
    found, skipped = class_folders.scan(path), list[str]()
    if {"images", "masks"} <= set(found.classes):
        raise DataError(
            f"{path}: images and masks in an archive or further down; expected the folder in which "
            f"images/ and masks/ stand: {mask_folder.EXPECTED}"
        )
    entry = image_folder.entry(found, size, crop, skip_unreadable, skipped)
    made = build(name, entry, places.own_folder(name), "user", made_of)
    for line in class_folders.report(found, skipped):
        _say(f"{name}: {line}")
    return made


def _say(line: str) -> None:
    print(line, file=sys.stderr)
