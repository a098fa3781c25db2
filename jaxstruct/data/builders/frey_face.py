"""Frey Face from frey_rawface.mat, whose `ff` [560,N] has one 28 x 20 face a column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxstruct.data import matlab
from jaxstruct.data.builders import info, png
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.errors import DataError

_EXPECTED = "a MATLAB file with `ff`, uint8 [560,N], a 28 x 20 face a column"


def read(folder: Path) -> np.ndarray:
    """Read and check the file: faces uint8 [N,28,20] in time order.

    Raises DataError that names the file and what was expected in it.
    """
    path = folder / CATALOGUE["frey_face"].files[0].name
    columns = matlab.read(path, "ff", _EXPECTED)
    if columns.dtype != np.uint8 or columns.ndim != 2 or len(columns) != 560 or not columns.size:
        raise DataError(
            f"{path}: `ff` is {columns.dtype} {list(columns.shape)}; expected {_EXPECTED}"
        )
    return np.ascontiguousarray(columns.T).reshape(-1, 28, 20)


class FreyFace(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """TFDS builder of Frey Face; `manual_dir` holds frey_rawface.mat."""

    VERSION = tfds.core.Version(CATALOGUE["frey_face"].version)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "frey_rawface.mat"

    def _info(self) -> Any:
        image = tfds.features.Image(shape=(28, 20, 1))
        return info(self, {"image": image, "frame": np.int32})

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(read(Path(dl_manager.manual_dir)))}

    def _generate_examples(self, faces: np.ndarray) -> Iterator[Any]:
        for frame, face in enumerate(faces):
            yield frame, {"image": png(face), "frame": frame}


BUILDER = FreyFace
