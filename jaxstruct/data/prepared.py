"""From a name to a prepared set in array_record: found, or made of raw files on the machine.

What may be added: another kind of place a prepared set can come from. Reading it is sources.py's.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxstruct.data import imitate, on_disk, places, raw_files
from jaxstruct.data.builder import build, install
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.download import fetch
from jaxstruct.data.entry import File
from jaxstruct.data.errors import DataError
from jaxstruct.data.on_disk import Damaged, Prepared
from jaxstruct.data.regular_files import check_all_regular

_OF_TFDS = "prepare it again with TensorFlow Datasets"


def prepare(name: str, *, download: bool = True) -> Prepared:
    """Prepare a set of the catalogue from its raw files, which are downloaded if none are found.

    Nothing is done where the set is prepared from these files already, and is whole. Raises
    DataError for an unknown name, missing or bad raw files, a failed download, a folder that cannot
    be written, and a full disk; and Damaged for a damaged set that cannot be prepared again.
    """
    name = without_version(name)
    entry = CATALOGUE.get(name)
    if entry is None:
        raise DataError(unknown(name))
    raw = find_raw(name)
    if found := _whole(name, raw, download):
        return found
    if entry.files and (raw is None or absent(name, raw)):
        download = download and not entry.by_hand
        if not download and raw is None:
            raise DataError(missing(name))
        if download:
            raw = raw or places.raw_folders(name)[0]
            fetch(absent(name, raw), raw)
    return _prepare(name, raw)


def locate(name: str) -> Prepared:
    """Find the prepared set of a name, or prepare it without any download.

    The places, in order: a set of the catalogue that is prepared, or can be prepared from raw
    files; a set that the user prepared from own images, or with TFDS; where `looking` allows it, an
    imitation. Raises DataError if the set is in no place, or its raw files are bad, or it cannot be
    written; and Damaged if its files are damaged and cannot be prepared again.
    """
    name = without_version(name)
    entry = CATALOGUE.get(name)
    raw = find_raw(name) if entry else None
    if entry and (found := _whole(name, raw)):
        return found
    if entry and (raw or not entry.files):
        if raw:
            _say(f"{name}: preparing from {raw} (once)")
        return _prepare(name, raw)
    if found := _of_folder(name) or _of_user(name):
        return found
    if entry and entry.imitate and places.imitations_allowed():
        if places.first_announcement(name):
            _say(f"{name}: no raw files found, an IMITATION stands in (see jaxstruct.data.imitate)")
        return _imitation(name, entry.imitate)
    raise DataError(missing(name) if entry else unknown(name))


def again(found: Prepared, damaged: Damaged) -> Prepared:
    """Prepare a set again whose files proved to be `damaged` when they were read.

    Raises `damaged` where the set is a user's own, or the machine has no raw files of it; else
    DataError as `prepare` does.
    """
    name, entry = found.name, CATALOGUE.get(found.name)
    if entry and entry.imitate and found.origin == "imitation":
        return _imitation(name, entry.imitate, replace=True)
    raw = find_raw(name) if entry else None
    if found.origin == "user" or not _can_make(name, raw):
        raise damaged
    _say(f"{found.path}: damaged, so {name} is prepared again")
    return _prepare(name, raw, replace=True)


def remedy(found: Prepared) -> str:
    """What to do about a set whose files are damaged."""
    if found.path == places.own_folder(found.name):
        return _of_own_images(found.name)
    return _OF_TFDS if found.origin == "user" else _of_raw_files(found.name)


def find_raw(name: str) -> Path | None:
    """The first raw folder that holds any file of the set and is no imitation, or None.

    An archive with the name of the set may also lie beside the folder of that name.
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
    names, first = known(), re.split("[/:]", name)[0]
    if first != name and first in names:
        ours = [f"{first}:{version}"] if (version := _version(first)) else []
        return (
            f"{first} has no version or configuration {name[len(first) + 1 :]!r}; expected "
            f"{' or '.join([*ours, *places.user_versions(first)])}"
        )
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return (
        f"no data set {name!r}; did you mean {near[0]!r}? (there are {', '.join(names)}, and what "
        f"TFDS prepared with file_format='array_record' in {places.user_root()})"
    )


def known() -> list[str]:
    """Every name that can be asked for: the catalogue's, then those of the user's own sets."""
    return [*dict.fromkeys([*CATALOGUE, *places.own_sets(), *places.user_sets()])]


def without_version(name: str) -> str:
    """The name, without the version that our set has, mnist for mnist:1.0.0."""
    first, _, version = name.partition(":")
    return first if version and version == _version(first) else name


def exists(name: str) -> bool:
    """Whether there is a set of that name, prepared or not.

    One of the user's may be named with its configuration and version, name/config:1.2.3. Raises
    DataError where that one is damaged, or in another format than array_record.
    """
    first = re.split("[/:]", name)[0]
    return name in known() or (first in places.user_sets() and _of_user(name) is not None)


def where() -> list[dict[str, Any]]:
    """Report what is known of every set without preparing any; see `about`.

    Raises DataError that names the variable whose path is refused, see `places`.
    """
    return [about(name) for name in known()]


