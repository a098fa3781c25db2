"""PASCAL VOC 2012: photographs with boxes of twenty classes."""

from __future__ import annotations

from functools import partial

from jaxstruct.data import voc
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.sets._scenes import imitate_voc

ENTRY = Entry(
    version="1.0.0",
    description=(
        "PASCAL VOC 2012: 17,125 images, 11,540 of them in lists for detection. Twenty "
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
    folders=("VOCdevkit/VOC2012", "VOC2012"),
    by_hand=(
        "get VOCtrainval and VOCtest of 2012 from http://host.robots.ox.ac.uk/pascal/VOC/voc2012 "
        "and unpack them, so that VOCdevkit/VOC2012 stands there"
    ),
    read=partial(voc.read, classes=voc.CLASSES),
    imitate=partial(
        imitate_voc,
        classes=voc.CLASSES,
        size=(96, 128),
        lists={"Main/train": 24, "Main/val": 16, "Pack/train": 24, "Pack/val": 8, "Pack/test": 8},
    ),
)
