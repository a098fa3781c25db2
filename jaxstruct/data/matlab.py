"""MATLAB's files: one variable of a .mat file as an array.

What may be added: variables that are no plain arrays (structures, cells).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from jaxstruct.data.errors import DataError, read_raw


def read(path: Path, variable: str, expected: str) -> np.ndarray:
    """Read the array that a .mat file holds under a name.

    Raises DataError that names the file, and what was `expected` in it, if it cannot be read or
    has no such variable.
    """
    import scipy.io

    content = read_raw(path, expected)
    try:
        values = scipy.io.loadmat(io.BytesIO(content)).get(variable)
    except Exception as error:  # scipy raises whatever the bytes happen to lead to
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{path}: cannot be read as MATLAB ({reason}); expected {expected}; get the file again"
        ) from None
    if values is None:
        raise DataError(f"{path}: no `{variable}` in it; expected {expected}")
    return values
