"""Decoded arrays, kept beside the prepared sets and named by the examples that they are of.

They stand in decoded/SET/SPLIT/DIGEST below the folder of prepared sets, so that they are found
where that folder is copied, mounted elsewhere, or shared by several machines.

What may be added: another form of arrays.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxstruct.data import on_disk, places
from jaxstruct.data.errors import DataError
from jaxstruct.data.on_disk import Prepared
from jaxstruct.data.regular_files import check_all_regular

_KEYS = "keys.json"  # beside the arrays: which there are


def folder_of(prepared: Prepared, split: str) -> Path:
    """The folder of a whole split's arrays, there or not. Raises OSError for missing records."""
    return _of_set(prepared) / split / on_disk.digest(prepared.path, split)[:16]


def read(folder: Path, size: int) -> dict[str, np.ndarray] | None:
    """The arrays of so many examples that `write` wrote; None where they are not all there."""
    try:
        check_all_regular(folder)
        keys = json.loads((folder / _KEYS).read_text("utf-8"))
        arrays = {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in sorted(keys)}
        whole = all(len(array) == size for array in arrays.values())
        return {key: array.view(np.ndarray) for key, array in arrays.items()} if whole else None
    except Exception:  # of what is cut or overwritten, NumPy raises several kinds
        return None


def write(
    prepared: Prepared, split: str, folder: Path, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Keep arrays in what was `folder_of` before they were decoded; what `read` finds there.

    Arrays of examples that the set has no more go. Raises DataError where nothing can be written.
    """
    size = prepared.splits[split]
    with places.workshop(places.prepared_root()) as temporary:
        made = temporary / split
        made.mkdir()
        for key, array in arrays.items():
            np.save(made / f"{key}.npy", array)
        (made / _KEYS).write_text(json.dumps(sorted(arrays)), encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_others(prepared)
        if read(folder, size) is None:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster: its arrays are the same
            os.rename(made, folder)
    found = read(folder, size)
    if found is None:
        raise DataError(f"{folder}: damaged; expected decoded arrays; remove this folder")
    return found


def _of_set(prepared: Prepared) -> Path:
    name = prepared.name.partition(":")[0].replace("/", "-")
    called = f"{name}-{prepared.version}-{prepared.origin}"
    return places.prepared_root() / "decoded" / called


def _remove_others(prepared: Prepared) -> None:
    for folder in _of_set(prepared).glob("*/*"):
        split = folder.parent.name
        with contextlib.suppress(OSError):
            if split not in prepared.splits or folder != folder_of(prepared, split):
                shutil.rmtree(folder, ignore_errors=True)
