"""Images with class maps: which class each pixel has, read from the masks that sets keep as files.

A mask holds the index of a class in each pixel, and 255 (void) where there is none.

What may be added: another thing that can be wrong with a mask, or that is known of a class map.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstruct.data import image_files
from jaxstruct.data.boxes import LeftOut
from jaxstruct.data.class_folders import MANY
from jaxstruct.data.errors import DataError
from jaxstruct.data.label_maps import VOID

EXPECTED = "a mask: a grey or palette image whose values are classes"
MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")
"""How the name of a mask ends: formats that change no value."""


class Pair(NamedTuple):
    """An image and its mask, as files; the name is the example's."""

    name: str
    image: Path
    mask: Path


def features(classes: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """What TFDS is told of an image with a class map [H, W] and the classes [n] that are in it."""
    return lambda tf: {
        "image": tf.Image(shape=(None, None, 3)),
        "name": tf.Text(),
        "class_map": tf.Tensor(shape=(None, None), dtype=np.uint8, encoding="zlib"),
        "classes": tf.Sequence(tf.ClassLabel(names=classes)),
    }


def read(
    folder: Path,
    splits: Mapping[str, Sequence[Pair]],
    classes: Sequence[str],
    *,
    indices_of: Callable[[np.ndarray], np.ndarray] = lambda values: values,
    counts: dict[str, np.ndarray] | None = None,
) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of every split, {`image`, `name`, `class_map`, `classes`} by name.

    A name that a split repeats is read once, and said in a line on stderr.

    Args:
        folder: of the set, which is named where no file can be.
        splits: the files.
        classes: names of the indices 0, 1, ...
        indices_of: makes class indices of the values [H, W] of a mask.
        counts: gets the pixels [256] of each value by split, as the split is read.

    Raises:
        DataError: names the file of an image or a mask that is missing or cannot be read, of a mask
            of colors, of another size than its image, or with a value that is neither a class nor
            255; and the folder and a split in which no pixel has a class.
    """
    left_out = LeftOut(folder)
    last = [*splits][-1]
    counts = {} if counts is None else counts
    return {
        split: _examples(folder, split, pairs, classes, indices_of, counts, left_out, split == last)
        for split, pairs in splits.items()
    }


def _examples(
    folder: Path,
    split: str,
    pairs: Sequence[Pair],
    classes: Sequence[str],
    indices_of: Callable[[np.ndarray], np.ndarray],
    counts: dict[str, np.ndarray],
    left_out: LeftOut,
    last: bool,
) -> Iterator[tuple[str, dict]]:
    counts[split] = np.zeros(256, np.int64)
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            left_out.add(pair.mask, "names listed twice", "listed twice")
            continue
        seen.add(pair.name)
        image, height, width = image_files.read_encoded(
            pair.image, f"an image of the split {split}"
        )
        class_map = read_class_map(pair.mask, (height, width), classes, indices_of)
        pixels = np.bincount(class_map.ravel(), minlength=256)
        counts[split] += pixels
        yield (
            pair.name,
            {
                "image": image,
                "name": pair.name,
                "class_map": class_map,
                "classes": np.flatnonzero(pixels[: len(classes)]).tolist(),
            },
        )
    if not counts[split][: len(classes)].any():
        raise DataError(
            f"{folder}: no pixel of the split {split} has a class; expected values from 0 to "
            f"{len(classes) - 1} in some mask, {VOID} is none"
        )
    if last:
        left_out.say()


def read_class_map(
    path: Path,
    size: tuple[int, int],
    classes: Sequence[str],
    indices_of: Callable[[np.ndarray], np.ndarray] = lambda values: values,
) -> np.ndarray:
    """The class indices uint8 [H, W] of a mask, 255 where there is none.

    Raises DataError as `read` does; `size` is (height, width) of the image, and `indices_of` as
    there.
    """
    if path.suffix.lower() in (".jpg", ".jpeg") and os.path.exists(path):
        raise DataError(f"{path}: JPEG changes the values of pixels; expected a mask as PNG")
    values = indices_of(
        image_files.read_values(
            path, f"{EXPECTED}, 0 to {len(classes) - 1}, or {VOID} where there is none"
        )
    )
    if values.shape != size:
        raise DataError(
            f"{path}: {values.shape[1]} x {values.shape[0]} pixels; expected {size[1]} x "
            f"{size[0]}, as the image has"
        )
    wrong = (values >= len(classes)) & (values != VOID)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{path}: the value {values[row, column]} in row {row}, column {column}; expected 0 "
            f"to {len(classes) - 1}, the classes from {classes[0]} to {classes[-1]}, or {VOID} "
            "where there is none"
        )
    return values.astype(np.uint8)


def with_ending(endings: Sequence[str], *stems: Path) -> Path:
    """The first file that exists of those with one of these names and endings.

    Where none does: the first name with the first ending.
    """
    # Not with_suffix, which would cut "a.b" to "a"; nor Path.exists, which raises for long names.
    paths = [stem.parent / f"{stem.name}{ending}" for stem in stems for ending in endings]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def shares(counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> dict[str, str]:
    """Of each split in words: which share of the pixels each class has, and void.

    `counts` are those that `read` gives; classes that no pixel of a split has stand at the end.
    """
    found = {}
    for split, pixels in counts.items():
        share = pixels / pixels.sum()
        there = [i for i in range(len(classes)) if pixels[i]]
        named = [f"{classes[i]} {share[i]:.1%}" for i in there]
        if len(there) > MANY:
            least, most = (f(there, key=lambda i: pixels[i]) for f in (min, max))
            named = [f"{len(there):,} classes, from {classes[least]} to {classes[most]}"]
        absent = [classes[i] for i in range(len(classes)) if not pixels[i]]
        named += [f"void {share[VOID]:.1%}"] if pixels[VOID] else []
        named += [f"no pixel of {', '.join(absent[:MANY])}"] if absent else []
        found[split] = ", ".join(named)
    return found
