"""Downloads of raw files from the addresses in the catalogue; only `prepare` calls this.

What may be added: unpacking of archives whose set needs it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from jaxstruct.data import places
from jaxstruct.data.entry import File
from jaxstruct.data.errors import DataError


def fetch(files: Sequence[File], folder: Path, *, timeout: float = 30.0) -> None:
    """Download files into a folder, each from the first of its addresses that gives the right one.

    `timeout` in seconds. Raises DataError if the folder cannot be written or no address serves,
    with every address that was tried.
    """
    for file in files:
        _one(file, folder, timeout)


def _one(file: File, folder: Path, timeout: float) -> None:
    problems = []
    with places.workshop(folder, "downloads", "choose another with --data-dir") as temporary:
        path = temporary / file.name
        for url in file.urls:
            print(f"{url} -> {folder}", file=sys.stderr)
            try:
                with urllib.request.urlopen(url, timeout=timeout) as answer, path.open("wb") as out:
                    shutil.copyfileobj(answer, out)
                found = hashlib.md5(file.content(path), usedforsecurity=False).hexdigest()
            except (OSError, ValueError, HTTPException, DataError) as error:
                if getattr(error, "errno", None) in places.FULL:
                    raise
                problems.append(f"{url}: {getattr(error, 'reason', None) or error}")
                continue
            if found == file.md5:
                os.replace(path, folder / file.name)
                return
            problems.append(f"{url}: md5 {found}, expected {file.md5}")
    raise DataError(
        f"{folder / file.name}: could not be downloaded ({'; '.join(problems)}); "
        f"get it by hand and put it into {folder}"
    )
