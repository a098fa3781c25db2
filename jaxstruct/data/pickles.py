"""Pickles, of which nothing is run: numbers, texts, lists, dicts and arrays of bytes come out.

A pickle is a program. Here it may use the instructions that build such values and no others, and
name no function but those by which NumPy's arrays are made, in whose place ours stand.

What may be added: another value that can be built without running anything of the file's choice.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data.errors import DataError

_INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST"),
    *("APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
}


def read(content: bytes, path: Path, expected: str) -> Any:
    """The value of a pickle: None, bool, int, str, bytes, tuple, list, dict, arrays of uint8.

    Strings of Python 2 come as bytes. Raises DataError that names `path` and what was `expected`
    for anything else, and for what is no whole pickle.
    """
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name not in _INSTRUCTIONS:
                raise pickle.UnpicklingError(f"the instruction {instruction.name}")
            if "PUT" in instruction.name and (argument or 0) > len(content):  # takes so much memory
                raise pickle.UnpicklingError(f"{instruction.name} {argument}")
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        _check(value)
    except Exception as error:  # the unpickler raises whatever the bytes happen to lead to
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(
            f"{path}: not read as a pickle, because of {reason}; expected {expected}; is it the "
            "official file?"
        ) from None
    return value


def _check(value: Any) -> None:
    """What stands in for NumPy's functions is no value."""
    seen: set[int] = set()
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:  # it may hold itself
                seen.add(id(value))
                left += [*value, *value.values()] if isinstance(value, dict) else value
        elif not isinstance(value, _Array | int | str | bytes | None):
            raise pickle.UnpicklingError(f"a {type(value).__name__}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # New functions each time, so that nothing stays of what a file does to them.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return lambda *_: np.ndarray.__new__(_Array, 0, np.uint8)
        if (module, name) == ("numpy", "ndarray"):
            return None
        if (module, name) == ("numpy", "dtype"):
            return lambda kind, *_: _Uint8(kind)
        raise pickle.UnpicklingError(f"{module}.{name}")


class _Uint8:
    """What a pickled dtype becomes; no other can be."""

    def __init__(self, kind: str | bytes):
        if kind not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {kind!r}")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment say nothing of bytes."""


class _Array(np.ndarray):
    """What a pickled array becomes: NumPy's, but its state is checked first."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, by_column, content = state
        if not isinstance(dtype, _Uint8) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array of something else than bytes")
        if math.prod(shape) != len(content):
            raise pickle.UnpicklingError(f"an array of {len(content)} bytes and shape {shape}")
        super().__setstate__((version, shape, np.dtype(np.uint8), by_column, content))
