"""MATLAB's files: one variable of a .mat file as an array, or the cells of one.

What may be added: variables that are neither (structures).
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxstruct.data.errors import DataError, blamed, check_unpacked, most_unpacked, read_raw

_PLAIN = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_PLAIN |= {"double", "single", "logical"}


def read(path: Path, variable: str, expected: str) -> np.ndarray:
    """Read the array that a .mat file holds under a name.

    Raises DataError that names the file, and what was `expected` in it, if it cannot be read, or
    has no such variable, or the variable is no plain array: of cells in cells, deep enough, SciPy
    ends the process.
    """
    import scipy.io

    content = read_raw(path, expected)
    with blamed(path, f"{expected}; get the file again", "cannot be read as MATLAB"):
        # Of the headers alone.
        said = {name: rest for name, *rest in scipy.io.whosmat(io.BytesIO(content))}
        if variable not in said:
            raise DataError(f"{path}: no `{variable}` in it; expected {expected}")
        shape, kind = said[variable]
        if kind not in _PLAIN:
            raise DataError(f"{path}: `{variable}` is of class {kind}; expected {expected}")
        check_unpacked(math.prod(shape), len(content))
        return scipy.io.loadmat(io.BytesIO(content), variable_names=[variable])[variable]


def read_cells(path: Path, variable: str, expected: str) -> list[np.ndarray | str]:
    """Read the cells of a cell array [N, 1] or [1, N] that a .mat file of version 5 holds.

    A cell is a text in one row, or an array of real numbers. Raises DataError that names the file,
    and what was `expected` in it, for anything else. SciPy would follow cells in cells to the
    process's end, and keep what the header says of their number.

    Source: MATLAB, MAT-file format, version 5.
    """
    content = read_raw(path, expected)
    with blamed(path, f"{expected}; get the file again", "cannot be read as MATLAB, version 5"):
        # The first 128 bytes are a head, whose last two say the order of bytes.
        order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(content[124:128])
        if order is None:
            raise ValueError("of another kind or version")
        for kind, part in _elements(content[128:], order, padded=False):
            if kind == _COMPRESSED:
                unpacking = zlib.decompressobj()
                unpacked = unpacking.decompress(part, most_unpacked(len(content)))
                if not unpacking.eof:
                    raise ValueError("cut short, or too large when it is unpacked")
                ((kind, part),) = _elements(unpacked, order)
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind}")
            bits, parts = _array(part, order)
            if bits & _CLASS != _CELL:
                continue
            shape, name, *cells = parts
            if name[1] != variable.encode():
                continue
            lengths = _integers(shape[1], order)
            if len(lengths) != 2 or 1 not in lengths or math.prod(lengths) != len(cells):
                raise ValueError(f"{len(cells)} cells in {lengths}, expected one row")
            return [_cell(cell, order) for _, cell in cells]
    raise DataError(f"{path}: no cells `{variable}` in it; expected {expected}")


_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR, _NUMBERS = 1, 4, range(6, 16)
_CLASS, _COMPLEX = 0xFF, 0x0800
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_DTYPES |= {13: "u8"}
_TEXTS = {2: "latin-1", 16: "utf-8", 4: "utf-16", 17: "utf-16"}


def _elements(content: bytes, order: str, *, padded: bool = True) -> list[tuple[int, bytes]]:
    """The elements, one after the other, as their type and their data."""
    found, at = [], 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # a small one has its data in the place of the size
            kind, size, begin, stop = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError("a small element of more than 4 bytes")
        else:
            begin = at + 8
            stop = begin + size + (-size % 8 if padded else 0)
        if begin + size > len(content):
            raise ValueError("cut short")
        found.append((kind, content[begin : begin + size]))
        at = stop
    return found


def _array(content: bytes, order: str) -> tuple[int, list[tuple[int, bytes]]]:
    """The class of an array and its flags, and what follows: shape, name, values."""
    (_, flags), *parts = _elements(content, order)
    return struct.unpack_from(f"{order}I", flags)[0], parts


def _integers(data: bytes, order: str) -> tuple[int, ...]:
    return struct.unpack(f"{order}{len(data) // 4}i", data)


def _cell(content: bytes, order: str) -> np.ndarray | str:
    if not content:
        return np.zeros((0, 0))
    bits, ((_, shape), _, *values) = _array(content, order)
    rows, columns = _integers(shape, order)
    text = bits & _CLASS == _CHAR and rows <= 1
    if not text and (bits & _CLASS not in _NUMBERS or bits & _COMPLEX):
        raise ValueError(
            f"a cell of class {bits & _CLASS}, expected one row of text or real numbers"
        )
    ((kind, data),) = values
    if text:
        codec = _TEXTS[kind]
        return data.decode(f"{codec}-{'le' if order == '<' else 'be'}" if "16" in codec else codec)
    numbers = np.frombuffer(data, f"{order}{_DTYPES[kind]}")
    return numbers.reshape((rows, columns), order="F")
