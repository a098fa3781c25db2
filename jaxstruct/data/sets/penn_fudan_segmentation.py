"""Penn-Fudan pedestrians as class maps: person or background, for each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxstruct.data import class_maps
from jaxstruct.data.sets import penn_fudan

CLASSES = ("background", "person")


def read(folder: Path) -> dict[str, Iterator[tuple[str, dict]]]:
    """The examples of the splits of `penn_fudan`, all pedestrians being one class."""
    splits = {
        split: [penn_fudan.pair(folder, name) for name in names]
        for split, names in penn_fudan.names_of_splits(folder).items()
    }
    return class_maps.read(folder, splits, CLASSES, indices_of=_indices)


def _indices(values: np.ndarray) -> np.ndarray:
    return (values > 0).astype(np.uint8)


ENTRY = replace(
    penn_fudan.ENTRY,
    description=(
        "170 photographs of streets with a mask of the pedestrians: background 0, person 1. The "
        "split is that of penn_fudan."
    ),
    classes=CLASSES,
    features=class_maps.features(CLASSES),
    folders=("penn_fudan", *penn_fudan.ENTRY.folders),
    read=read,
)
