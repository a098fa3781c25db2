"""Finds damage by checksums, tells it from what may be read later, and sets checkpoints aside.

A damaged checkpoint is renamed, never deleted; one that may be read later stays as it is.

What may be added: another sign that a read may succeed later.
"""

from __future__ import annotations

import errno
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxstruct.data.names import free_path
from jaxstruct.data.regular_files import NotRegular, read_bytes
from jaxstruct.training import parallel

# A missing file stays missing; other errors of the system may pass: network, permissions, memory.
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
# Words by which tensorstore, which raises only ValueError, marks an error that may pass.
_PASSING = re.compile(
    r"\b(PERMISSION_DENIED|UNAVAILABLE|RESOURCE_EXHAUSTED|ABORTED|DEADLINE_EXCEEDED|CANCELLED)\b"
)


def may_pass(error: BaseException, folder: Path) -> BaseException | None:
    """The reason why a checkpoint's folder cannot be read now but perhaps later; None without one.

    `error` is the error of the reading that failed. Where `error` does not tell, all files of the
    folder are read.
    """
    for one in _chain(error):
        if isinstance(one, MemoryError) or _PASSING.search(str(one)):
            return one
        if isinstance(one, NotRegular):
            return None  # as long as it stands there
        if isinstance(one, OSError) and one.errno and one.errno not in _MISSING:
            return one
    try:
        for path in _files(folder):
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass
    except OSError as found:
        return None if found.errno in _MISSING else found
    return None


def is_gone(folder: Path) -> bool:
    """Whether the folder does not exist; False where the system does not say."""
    try:
        folder.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def set_aside(folder: Path) -> Path:
    """Renames the folder N to damaged-N, or damaged-N-2, ..., in all processes; returns it."""
    target = free_path(folder.with_name(f"damaged-{folder.name}"))
    _together(f"before {folder}")
    if parallel.is_first():
        folder.rename(target)
    _together(f"after {folder}")
    return target


def reason(error: BaseException) -> str:
    """The text of an error, in one line."""
    said = str(error).strip().split("\n")[0][:200]
    return said or type(error).__name__


def sealed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a checkpoint as JSON holds it, with its own checksum as `seal`."""
    plain = json.loads(json.dumps(meta))
    return {**plain, "seal": _checksum(plain)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads what `sealed` returned from a JSON file; raises ValueError for anything else."""
    meta = read_object(path)
    if "seal" in meta and meta.pop("seal") != _checksum(meta):
        raise ValueError(f"the checksum of {path.parent.name} is not the one that was saved")
    return meta


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; raises ValueError for anything else."""
    found = json.loads(read_bytes(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return found


def _checksum(meta: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _files(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for base, _, names in os.walk(folder, onerror=fail):
        yield from (Path(base, name) for name in names)


def _together(name: str) -> None:
    if parallel.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
