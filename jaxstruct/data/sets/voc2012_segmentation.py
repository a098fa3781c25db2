"""PASCAL VOC 2012: photographs with class masks, background and twenty classes."""

from __future__ import annotations

from jaxstruct.data.sets import _voc

ENTRY = _voc.masked_entry(
    2012,
    "2,913 images in lists for segmentation",
    {
        "Segmentation/train": 8,
        "Segmentation/val": 12,
        "Pack/segmentation_train": 24,
        "Pack/segmentation_val": 8,
    },
)
