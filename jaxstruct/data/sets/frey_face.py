"""Frey Face from frey_rawface.mat, whose `ff` [560,N] has one 28 x 20 face a column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data import matlab
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.errors import DataError
from jaxstruct.data.image_files import png
from jaxstruct.data.imitate import resize

_EXPECTED = "a MATLAB file with `ff`, uint8 [560,N], a 28 x 20 face a column"


def features(tf: Any) -> dict[str, Any]:
    """An image and its place in the video."""
    return {"image": tf.Image(shape=(28, 20, 1)), "frame": np.int32}


def read(folder: Path) -> dict[str, Iterator[tuple[int, dict]]]:
    """The examples of the one split, in time order."""
    return {"train": _examples(faces(folder / "frey_rawface.mat"))}


def _examples(faces: np.ndarray) -> Iterator[tuple[int, dict]]:
    for frame, face in enumerate(faces):
        yield frame, {"image": png(face), "frame": frame}


def faces(path: Path) -> np.ndarray:
    """Read and check the file: faces uint8 [N,28,20] in time order.

    Raises DataError that names the file and what was expected in it.
    """
    columns = matlab.read(path, "ff", _EXPECTED)
    if columns.dtype != np.uint8 or columns.ndim != 2 or len(columns) != 560 or not columns.size:
        raise DataError(
            f"{path}: `ff` is {columns.dtype} {list(columns.shape)}; expected {_EXPECTED}"
        )
    return np.ascontiguousarray(columns.T).reshape(-1, 28, 20)


def _content(path: Path) -> bytes:
    """The pixels alone: the container around them differs between copies."""
    return matlab.read(path, "ff", "a MATLAB file with `ff`, a face a column").T.tobytes()


def imitate(folder: Path) -> None:
    """Write frey_rawface.mat: 400 frames of scikit-image's portrait of Eileen Collins (NASA).

    A window wanders over the face and the light changes, slowly, as in a video.
    """
    import scipy.io
    from skimage import data

    portrait = np.asarray(data.astronaut()[:300, 100:350], np.float64) @ [0.299, 0.587, 0.114]
    time = np.arange(400) / 20
    tops = np.round(12 + 10 * np.sin(time)).astype(int)
    lefts = np.round(50 + 14 * np.sin(0.6 * time + 1)).astype(int)
    light = 0.85 + 0.15 * np.sin(0.3 * time)
    windows = [
        portrait[top : top + 196, left : left + 140] * brightness
        for top, left, brightness in zip(tops, lefts, light, strict=True)
    ]
    images = resize(np.clip(windows, 0, 255).astype(np.uint8), 28, 20)
    columns = images.reshape(len(images), 560).T
    scipy.io.savemat(folder / "frey_rawface.mat", {"ff": columns}, do_compression=True)


ENTRY = Entry(
    version="1.0.0",
    description=(
        "1,965 frames of a video of Brendan Frey's face, 28 high, 20 wide, grey, in time order."
    ),
    citation=(
        "S. Roweis, L. Saul, G. Hinton. Global coordination of local linear models. "
        "Advances in Neural Information Processing Systems 14, 2002."
    ),
    features=features,
    files=(
        File(
            "frey_rawface.mat",
            ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",),
            md5="687b39ec28b56c183474c235686975cf",
            content=_content,
        ),
    ),
    read=read,
    imitate=imitate,
)
