"""BCCD: blood cells under a microscope with boxes, in PASCAL VOC's layout."""

from __future__ import annotations

from functools import partial

from jaxstruct.data import voc
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.sets._scenes import imitate_voc

CLASSES = ("RBC", "WBC", "Platelets")

ENTRY = Entry(
    version="1.0.0",
    description=(
        "364 images of blood cells, 640x480: red cells, white cells and platelets in boxes. 205 "
        "train, 87 are for validation, 72 test. Two boxes without area are left out."
    ),
    citation="S. Cheng et al. BCCD Dataset. https://github.com/Shenggan/BCCD_Dataset, 2017. MIT.",
    classes=CLASSES,
    features=voc.features(CLASSES),
    files=tuple(File(name) for name in voc.FOLDERS),
    folders=("BCCD", "BCCD_Dataset/BCCD"),
    by_hand="clone https://github.com/Shenggan/BCCD_Dataset and name its folder BCCD bccd",
    read=partial(voc.read, classes=CLASSES),
    imitate=partial(
        imitate_voc,
        classes=CLASSES,
        size=(96, 128),
        lists={"Main/train": 24, "Main/val": 8, "Main/test": 8},
    ),
)
