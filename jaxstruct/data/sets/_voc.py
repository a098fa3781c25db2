"""PASCAL VOC's photographs of one year: what the years share.

What may be added: what several of PASCAL VOC's sets share.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxstruct.data import voc
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.sets._scenes import imitate_voc


def entry(year: int, images: str, lists: Mapping[str, int]) -> Entry:
    """The set of a year; its imitation has lists of so many images."""
    return Entry(
        version="1.0.0",
        description=(
            f"PASCAL VOC {year}: {images}. Twenty classes in boxes, some of them difficult. A "
            "split is a list in ImageSets: Main/train is train, that of another folder has the "
            "folder's name before it."
        ),
        citation=(
            "M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman. The PASCAL "
            "Visual Object Classes (VOC) Challenge. International Journal of Computer Vision "
            "88(2), 2010."
        ),
        classes=voc.CLASSES,
        features=voc.features(voc.CLASSES),
        files=tuple(File(name) for name in voc.FOLDERS),
        folders=(f"VOCdevkit/VOC{year}", f"VOC{year}"),
        by_hand=(
            f"get VOCtrainval and VOCtest of {year} from "
            f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year} and unpack them, so that "
            f"VOCdevkit/VOC{year} stands there"
        ),
        read=partial(voc.read, classes=voc.CLASSES),
        imitate=partial(imitate_voc, classes=voc.CLASSES, size=(96, 128), lists=lists),
    )
