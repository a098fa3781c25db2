"""Imitations in PASCAL VOC's layout, of shapes that hide each other, and scenes with class maps.

What may be added: another layout for the same scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from jaxstruct.data import shapes
from jaxstruct.data.image_files import jpeg
from jaxstruct.data.label_maps import VOID, write_class_map

_DIFFICULT = 0.35  # the share that is seen of a shape, below which it is difficult
_LEAST = 4  # pixels of a side, below which a shape has no box


def imitate_voc(
    folder: Path, *, classes: Sequence[str], size: tuple[int, int], lists: Mapping[str, int]
) -> None:
    """Write lists of so many images each at a size (height, width), with one to five shapes.

    A list is named by its path in ImageSets. The first ten classes have shapes of their own.
    """
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir()
    for index, name, _ in _listed(folder, lists):
        group = shapes.group(0, index, _turned(size, index), classes=min(len(classes), 10))
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(group.image))
        (folder / "Annotations" / f"{name}.xml").write_bytes(_annotation(name, group, classes))


def imitate_voc_masks(folder: Path, *, size: tuple[int, int], lists: Mapping[str, int]) -> None:
    """Write lists as `imitate_voc` does, with class masks in place of boxes.

    Half of the masks of a list segmentation_train are in SegmentationClassAug. The first ten of
    PASCAL VOC's classes have shapes, and 0 is the ground.
    """
    for name in ("JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (folder / name).mkdir()
    for index, name, listed in _listed(folder, lists):
        image, class_map = masked_scene(index, _turned(size, index), range(1, 11))
        later = listed.endswith("segmentation_train") and index % 2
        kind = "SegmentationClassAug" if later else "SegmentationClass"
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(image))
        write_class_map(folder / kind / f"{name}.png", class_map)


def masked_scene(
    index: int, size: tuple[int, int], labels: Sequence[int], ground: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One to five shapes on the ground: the image, and its class map uint8 [H, W].

    The n-th kind of shape is of the class `labels[n]`. Where classes meet, one pixel on each side
    is void (255).
    """
    group = shapes.group(0, index, size)
    class_map = np.full(size, ground, np.uint8)
    for label, mask in zip(group.labels, group.masks, strict=True):
        class_map[mask] = labels[label]
    down, right = class_map[1:] != class_map[:-1], class_map[:, 1:] != class_map[:, :-1]
    for here, edge in (
        (np.s_[1:], down),
        (np.s_[:-1], down),
        (np.s_[:, 1:], right),
        (np.s_[:, :-1], right),
    ):
        class_map[here][edge] = VOID
    return group.image, class_map


def _listed(folder: Path, lists: Mapping[str, int]) -> Iterator[tuple[int, str, str]]:
    """Writes the lists, and gives the number and the name of each image, and its list."""
    start = 0
    for listed, count in lists.items():
        names = [f"{start + i:06}" for i in range(count)]
        path = folder / "ImageSets" / f"{listed}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
        for index, name in enumerate(names, start):
            yield index, name, listed
        start += count


def _turned(size: tuple[int, int], index: int) -> tuple[int, int]:
    """One of four is high instead of wide."""
    return size[::-1] if index % 4 == 3 else size


def _annotation(name: str, group: shapes.Group, classes: Sequence[str]) -> bytes:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
    height, width, depth = group.image.shape
    _add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=depth)
    for label, box, visible in zip(group.labels, group.boxes, group.visible, strict=True):
        x1, y1, x2, y2 = (int(side) for side in box)
        if min(x2 - x1, y2 - y1) < _LEAST:
            continue
        thing = ElementTree.SubElement(root, "object")
        _add(thing, name=classes[label], difficult=int(visible < _DIFFICULT))
        _add(ElementTree.SubElement(thing, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ElementTree.indent(root)
    return ElementTree.tostring(root)


def _add(element: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
