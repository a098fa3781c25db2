"""Where the proposals of a prepared set are kept, and whether they are still of that set.

They stand in proposals/NAME/KIND/SPLIT.npz below the folder of prepared sets: `boxes` [total, 4]
float32, `counts` [N] and `record`, a JSON text of the options and of the set that they belong to.
While a search goes on, KIND/SPLIT.part-START.npz is such a file of a span of images that is done.

What may be added: another fact that the record keeps.
"""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstruct.data import on_disk, places
from jaxstruct.data.errors import DataError, blamed
from jaxstruct.data.on_disk import Prepared
from jaxstruct.data.proposal_files import boxes_of, read_arrays

SEARCHED = "selective_search-"  # begins the kinds that are searched here
_OPTIONS = re.compile(rf"{SEARCHED}(fast|quality)-(full|\d+)")


class Kept(NamedTuple):
    """The boxes [n, 4] of each image of a split, and the mean time of a core for one, if known."""

    boxes: list[np.ndarray]
    seconds: float | None


def options_of(kind: str) -> dict[str, Any] | None:
    """Mode and width of `selective_search` that a kind names; None for a user's own proposals."""
    named = _OPTIONS.fullmatch(kind)
    if not named:
        return None
    mode, width = named.groups()
    return {"mode": mode, "width": None if width == "full" else int(width)}


def path_of(prepared: Prepared, kind: str, split: str) -> Path:
    """The file of a whole split's proposals, there or not."""
    return _root(prepared) / "proposals" / prepared.name / kind / f"{split}.npz"


def _root(prepared: Prepared) -> Path:
    return places.imitations_root() if prepared.origin == "imitation" else places.prepared_root()


def record_of(prepared: Prepared, split: str) -> dict[str, Any]:
    """What is written down of the set before its images are read, since it may be replaced then."""
    return {
        "set": prepared.name,
        "version": prepared.version,
        "split": split,
        "examples": on_disk.digest(prepared.path, split),
    }


def check_writable(prepared: Prepared, kind: str) -> None:
    """Raises DataError where `write` would, before hours of work; nothing is left behind."""
    with places.workshop(_root(prepared), "proposals"):
        pass
    place = path_of(prepared, kind, "").parent
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    with places.workshop(there, "proposals"):
        pass


def write(
    prepared: Prepared, kind: str, split: str, boxes: list[np.ndarray], record: dict[str, Any]
) -> None:
    """Keep the boxes [n, 4] of all images of a split, in the place of others, or nothing.

    `record` is what `record_of` gave, with the options. Raises DataError where the folder cannot be
    written.
    """
    target = path_of(prepared, kind, split)
    _write(_root(prepared), target, boxes, record)
    for part in target.parent.glob(f"{glob.escape(split)}.part-*.npz"):
        part.unlink(missing_ok=True)


def _write(root: Path, target: Path, boxes: list[np.ndarray], record: dict[str, Any]) -> None:
    with places.workshop(root, "proposals") as folder:
        made = folder / target.name
        np.savez(
            made,
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            counts=np.array([len(one) for one in boxes], np.int64),
            record=np.array(json.dumps(record)),
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, target)


def write_part(
    prepared: Prepared, kind: str, split: str, span: range, part: Kept, record: dict[str, Any]
) -> None:
    """Keep what was found in a span of a split's images, until `write` keeps all of them."""
    target = path_of(prepared, kind, f"{split}.part-{span.start}")
    _write(_root(prepared), target, part.boxes, {**record, "seconds": part.seconds})


def read_part(
    prepared: Prepared, kind: str, split: str, span: range, record: dict[str, Any]
) -> Kept | None:
    """What `write_part` kept of a span, with the same record; None without it, or if damaged."""
    path = path_of(prepared, kind, f"{split}.part-{span.start}")
    if not path.exists():
        return None
    try:
        arrays = read_arrays(path, ("boxes", "counts", "record"), "a part of a search")
        boxes = boxes_of(path, arrays["boxes"], arrays["counts"], "a part of a search")
        with blamed(path, "a part of a search", "another record"):
            found = json.loads(str(arrays["record"]))
            seconds = float(found.pop("seconds"))
    except DataError:
        return None
    return Kept(boxes, seconds) if found == record and len(boxes) == len(span) else None


def read(prepared: Prepared, kind: str, split: str) -> Kept:
    """The proposals of a whole split; their arrays are read-only.

    Raises DataError that names the command to run where there are none, where they are damaged, and
    where the set was prepared again since.
    """
    path = path_of(prepared, kind, split)
    command = _command(prepared, kind, split)
    if not path.exists():
        kinds = sorted(other.parent.name for other in path.parent.parent.glob(f"*/{split}.npz"))
        there = f"there are {', '.join(kinds)}; " if kinds else ""
        raise DataError(
            f"{path}: missing; expected the proposals {kind} of {prepared.name}, {split}; {there}"
            f"make them with: {command}"
        )
    again = f"proposals as they were written; make them again with: {command}"
    arrays = read_arrays(path, ("boxes", "counts", "record"), again)
    arrays["boxes"].flags.writeable = False
    boxes = boxes_of(path, arrays["boxes"], arrays["counts"], again)
    with blamed(path, again, "a record that is not what was written"):
        record = json.loads(str(arrays["record"]))
        made_of, seconds = record["examples"], record.get("seconds")
        kept = Kept(boxes, None if seconds is None else float(seconds))
    if made_of != on_disk.digest(prepared.path, split) or len(boxes) != prepared.splits[split]:
        raise DataError(
            f"{path}: of other examples of {prepared.name}; expected proposals of the set in "
            f"{prepared.path}; make them again with: {command}"
        )
    return kept


def _command(prepared: Prepared, kind: str, split: str) -> str:
    options = f"--from FILE --as {kind}"
    if searched := options_of(kind):
        width = searched["width"]
        size = "--full-width" if width is None else f"--width {width}"
        options = f"--mode {searched['mode']} {size}"
    imitated = " --imitations" if prepared.origin == "imitation" else ""
    called = f"python -m jaxstruct.data propose {prepared.name} --split {split}"
    return f"{called} {options}{imitated}"
