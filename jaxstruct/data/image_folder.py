"""A user's own images in class folders, or an archive of such, as a set with a name.

What may be added: another thing that a user may ask of such images.
"""

from __future__ import annotations

from jaxstruct.data import class_folders
from jaxstruct.data.class_folders import ClassFolders
from jaxstruct.data.entry import Entry


def entry(
    found: ClassFolders, size: int | None, crop: bool, skip: bool, skipped: list[str] | None = None
) -> Entry:
    """What such a set is, and how its images are read; see `data.prepare_folder`.

    `skipped` gets the names of those that cannot be read.
    """
    what = "the middle square" if crop else "the whole image"
    form = f", {what}, {size}x{size}." if size else ", as they are."
    return Entry(
        version="1.0.0",
        description=f"Images of {found.path}{form}",
        citation="",
        classes=found.classes,
        features=lambda tf: {
            "image": tf.Image(shape=(size, size, 3)),
            "label": tf.ClassLabel(names=found.classes),
        },
        read=lambda _: class_folders.examples(
            found,
            size=size,
            crop=crop,
            skip=skip,
            skipped=skipped,
            remedy="--skip-unreadable leaves such files out",
        ),
        in_order=False,
    )
