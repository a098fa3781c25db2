"""Images in class folders, or in an archive of such: which files belong to which split and class.

What may be added: another way in which people lay out labelled images.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxstruct.data import archives, image_files
from jaxstruct.data.errors import DataError

SPLITS = ("train", "val", "valid", "validation", "test")
"""Names of folders that are splits, not classes."""

MANY = 40
"""More classes than so many are not counted one by one."""

EXPECTED = "images in class folders, CLASS/x.jpg, or train/CLASS/x.jpg and test/CLASS/x.jpg"


@dataclass(frozen=True)
class ClassFolders:
    """What a folder or an archive holds.

    `files` is {split: {file: label}}, a file named below `top`, the folders around all; a label is
    an index into `classes`, in alphabetical order. `others` are no images by their names;
    `left_out` says of other files why they are not there, see `archives.files`.
    """

    path: Path
    top: str
    classes: tuple[str, ...]
    files: dict[str, dict[str, int]]
    others: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def scan(path: Path) -> ClassFolders:
    """Find the splits, classes and images of a folder or an archive, without reading the images.

    The folders at the top are classes, of the one split train; or they are splits (`SPLITS`), and
    the folders inside are classes. Images further down belong to the class above them. A folder
    that is alone around all others is passed over. Raises DataError for no image, an image outside
    of the class folders, one name twice, and a class without an image in one of the splits.
    """
    images, folders, others = [], set(), []
    left_out: list[tuple[str, str]] = []
    for name, _ in archives.files(path, EXPECTED, left_out):
        parts = tuple(_composed(name).removesuffix("/").split("/"))
        if name.endswith("/"):
            folders.add(parts)
        elif name.lower().endswith(image_files.SUFFIXES):
            images.append(parts)
        else:
            others.append(name)
    if not images:
        raise DataError(f"{path}: no image in it; expected {EXPECTED}; {_formats(others)}")

    depth = _depth_of_top(images, folders)
    top = images[0][:depth]
    images = sorted(image[depth:] for image in images)
    folders = {folder[depth:] for folder in folders if len(folder) > depth}
    by_split = _are_splits(images)
    level = 1 if by_split else 0  # of the classes
    tops = sorted({image[0] for image in images})
    spelled = [top for top in tops if top.casefold() in (*SPLITS, "training", "testing")]
    if spelled == tops and not set(tops) <= set(SPLITS):
        raise DataError(
            f"{path}: folders {', '.join(tops)}; expected splits spelled {', '.join(SPLITS)}: "
            "rename them"
        )
    for image in images:
        if len(image) < level + 2 or (by_split and image[0] not in SPLITS):
            raise DataError(
                f"{path.joinpath(*top, *image)}: in no class folder; expected {EXPECTED}"
            )

    inside = [*images, *(f for f in folders if not by_split or f[0] in SPLITS)]
    classes = tuple(sorted({entry[level] for entry in inside if len(entry) > level}))
    _check_names(path, classes)
    found = {entry[0] for entry in inside}
    files: dict[str, dict[str, int]] = {
        split: {} for split in SPLITS if (split in found if by_split else split == "train")
    }
    for image in images:
        labels, name = files[image[0] if by_split else "train"], "/".join(image)
        if name in labels:
            raise DataError(f"{path.joinpath(*top, *image)}: there twice; expected it once")
        labels[name] = classes.index(image[level])
    for split, labels in files.items():
        for label in sorted(set(range(len(classes))) - set(labels.values())):
            folder = path.joinpath(*top, *([split] if by_split else []), classes[label])
            raise DataError(
                f"{folder}: no image; expected some for every class in every split; "
                f"{_formats(others)}"
            )
    around = "".join(f"{part}/" for part in top)
    return ClassFolders(path, around, classes, files, tuple(others), tuple(left_out))


def expect(found: ClassFolders, classes: Sequence[str], splits: Sequence[str]) -> None:
    """Raise DataError that names the path unless it has these classes and splits, in this order."""
    for what, has, wanted in (
        ("classes", found.classes, classes),
        ("splits", found.files, splits),
    ):
        if list(has) != list(wanted):
            raise DataError(f"{found.path}: {what} {', '.join(has)}; expected {', '.join(wanted)}")


def images(
    found: ClassFolders,
    split: str,
    *,
    shape: tuple[int, int] | None = None,
    size: int | None = None,
    crop: bool = False,
    skip: bool = False,
    skipped: list[str] | None = None,
    remedy: str = "get it again",
) -> Iterator[tuple[str, int, bytes]]:
    """The images of a split: file, label, and the bytes to store (see `image_files.stored`).

    All have the `shape` (height, width) where it is given. Raises DataError for another one, and,
    unless `skip` asks to name and leave it out, for a file that is no image that can be read; and
    where nothing is left of a class. `skipped` gets the names of those that are left out.
    """
    labels = found.files[split]
    empty = set(labels.values())
    for inside, read in archives.files(found.path, EXPECTED):
        name = _composed(inside).removeprefix(found.top)
        if name not in labels:
            continue
        path = found.path / inside
        try:
            content, height, width = image_files.stored(read(), size, crop)
        except (DataError, ValueError) as error:
            problem = str(error) if isinstance(error, DataError) else f"{path}: no image ({error})"
            if not skip:
                raise DataError(
                    f"{problem}; expected an image that can be read; {remedy}"
                ) from None
            print(f"{problem}: left out", file=sys.stderr)
            if skipped is not None:
                skipped.append(name)
            continue
        if shape and (height, width) != shape:
            raise DataError(f"{path}: {height} x {width} pixels; expected {shape[0]} x {shape[1]}")
        empty.discard(labels[name])
        yield name, labels[name], content
    for label in sorted(empty):
        raise DataError(f"{found.path}: no image of {found.classes[label]} in {split} can be read")


def examples(found: ClassFolders, **options: Any) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples {`image`, `label`} of every split, by file; `options` and errors of `images`."""
    return {split: _examples(found, split, options) for split in found.files}


