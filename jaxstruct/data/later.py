"""Arrays that are read when they are used.

What may be added: nothing but what NumPy's arrays can do without being read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Later(NDArrayOperatorsMixin):
    """A stand-in for an array [N, ...] that is read when its values are first asked for.

    Shape, dtype, length and rows (`later[indices]`, `later[slice]`) are known without reading;
    NumPy and operators take it for the array, and return arrays.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, read: Callable[[], np.ndarray]):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.ndim = len(self.shape)
        self._read = read
        self._array: np.ndarray | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._array = np.asarray(self._read()) if self._array is None else self._array
        # NumPy makes no copy of its own of what it asked for one.
        return array.astype(array.dtype if dtype is None else dtype, copy=bool(copy))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = (np.asarray(x) if isinstance(x, Later) else x for x in inputs)
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        rows = isinstance(index, slice) or (not isinstance(index, tuple) and np.ndim(index) == 1)
        if not rows:
            return np.asarray(self)[index]
        size = len(np.arange(len(self))[index])
        return Later((size, *self.shape[1:]), self.dtype, lambda: np.asarray(self)[index])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)
