"""From a name to a prepared set in array_record: found, or made of raw files on the machine.

What may be added: another kind of place a prepared set can come from. Reading it is sources.py's.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxstruct.data import class_folders, image_folder, imitate, places
from jaxstruct.data.builder import builder
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.download import fetch
from jaxstruct.data.entry import Entry, File
from jaxstruct.data.errors import DataError

_RECORD = "jaxstruct.json"  # beside TFDS's files: where the set comes from


@dataclass(frozen=True)
class Prepared:
    """A prepared set: its name, its folder in TFDS's layout, its origin, its splits' sizes.

    `classes` are what the labels 0, 1, ... mean; none where nobody has said it.
    """

    name: str
    path: Path
    origin: str
    version: str
    splits: dict[str, int]
    classes: tuple[str, ...] = ()


def prepare(name: str, *, download: bool = True) -> Prepared:
    """Prepare a set of the catalogue from its raw files, downloading those if none are found.

    Nothing is done where it already is prepared from these files. Raises DataError for an unknown
    name, missing or bad raw files, a failed download.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        raise DataError(unknown(name))
    raw = find_raw(name)
    if found := _ours(name, raw):
        return found
    if entry.files and (raw is None or absent(name, raw)):
        download = download and not entry.by_hand
        if not download and raw is None:
            raise DataError(missing(name))
        if download:
            raw = raw or places.raw_folders(name)[0]
            fetch(absent(name, raw), raw)
    return _prepare(name, raw)


def prepare_folder(
    name: str,
    path: str | Path,
    *,
    size: int | None = None,
    crop: bool = False,
    skip_unreadable: bool = False,
) -> Prepared:
    """Prepare a user's own images, in class folders or an archive of such, as the set `name`.

    Args:
        name: small letters, digits and underscores; what `load` and the experiments take then.
        path: a folder, .zip or .tar (.gz, .xz, .bz2) of CLASS/x.jpg, or of train/CLASS/x.jpg and
            test/CLASS/x.jpg (val, valid and validation are splits, too). Without such, all is the
            split train.
        size: images become `size` x `size`; without it they stay as large as they are.
        crop: the square in the middle of an image is resized, not the whole image.
        skip_unreadable: name and leave out the files that are no images that can be read.

    Raises:
        ValueError: for a name of the catalogue, or of other characters, and a size below 1.
        DataError: for what is not laid out so, and images that cannot be read.
    """
    if name in CATALOGUE or not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"the name {name!r}; expected one of small letters, digits and underscores, and none "
            f"of {', '.join(CATALOGUE)}"
        )
    if (crop and size is None) or (size is not None and size < 1):
        raise ValueError(f"size {size}, crop {crop}; expected a size above 0, and one for a crop")
    path = Path(path).expanduser().absolute()
    found = class_folders.scan(path)
    if found.others:
        more = f" and {len(found.others) - 1} more" if found.others[1:] else ""
        _say(f"{path}: no images by their names, so left out: {found.others[0]}{more}")
    entry = image_folder.entry(found, size, crop, skip_unreadable)
    # With the time in its record, a set that is prepared again is another one.
    return _build(name, entry, _own(name), {"origin": "user", "raw": [str(path), time.time_ns()]})


def locate(name: str) -> Prepared:
    """Find the prepared set of a name, or prepare it without any download.

    Ours, or what raw files give; then what the user prepared, of own images or with TFDS; then,
    where `looking` allows it, an imitation. Raises DataError if there is none.
    """
    entry = CATALOGUE.get(name)
    raw = find_raw(name) if entry else None
    if entry and (found := _ours(name, raw)):
        return found
    if entry and (raw or not entry.files):
        if raw:
            _say(f"{name}: preparing from {raw} (once)")
        return _prepare(name, raw)
    if found := _read(name, _own(name)) or _of_user(name):
        return found
    if entry and entry.imitate and places.imitations_allowed():
        if places.first_announcement(name):
            _say(f"{name}: no raw files found, an IMITATION stands in (see jaxstruct.data.imitate)")
        return _imitation(name, entry.imitate)
    raise DataError(missing(name) if entry else unknown(name))


