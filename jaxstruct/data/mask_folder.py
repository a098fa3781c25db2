"""A user's own images with class masks, as a set with a name.

What may be added: another layout in which people keep masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from jaxstruct.data import boxes, class_maps, voc
from jaxstruct.data.class_folders import SPLITS
from jaxstruct.data.class_maps import Pair
from jaxstruct.data.entry import Entry
from jaxstruct.data.errors import DataError, read_raw
from jaxstruct.data.image_files import SUFFIXES
from jaxstruct.data.label_maps import VOID

NAMES = ("classes.txt", "class_names.txt")
"""The file with the names of the classes; the second is LabelMe's."""

EXPECTED = (
    "images/x.jpg, masks/x.png and classes.txt; or SegmentationClass and ImageSets/Segmentation in "
    "PASCAL VOC's layout"
)


@dataclass(frozen=True)
class MaskFolder:
    """What a folder holds: its files by split, and the classes that the values 0, 1, ... mean.

    `left_out` are masks without an image. `counts` are the pixels [256] of each value by split, of
    the splits that were read.
    """

    path: Path
    splits: dict[str, list[Pair]]
    classes: tuple[str, ...]
    left_out: tuple[Path, ...] = ()
    counts: dict[str, np.ndarray] = field(default_factory=dict)


def scan(path: Path) -> MaskFolder | None:
    """Find the splits, files and classes, without reading an image; None for another layout.

    The layouts: images/ and masks/ with lists train.txt, val.txt, ... of the images' names; with
    the folders images/train and masks/train, ...; or without splits, when all is train. Folders
    train/images and train/masks, .... PASCAL VOC's, see `voc.masked_pairs`. Raises DataError where
    the layout is there, and a list or the names of the classes are missing or bad.
    """
    if voc.has_masks(path):
        return MaskFolder(path, voc.masked_pairs(path), _classes(path))
    inside = [split for split in SPLITS if _is_pair(path / split)]
    if inside:
        parts = {split: (path / split, "", _names(path / split / "images")) for split in inside}
    elif _is_pair(path):
        parts = {split: (path, within, names) for split, within, names in _splits(path)}
    else:
        return None
    splits = {
        split: [_pair(folder, f"{within}{name}") for name in names]
        for split, (folder, within, names) in parts.items()
    }
    used = {pair.mask for pairs in splits.values() for pair in pairs}
    masks = [path / split / "masks" for split in inside] or [path / "masks"]
    alone = [file for folder in masks for file in _files(folder, class_maps.MASKS)]
    left_out = tuple(file for file in alone if file not in used)
    return MaskFolder(path, splits, _classes(path), left_out)


def entry(found: MaskFolder) -> Entry:
    """What such a set is, and how it is read."""
    return Entry(
        version="1.0.0",
        description=f"Images with class masks of {found.path}.",
        citation="",
        classes=found.classes,
        features=class_maps.features(found.classes),
        read=lambda _: {
            split: _checked(found, split, examples)
            for split, examples in class_maps.read(
                found.path, found.splits, found.classes, counts=found.counts
            ).items()
        },
        in_order=False,
    )


def report(found: MaskFolder) -> list[str]:
    """What was read: images and classes of every split, and the masks that were left out."""
    lines = [
        f"{split}: {len({pair.name for pair in found.splits[split]}):,} images; {shares}"
        for split, shares in class_maps.shares(found.counts, found.classes).items()
    ]
    if found.left_out:
        names = ", ".join(file.name for file in found.left_out[:3])
        more = ", ..." if len(found.left_out) > 3 else ""
        lines.append(
            f"left out, a mask of no listed image: {len(found.left_out):,} ({names}{more})"
        )
    return lines


def _checked(
    found: MaskFolder, split: str, examples: Iterator[tuple[str, dict]]
) -> Iterator[tuple[str, dict]]:
    yield from examples
    counts = found.counts[split]
    if counts[VOID] and np.count_nonzero(counts) == 2:
        (value,) = np.flatnonzero(counts[:VOID])
        raise DataError(
            f"{found.path}: the masks of {split} have the values {value} and {VOID} alone, and "
            f"{VOID} is void; expected pixels of two classes: write objects as 1, not as {VOID}"
        )


def _is_pair(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _splits(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Of images/ and masks/: the splits, the folder of a split within both, and the names in it."""
    lists = {split: path / f"{split}.txt" for split in SPLITS}
    if any(file.exists() for file in lists.values()):
        for split, file in lists.items():
            if file.exists():
                text = read_raw(file, "the name of an image in each line")
                lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
                yield split, "", [_stem(line) for line in lines if line]
        return
    inside = [split for split in SPLITS if (path / "images" / split).is_dir()]
    for split in inside:
        yield split, f"{split}/", _names(path / "images" / split)
    loose = [name for name in _names(path / "images") if name.split("/")[0] not in inside]
    if not inside:
        yield "train", "", loose
    elif loose:
        raise DataError(
            f"{path / 'images' / loose[0]}: in no split; expected it in one of {', '.join(inside)}"
        )


def _names(folder: Path) -> list[str]:
    """The names of the images in a folder and below, without their endings."""
    names = [_stem(file.relative_to(folder).as_posix()) for file in _files(folder, SUFFIXES)]
    for first, second in pairwise(names):
        if first == second:
            raise DataError(f"{folder / first}: two images of this name; expected one")
    if not names:
        raise DataError(f"{folder}: no image; read are {', '.join(SUFFIXES)}")
    return names


def _files(folder: Path, endings: Sequence[str]) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.suffix.lower() in endings]
    visible = [
        file
        for file in files
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    return sorted(visible, key=lambda file: _stem(file.as_posix()))


def _stem(name: str) -> str:
    """A name without the ending of an image; a list may have it or not."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name


def _pair(folder: Path, name: str) -> Pair:
    return Pair(
        name,
        class_maps.with_ending(SUFFIXES, folder / "images" / name),
        class_maps.with_ending((*class_maps.MASKS, ".jpg", ".jpeg"), folder / "masks" / name),
    )


def _classes(path: Path) -> tuple[str, ...]:
    expected = "a name in each line, that of the class 0 in the first"
    file = next((path / name for name in NAMES if (path / name).exists()), path / NAMES[0])
    try:
        lines = read_raw(file, expected).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: no text ({error.reason}); expected {expected}") from None
    classes = tuple(line.strip() for line in lines if line.strip())
    if not 2 <= len(classes) <= VOID:
        raise DataError(f"{file}: {len(classes)} names; expected 2 to {VOID}, {expected}")
    boxes.check_classes(file, classes)
    return classes
