"""Folders, archives and images that tests write, and a stream that cannot be written.

What may be added: another kind of file that several tests need.
"""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def image(seed: int = 0, size: tuple[int, int] = (6, 8), format: str = "JPEG") -> bytes:
    """An encoded image (height, width) of colours that no other seed has."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    """The pixels of an encoded image."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened)


def write(path: Path, contents: dict[str, bytes]) -> Path:
    """A folder or an archive, by the name of `path`, with the folders' own entries."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted({str(Path(name).parent) for name in contents} - {"."}):
                archive.writestr(f"{name}/", b"")
            for name, content in contents.items():
                archive.writestr(name, content)
    elif ".tar" in path.name:
        mode = "w:" + path.suffix.removeprefix(".").removeprefix("tar")
        with tarfile.open(path, mode) as archive:
            for name in sorted({str(Path(name).parent) for name in contents} - {"."}):
                folder = tarfile.TarInfo(name)
                folder.type = tarfile.DIRTYPE
                archive.addfile(folder)
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        for name, content in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def drop(contents: dict[str, bytes], name: str) -> dict[str, bytes]:
    """The contents without those whose names begin with `name`."""
    return {key: content for key, content in contents.items() if not key.startswith(name)}


class Failing(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error
