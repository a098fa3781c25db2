"""PASCAL VOC 2012: photographs with boxes of twenty classes."""

from __future__ import annotations

from jaxstruct.data.sets import _voc

ENTRY = _voc.entry(
    2012,
    "17,125 images, 11,540 of them in lists for detection",
    {"Main/train": 24, "Main/val": 16, "Pack/train": 24, "Pack/val": 8, "Pack/test": 8},
)
