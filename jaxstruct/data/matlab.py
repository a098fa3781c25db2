"""MATLAB's files: one variable of a .mat file as an array.

What may be added: variables that are no plain arrays (structures, cells).
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from jaxstruct.data.errors import DataError, blamed, check_unpacked, read_raw

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