def report(found: ClassFolders, skipped: Sequence[str] = ()) -> list[str]:
    """What was read and what was left out, in lines: images by split and class, files by reason.

    `skipped` are the images that could not be read, as `images` names them.
    """
    lines, unread = [], set(skipped)
    for split, labels in found.files.items():
        counts = Counter(label for name, label in labels.items() if name not in unread)
        each = [f"{name} {counts[label]:,}" for label, name in enumerate(found.classes)]
        if len(each) > MANY:
            few, many = (f(range(len(each)), key=lambda i: counts[i]) for f in (min, max))
            each = [f"{len(each):,} classes, from {each[few]} to {each[many]}"]
        lines.append(f"{split}: {', '.join(each)}")
    reasons: dict[str, list[str]] = {}
    for name, reason in (
        *((name, "cannot be read") for name in skipped),
        *((name, "no image by its name") for name in found.others),
        *found.left_out,
    ):
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        more = ", ..." if len(names) > 3 else ""
        lines.append(f"left out, {reason}: {len(names):,} ({', '.join(names[:3])}{more})")
    return lines


def _formats(others: Sequence[str]) -> str:
    """Which images can be read, and what there is instead."""
    endings = Counter(Path(name).suffix.lower() or "no ending" for name in others)
    there = ", ".join(f"{count} of {ending}" for ending, count in endings.most_common(3))
    return f"read are {', '.join(image_files.SUFFIXES)}" + (f"; there are {there}" if there else "")


def _examples(
    found: ClassFolders, split: str, options: dict[str, Any]
) -> Iterator[tuple[str, dict]]:
    for file, label, content in images(found, split, **options):
        yield file, {"image": content, "label": label}


def _composed(name: str) -> str:
    """The name with its accents composed, as macOS does not, and spelling what is no UTF-8."""
    return unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode()


def _depth_of_top(images: list[tuple[str, ...]], folders: set[tuple[str, ...]]) -> int:
    """How many folders stand one in the other, alone, around all classes or splits."""
    depth = 0
    while (
        len({entry[depth] for entry in (*images, *folders) if len(entry) > depth}) == 1
        and images[0][depth] not in SPLITS
        and all(len(image) > depth + 2 for image in images)
    ):
        depth += 1
    return depth


def _are_splits(images: list[tuple[str, ...]]) -> bool:
    """Whether the folders at the top are splits: a class may be called train, too."""
    tops = {image[0] for image in images}
    inside_train = [image for image in images if image[0] == "train"]
    return tops <= set(SPLITS) or bool(inside_train and all(len(i) > 2 for i in inside_train))


def _check_names(path: Path, classes: tuple[str, ...]) -> None:
    for name in classes:
        if name != name.strip() or {"\n", "\r"} & set(name):  # TFDS keeps them as lines of a file
            raise DataError(
                f"{path}: a class is named {name!r}; expected no line break in a name, and no "
                "space around it; rename the folder"
            )
