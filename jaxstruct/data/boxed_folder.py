"""A user's own images with boxes, in PASCAL VOC's or COCO's layout, as a set with a name.

What may be added: another layout in which people keep boxes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jaxstruct.data import coco, voc
from jaxstruct.data.entry import Entry


def entry(path: Path) -> Entry | None:
    """What such a folder is, and how it is read; None for one of another layout.

    Raises DataError where the layout is there and its files are bad.
    """
    if voc.is_layout(path):
        classes = voc.scan_classes(path)
        features, read = voc.features(classes), partial(voc.read, path, classes)
    elif path.is_dir() and coco.files(path):
        classes = coco.scan_classes(path)
        features, read = coco.features(classes), partial(coco.read, path, classes)
    else:
        return None
    return Entry(
        version="1.0.0",
        description=f"Images with boxes of {path}.",
        citation="",
        classes=classes,
        features=features,
        read=lambda _: read(),
    )