def about(name: str) -> dict[str, Any]:
    """What is known of a set without preparing it, as a dict.

    `name`; `raw`, the folder with raw files or None; `looked`, the folders that were looked into;
    `classes`, what the labels mean, as far as is known; each None while nothing is prepared,
    `path`, `splits` ({split: number of examples}) and `origin`; and `damaged`, what to say of a set
    that is there but not whole, else None. Raises DataError as `where` does.
    """
    ours = name in CATALOGUE
    raw = find_raw(name) if ours else None
    found, damaged = None, None
    try:
        found = _ours(name, raw) if ours else _of_folder(name)
        found = found or _of_user(name)
    except Damaged as error:
        damaged = str(error)
    except DataError:  # a user's set in another format is not ours to judge
        pass
    if ours and not found and not raw and not damaged:
        with contextlib.suppress(Damaged):  # it is made again when it is wanted
            found = _of_imitation(name)
    return {
        "name": name,
        "raw": raw,
        "looked": _raw_folders(name) if ours and CATALOGUE[name].files else [],
        "classes": found.classes if found else CATALOGUE[name].classes if ours else (),
        "path": found and found.path,
        "splits": found and found.splits,
        "origin": found and found.origin,
        "damaged": damaged,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _target(root: Path, name: str) -> Path:
    return root / name / CATALOGUE[name].version


def _version(name: str) -> str | None:
    """Of the sets that we prepare."""
    if name in CATALOGUE:
        return CATALOGUE[name].version
    return places.own_folder(name).name if name in places.own_sets() else None


def _whole(name: str, raw: Path | None, download: bool = False) -> Prepared | None:
    """Our prepared set; None, too, where it is damaged and can be prepared again."""
    try:
        return _ours(name, raw)
    except Damaged:
        if not _can_make(name, raw, download):
            raise
        path = _target(places.prepared_root(), name)
        _say(f"{path}: damaged, so {name} is prepared again")
        return None


def _can_make(name: str, raw: Path | None, download: bool = False) -> bool:
    entry = CATALOGUE[name]
    return (
        (raw is not None and not absent(name, raw))
        or not entry.files
        or (download and not entry.by_hand)
    )


def _ours(name: str, raw: Path | None) -> Prepared | None:
    """Our prepared set, unless `raw` holds all files and they are not those it was made of."""
    path = _target(places.prepared_root(), name)
    found = on_disk.read(name, path, _of_raw_files(name), CATALOGUE[name].classes)
    if found and raw and not absent(name, raw):
        return found if _is_made_of(path, _of_entry(name, raw)) else None
    return found


def _is_made_of(path: Path, files: dict[str, Path]) -> bool:
    """Whether the set in `path` was made of these raw files, or of files of the same contents."""
    record, stamp = on_disk.read_record(path), raw_files.stamp_of(files)
    if stamp in record.get("stamps", []):
        return True
    digests = raw_files.digests_of(files, stamp)
    if record["raw"] != digests:
        return False
    on_disk.add_stamp(path, digests, stamp)
    return True


def _of_raw_files(name: str) -> str:
    files = f", and put the raw files into their place; {_remedy(name)}"
    return f"remove this folder{files if CATALOGUE[name].files else ''}"


def _of_folder(name: str) -> Prepared | None:
    return on_disk.read(name, places.own_folder(name), _of_own_images(name))


def _of_own_images(name: str) -> str:
    return f"prepare it again with: python -m jaxstruct.data prepare {name} --from PATH"


def _of_imitation(name: str) -> Prepared | None:
    target = _target(_imitations(), name)
    return on_disk.read(name, target, "remove this folder", CATALOGUE[name].classes)


def _of_entry(name: str, raw: Path) -> dict[str, Path]:
    """The raw files of a set that are in the folder `raw`, by their names there."""
    paths = [path for file in CATALOGUE[name].files if (path := file.find(raw))]
    return {path.relative_to(raw).as_posix(): path for path in paths}


def _of_user(name: str) -> Prepared | None:
    root = places.user_root()
    named = re.fullmatch(r"(\w+)(/[^/:]+)*(:[\d.*]+)?", name)
    if not named or not (root / named[1]).is_dir():
        return None
    import tensorflow_datasets as tfds

    with on_disk.reading(root / named[1], _OF_TFDS):
        check_all_regular(root / named[1])
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
    with on_disk.reading(path, _OF_TFDS):
        classes = CATALOGUE[name].classes if name in CATALOGUE else ()
        return on_disk.described(name, path, "user", classes)


def _imitations() -> Path:
    return places.imitations_root() / imitate.REVISION


def _imitation(name: str, write: Callable[[Path], None], *, replace: bool = False) -> Prepared:
    root = _imitations()
    with contextlib.suppress(Damaged):
        if not replace and (found := _of_imitation(name)):
            return found
    with places.workshop(root) as folder:
        raw = folder / name
        raw.mkdir()
        write(raw)
        mark = raw / places.IMITATION_MARK
        mark.write_text("Made by jaxstruct.data.imitate: no real data.\n", encoding="utf-8")
        # Its files are made anew each time, so their dates say nothing.
        target = _target(root, name)
        prepared = build(name, CATALOGUE[name], target, "imitation", None, raw, replace=replace)
        if not (root / "raw" / name).exists():
            install(raw, root / "raw" / name)
    return prepared


def _prepare(name: str, raw: Path | None, *, replace: bool = False) -> Prepared:
    if raw and (lacking := absent(name, raw)):
        raise DataError(
            f"{raw / lacking[0].name}: missing; expected it beside the other files of {name}; "
            f"{_remedy(name)}"
        )
    target = _target(places.prepared_root(), name)
    if raw is None:
        return build(name, CATALOGUE[name], target, "package", None, replace=replace)
    files = _of_entry(name, raw)
    stamp = raw_files.stamp_of(files)
    made_of = raw_files.digests_of(files, stamp)
    found = build(name, CATALOGUE[name], target, "official", made_of, raw, replace=replace)
    on_disk.add_stamp(target, made_of, stamp)
    return found
