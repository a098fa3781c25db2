"""PASCAL VOC 2007: photographs with class masks, background and twenty classes."""

from __future__ import annotations

from jaxstruct.data.sets import _voc

ENTRY = _voc.masked_entry(
    2007,
    "632 images in lists for segmentation",
    {"Segmentation/train": 12, "Segmentation/val": 6, "Segmentation/test": 6},
)
