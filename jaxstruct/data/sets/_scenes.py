"""Imitations in PASCAL VOC's layout, of shapes that hide each other.

What may be added: another layout for the same scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from jaxstruct.data import shapes
from jaxstruct.data.image_files import jpeg

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
    index = 0
    for listed, count in lists.items():
        names = [f"{index + i:06}" for i in range(count)]
        path = folder / "ImageSets" / f"{listed}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
        for name in names:
            # One of four is high instead of wide.
            shape = size[::-1] if index % 4 == 3 else size
            group = shapes.group(0, index, shape, classes=min(len(classes), 10))
            (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(group.image))
            (folder / "Annotations" / f"{name}.xml").write_bytes(_annotation(name, group, classes))
            index += 1


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