def find_raw(name: str) -> Path | None:
    """The first of the raw folders that holds any of the set's files, imitations left aside.

    An archive that is called as the set may lie beside the folder of that name.
    """
    files = CATALOGUE[name].files
    for folder in _raw_folders(name):
        if (folder / places.IMITATION_MARK).exists():
            continue
        if any(file.find(folder) for file in files):
            return folder
        beside = [file.find(folder.parent) for file in files]
        if any(path and path.name.startswith(f"{name}.") for path in beside):
            return folder.parent
    return None


def _raw_folders(name: str) -> list[Path]:
    """The folders that may hold the raw files: `places.raw_folders`, and others of the set."""
    called = (name, *CATALOGUE[name].folders)
    return [folder.parent / inside for folder in places.raw_folders(name) for inside in called]


def absent(name: str, folder: Path) -> list[File]:
    """The raw files of a set that `folder` lacks."""
    return [file for file in CATALOGUE[name].files if not file.find(folder)]


def missing(name: str) -> str:
    """What to say where a set of the catalogue is not on this machine."""
    looked = ", ".join(map(str, _raw_folders(name)))
    files = ", ".join(file.name for file in CATALOGUE[name].files)
    return (
        f"{name}: not found; looked for {files} in {looked}, and for a set prepared with TFDS in "
        f"{places.user_root()}; {_remedy(name)} (or put the files into the folder {name} of "
        "--data-dir or of $JAXSTRUCT_DATA)"
    )


def _remedy(name: str) -> str:
    return CATALOGUE[name].by_hand or f"get it with: python -m jaxstruct.data prepare {name}"


def unknown(name: str) -> str:
    """What to say about a name that is neither in the catalogue nor among the user's sets."""
    names = known()
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return (
        f"no data set {name!r}; did you mean {near[0]!r}? (there are {', '.join(names)}, and what "
        f"TFDS prepared with file_format='array_record' in {places.user_root()})"
    )


def known() -> list[str]:
    """Every name that can be asked for: the catalogue's, then those of the user's own sets."""
    return [*dict.fromkeys([*CATALOGUE, *places.own_sets(), *places.user_sets()])]


def where() -> list[dict[str, Any]]:
    """Report what is known of every set without preparing any.

    A dict for each: `name`; `raw`, the folder with raw files or None; `looked`, the folders that
    were looked into; `classes`, what the labels mean, as far as is known; and, each None while
    nothing is prepared, `path`, `splits` ({split: number of examples}) and `origin`.
    """
    rows = []
    for name in known():
        ours = name in CATALOGUE
        raw = find_raw(name) if ours else None
        found = _ours(name, raw) if ours else _read(name, _own(name))
        with contextlib.suppress(DataError):  # a user's set in another format is not ours to judge
            found = found or _of_user(name)
        if ours and not found and not raw:
            found = _read(name, _target(_imitations(), name))
        rows.append(
            {
                "name": name,
                "raw": raw,
                "looked": _raw_folders(name) if ours and CATALOGUE[name].files else [],
                "classes": found.classes if found else CATALOGUE[name].classes if ours else (),
                "path": found and found.path,
                "splits": found and found.splits,
                "origin": found and found.origin,
            }
        )
    return rows


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _target(root: Path, name: str) -> Path:
    return root / name / CATALOGUE[name].version


def _own(name: str) -> Path:
    return places.own_root() / name / "1.0.0"


def _ours(name: str, raw: Path | None) -> Prepared | None:
    """Our prepared set, unless `raw` holds all files and they are not those it was made of."""
    path = _target(places.prepared_root(), name)
    found = _read(name, path)
    if found and raw and not absent(name, raw):
        made_of = json.loads((path / _RECORD).read_text())["raw"]
        return found if made_of == _fingerprint(name, raw) else None
    return found


def _fingerprint(name: str, raw: Path) -> dict[str, list[int]]:
    paths = [path for file in CATALOGUE[name].files if (path := file.find(raw))]
    return {path.relative_to(raw).as_posix(): _stamp(path) for path in paths}


