"""PASCAL VOC 2007: photographs with boxes of twenty classes."""

from __future__ import annotations

from functools import partial

from jaxstruct.data import voc
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.sets._scenes import imitate_voc

ENTRY = Entry(
    version="1.0.0",
    description=(
        "PASCAL VOC 2007: 9,963 images. Twenty "
        "classes in boxes, some of them difficult. A split is a list in ImageSets: Main/train is "
        "train, that of another folder has the folder's name before it."
    ),
    citation=(
        "M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman. The PASCAL Visual "
        "Object Classes (VOC) Challenge. International Journal of Computer Vision 88(2), 2010."
    ),
    classes=voc.CLASSES,
    features=voc.features(voc.CLASSES),
    files=tuple(File(name) for name in voc.FOLDERS),
    folders=("VOCdevkit/VOC2007", "VOC2007"),
    by_hand=(
        "get VOCtrainval and VOCtest of 2007 from http://host.robots.ox.ac.uk/pascal/VOC/voc2007 "
        "and unpack them, so that VOCdevkit/VOC2007 stands there"
    ),
    read=partial(voc.read, classes=voc.CLASSES),
    imitate=partial(
        imitate_voc,
        classes=voc.CLASSES,
        size=(96, 128),
        lists={"Main/train": 24, "Main/val": 8, "Main/test": 8},
    ),
)
