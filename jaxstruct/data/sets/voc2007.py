"""PASCAL VOC 2007: photographs with boxes of twenty classes."""

from __future__ import annotations

from jaxstruct.data.sets import _voc

ENTRY = _voc.entry(
    2007,
    "9,963 images",
    {"Main/train": 24, "Main/val": 8, "Main/test": 8},
)
