"""The 8 x 8 digits that scikit-learn carries."""

from __future__ import annotations

from collections.abc import Iterator

from jaxstruct.data.entry import Entry
from jaxstruct.data.sets import _digits, _labelled


def read(_: None) -> dict[str, Iterator[tuple[int, dict]]]:
    """The examples of both splits, of no file."""
    images, labels = _digits.images_and_labels()
    train, test = slice(None, _digits.TRAIN), slice(_digits.TRAIN, None)
    return _labelled.examples(
        {"train": (images[train], labels[train]), "test": (images[test], labels[test])}
    )


ENTRY = Entry(
    version="1.0.0",
    description=(
        "Handwritten digits, 8x8 grey, as scikit-learn carries them (UCI's test part), "
        "0..16 scaled to 0..255. The split is ours, in the official order: the first 1,437 "
        "train, the last 360 test."
    ),
    citation=(
        "E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine "
        "Learning Repository, 1998."
    ),
    classes=_digits.CLASSES,
    features=_labelled.features((8, 8, 1), _digits.CLASSES),
    read=read,
)
