"""Files of proposals: a user's own (.npz, and .mat as Fast R-CNN's release has them), and arrays.

What may be added: another form in which people keep proposals.
"""

from __future__ import annotations

import io
import zipfile
from os import PathLike
from pathlib import Path

import numpy as np

from jaxstruct.data import matlab
from jaxstruct.data.errors import DataError, blamed, check_unpacked, read_raw
from jaxstruct.data.places import given

_NPZ = "`names` [N], `boxes` [total, 4] and `counts` [N], as numpy.savez writes them"
_MAT = "the cells `images` (names) and `boxes` ([n, 4] as y1, x1, y2, x2)"


def read_proposals(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Read boxes by the name of their image, float32 [n, 4] as (x1, y1, x2, y2), continuous.

    Args:
        path: an .npz file with `names` [N], texts; `boxes` [total, 4], all boxes of the first
            image, then all of the second, in continuous pixels; and `counts` [N], how many boxes
            each image has. Or a .mat file as those of Selective Search in Fast R-CNN's release:
            `images`, a cell array of names, and `boxes`, a cell array of as many arrays [n, 4] in
            the order y1, x1, y2, x2, 1-based and with their last pixel: (x1 - 1, y1 - 1, x2, y2).

    Raises DataError that names the file, and the image, for another form, a file that is cut, a
    name that is there twice, an image without a box, and a box without area or with a number that
    is not finite.
    """
    path = given(path)
    forms = {".npz": _of_npz, ".mat": _of_matlab}
    if path.suffix not in forms:
        raise DataError(f"{path}: no file of proposals; expected .npz or .mat")
    found: dict[str, np.ndarray] = {}
    for name, boxes in forms[path.suffix](path):
        if name in found:
            raise DataError(f"{path}: image {name!r:.80} is there twice; expected each name once")
        with np.errstate(over="ignore"):
            found[name] = boxes.astype(np.float32)
        _check(path, name, found[name])
    return found


def read_arrays(path: Path, keys: tuple[str, ...], expected: str) -> dict[str, np.ndarray]:
    """Read the arrays of these keys from an .npz file, of which no code is run.

    Raises DataError that names the file, and what was `expected` in it.
    """
    content = read_raw(path, expected)
    with blamed(path, expected, "no whole .npz file"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_unpacked(sum(info.file_size for info in archive.infolist()), len(content))
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            if missing := [key for key in keys if key not in arrays]:
                raise ValueError(f"no {', '.join(missing)} in it")
            return {key: np.asarray(arrays[key]) for key in keys}


def boxes_of(path: Path, boxes: np.ndarray, counts: np.ndarray, expected: str) -> list[np.ndarray]:
    """The boxes [total, 4] of images of which each has `counts` [N]; raises DataError."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise DataError(f"{path}: `boxes` is {_form(boxes)}; expected {expected}")
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise DataError(f"{path}: `counts` is {_form(counts)}; expected {expected}")
    listed = [int(count) for count in counts]
    if min(listed, default=0) < 0 or sum(listed) != len(boxes):
        raise DataError(
            f"{path}: `counts` add up to {sum(listed)} for {len(boxes)} boxes; expected {expected}"
        )
    ends = np.cumsum(listed, dtype=np.int64)
    return [boxes[end - count : end] for count, end in zip(listed, ends, strict=True)]


def _of_npz(path: Path) -> list[tuple[str, np.ndarray]]:
    arrays = read_arrays(path, ("names", "boxes", "counts"), _NPZ)
    names = arrays["names"]
    boxes = boxes_of(path, arrays["boxes"], arrays["counts"], _NPZ)
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) != len(boxes):
        raise DataError(
            f"{path}: `names` is {_form(names)} for {len(boxes)} counts; expected {_NPZ}"
        )
    return [(str(name), one) for name, one in zip(names, boxes, strict=True)]


def _of_matlab(path: Path) -> list[tuple[str, np.ndarray]]:
    names, cells = (matlab.read_cells(path, key, _MAT) for key in ("images", "boxes"))
    if len(names) != len(cells):
        raise DataError(f"{path}: {len(names)} images, {len(cells)} boxes; expected {_MAT}")
    found = []
    for name, cell in zip(names, cells, strict=True):
        if not isinstance(name, str) or isinstance(cell, str) or cell.shape[1] not in (0, 4):
            raise DataError(f"{path}: a cell is no name or no [n, 4]; expected {_MAT}")
        y1, x1, y2, x2 = cell.reshape(-1, 4).astype(np.float64).T
        found.append((name, np.stack([x1 - 1, y1 - 1, x2, y2], axis=1)))
    return found


def _check(path: Path, name: str, boxes: np.ndarray) -> None:
    if not len(boxes):
        raise DataError(f"{path}: image {name!r:.80} has no box; expected at least one")
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not usable.all():
        said = ", ".join(f"{side:g}" for side in boxes[~usable][0])
        raise DataError(
            f"{path}: box {said} of image {name!r:.80}; expected x1, y1, x2, y2 that are finite, "
            "x2 above x1 and y2 above y1"
        )


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
