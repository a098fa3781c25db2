"""PASCAL VOC's photographs of one year: what the years share.

What may be added: what several of PASCAL VOC's sets share.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxstruct.data import class_maps, voc
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.sets._scenes import imitate_voc, imitate_voc_masks

CITATION = (
    "M. Everingham, L. Van Gool, C. K. I. Williams, J. Winn, A. Zisserman. The PASCAL Visual "
    "Object Classes (VOC) Challenge. International Journal of Computer Vision 88(2), 2010."
)


def entry(year: int, images: str, lists: Mapping[str, int]) -> Entry:
    """The set of a year; its imitation has lists of so many images."""
    return Entry(
        version="1.0.0",
        description=(
            f"PASCAL VOC {year}: {images}. Twenty classes in boxes, some of them difficult. A "
            "split is a list in ImageSets: Main/train is train, that of another folder has the "
            "folder's name before it."
        ),
        citation=CITATION,
        classes=voc.CLASSES,
        features=voc.features(voc.CLASSES),
        files=tuple(File(name) for name in voc.FOLDERS),
        folders=_folders(year),
        by_hand=_by_hand(year),
        read=partial(voc.read, classes=voc.CLASSES),
        imitate=partial(imitate_voc, classes=voc.CLASSES, size=(96, 128), lists=lists),
    )


def masked_entry(year: int, images: str, lists: Mapping[str, int]) -> Entry:
    """The images of a year with class masks; its imitation has lists of so many images."""
    return Entry(
        version="1.0.0",
        description=(
            f"PASCAL VOC {year}, class masks: {images}. Background is 0, twenty classes follow, "
            "and the border of objects is void (255). A split is a list for segmentation: that of "
            "ImageSets/Segmentation/train.txt is train, that of Pack/segmentation_val.txt "
            "pack_val. A mask is that of SegmentationClass, or else of SegmentationClassAug."
        ),
        citation=(
            f"{CITATION} Masks of SegmentationClassAug: B. Hariharan, P. Arbelaez, L. Bourdev, "
            "S. Maji, J. Malik. Semantic Contours from Inverse Detectors. ICCV, 2011."
        ),
        classes=voc.MASKED,
        features=class_maps.features(voc.MASKED),
        files=tuple(File(name) for name in ("JPEGImages", "SegmentationClass", "ImageSets")),
        folders=_folders(year),
        by_hand=_by_hand(year),
        read=lambda folder: class_maps.read(folder, voc.masked_pairs(folder), voc.MASKED),
        imitate=partial(imitate_voc_masks, size=(96, 128), lists=lists),
    )


def _folders(year: int) -> tuple[str, ...]:
    return f"VOCdevkit/VOC{year}", f"VOC{year}"


def _by_hand(year: int) -> str:
    return (
        f"get VOCtrainval and VOCtest of {year} from "
        f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year} and unpack them, so that "
        f"VOCdevkit/VOC{year} stands there"
    )