def _stamp(path: Path) -> list[int]:
    """Size and date; of a folder, of all that stands in it: the sum, and the last."""
    stats = [
        path.stat(),
        *(inside.lstat() for inside in (path.rglob("*") if path.is_dir() else ())),
    ]
    return [sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)]


def _read(name: str, path: Path) -> Prepared | None:
    try:
        origin = json.loads((path / _RECORD).read_text())["origin"]
        return _described(name, path, origin)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: not a prepared set ({error}); remove the folder") from None


def _described(name: str, path: Path, origin: str) -> Prepared:
    info = json.loads((path / "dataset_info.json").read_text())
    splits = {
        split["name"]: sum(int(length) for length in split["shardLengths"])
        for split in info["splits"]
    }
    return Prepared(name, path, origin, info["version"], splits, _classes(name, path))


def _classes(name: str, path: Path) -> tuple[str, ...]:
    """The names that TFDS keeps of `label` or `classes`, else those of the catalogue."""
    for key in ("label", "classes"):
        with contextlib.suppress(FileNotFoundError):
            names = (path / f"{key}.labels.txt").read_text("utf-8").split("\n")
            return tuple(name for name in names if name)
    return CATALOGUE[name].classes if name in CATALOGUE else ()


def _of_user(name: str) -> Prepared | None:
    root = places.user_root()
    if not (root / name.split("/")[0].split(":")[0]).is_dir():
        return None
    import tensorflow_datasets as tfds

    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        return None
    path = Path(builder.data_path)
    kind = builder.info.file_format
    if kind is None or kind.value != "array_record":
        raise DataError(
            f"{path}: prepared as {kind and kind.value}; expected array_record; prepare it again "
            'with file_format="array_record"'
        )
    return _described(name, path, "user")


def _imitations() -> Path:
    return places.imitations_root() / imitate.REVISION


def _imitation(name: str, write: Callable[[Path], None]) -> Prepared:
    root = _imitations()
    if found := _read(name, _target(root, name)):
        return found
    with places.workshop(root) as folder:
        raw = folder / name
        raw.mkdir()
        write(raw)
        (raw / places.IMITATION_MARK).write_text("Made by jaxstruct.data.imitate: no real data.\n")
        # Its files are made anew each time, so their dates say nothing.
        record = {"origin": "imitation", "raw": None}
        prepared = _build(name, CATALOGUE[name], _target(root, name), record, raw)
        if not (root / "raw" / name).exists():
            _install(raw, root / "raw" / name)
    return prepared


def _prepare(name: str, raw: Path | None) -> Prepared:
    if raw and (lacking := absent(name, raw)):
        raise DataError(
            f"{raw / lacking[0].name}: missing; expected it beside the other files of {name}; "
            f"{_remedy(name)}"
        )
    record = {
        "origin": "official" if raw else "package",
        "raw": _fingerprint(name, raw) if raw else None,
    }
    target = _target(places.prepared_root(), name)
    return _build(name, CATALOGUE[name], target, record, raw)


def _build(
    name: str, entry: Entry, target: Path, record: dict[str, Any], raw: Path | None = None
) -> Prepared:
    """Let TFDS make a set of the raw files in the folder `raw`, and put it into its place."""
    import tensorflow_datasets as tfds

    root = target.parents[1]
    with places.workshop(root) as folder, _quiet(tfds):
        making = builder(name, entry, raw)(data_dir=folder, file_format="array_record")
        making.download_and_prepare()
        made = Path(making.data_path)
        (made / _RECORD).write_text(json.dumps(record, indent=1) + "\n")
        _install(made, target)
        return _described(name, target, record["origin"])


@contextlib.contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _install(made: Path, target: Path) -> None:
    """Rename a whole folder into place, unless another process has put the same there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(100):
        try:
            os.rename(made, target)  # fails where a folder that is not empty stands
            return
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                if (target / _RECORD).read_bytes() == (made / _RECORD).read_bytes():
                    return
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, made.parent / f"replaced-{attempt}")
    raise DataError(f"{target}: cannot be replaced; expected a folder that can be written")
