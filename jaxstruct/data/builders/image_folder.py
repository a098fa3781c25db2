"""A user's own images in class folders, or an archive of such, as a set with a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from jaxstruct.data import class_folders
from jaxstruct.data.class_folders import ClassFolders


def builder(called: str, found: ClassFolders, size: int | None, crop: bool, skip: bool) -> Any:
    """The TFDS builder class of a set that is `called` so; see `data.prepare_folder`."""

    class ImageFolder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """TFDS builder of images in class folders."""

        name = called
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            image = tfds.features.Image(shape=(size, size, 3))
            label = tfds.features.ClassLabel(names=found.classes)
            what = "the middle square" if crop else "the whole image"
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"Images of {found.path}"
                + (f", {what}, {size}x{size}." if size else ", as they are."),
                features=tfds.features.FeaturesDict({"image": image, "label": label}),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(split) for split in found.files}

        def _generate_examples(self, split: str) -> Iterator[Any]:
            read = class_folders.images(
                found,
                split,
                size=size,
                crop=crop,
                skip=skip,
                remedy="--skip-unreadable leaves such files out",
            )
            for file, label, content in read:
                yield file, {"image": content, "label": label}

    return ImageFolder
