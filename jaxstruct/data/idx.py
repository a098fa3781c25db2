"""The IDX format of MNIST's files: a big-endian header, then unsigned bytes.

The header is two zero bytes, a type (8: unsigned byte), the number of dimensions, and each
dimension as a 32-bit integer (LeCun, Cortes, Burges: the MNIST database of handwritten digits).

What may be added: the format's other element types.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from jaxstruct.data.errors import DataError, read_raw

_UNSIGNED_BYTE = 8


def read(path: Path, dimensions: int, expected: str) -> np.ndarray:
    """Read an IDX file (.gz or unpacked) of unsigned bytes with so many dimensions.

    Raises DataError that names the file if its magic number, its header or its length is wrong.
    """
    content = read_raw(path, expected)
    magic = (_UNSIGNED_BYTE << 8) | dimensions
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(
            f"{path}: cut short, {len(content)} bytes; expected {expected}, with a header of "
            f"{start} bytes; get the file again"
        )
    found, *shape = struct.unpack(f">{1 + dimensions}I", content[:start])
    if found != magic:
        raise DataError(
            f"{path}: magic number {found:#010x}; expected {magic:#010x}, {expected}; "
            "is it another file under this name?"
        )
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: {len(content) - start} bytes of data; expected {math.prod(shape)} "
            f"for {' x '.join(map(str, shape))}, {expected}; get the file again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def write(path: Path, values: np.ndarray) -> None:
    """Write uint8 values of any shape as an IDX file, compressed if the name ends in .gz."""
    if values.dtype != np.uint8:
        raise TypeError(f"values: {values.dtype}; expected uint8")
    magic = (_UNSIGNED_BYTE << 8) | values.ndim
    content = struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # the same bytes every time
    path.write_bytes(content)
