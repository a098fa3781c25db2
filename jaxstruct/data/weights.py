"""PyTorch's checkpoints without PyTorch: the tensors of a state dict, and nothing else of the file.

A checkpoint is a pickle, that is, a program for a stack machine that may call anything. The machine
here knows the few instructions that PyTorch writes, calls nothing, and makes tensors only. Tensors
are views of storages, whose bytes follow the pickle, or are other members of the zip file.

What may be added: another of PyTorch's storages. Nothing that runs what a file says.
"""

from __future__ import annotations

import importlib.metadata
import io
import math
import pickletools
import reprlib
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from jaxstruct.data.errors import DataError, read_raw

_LARGEST = 2**48  # elements: their bytes are no number that would overflow
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "Bool": np.dtype(np.bool_),
    "Byte": np.dtype("u1"),
    "Char": np.dtype("i1"),
    "Short": np.dtype("<i2"),
    "Int": np.dtype("<i4"),
    "Long": np.dtype("<i8"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "ComplexFloat": np.dtype("<c8"),
    "ComplexDouble": np.dtype("<c16"),
}
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError)


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides are in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Bad(Exception):
    """What is wrong with the file, and what was expected.

    Values are written by `_short`: a few bytes of the file can be values of any length.
    """


def _short(value: Any) -> str:
    return reprlib.repr(value)[:80]


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Reads a state dict that `torch.save` wrote, in the zip form or the older one.

    Args:
        path: of the file, often .pth or .pt.

    Returns:
        arrays by name, read-only, in the file's order and dtypes (bfloat16 is ml_dtypes'). Tensors
        that share a storage share memory.

    Raises:
        DataError: the path, and what is wrong: a file that is cut short or of another form; one
        that holds anything but names and tensors; a tensor beyond its storage; or one that asks
        for a function, class or instruction that no tensor needs, by its name.

    Source: torch/serialization.py as of PyTorch 2.14 for the layout, pickletools for instructions.
    """
    content = read_raw(path, "a state dict saved by PyTorch")
    try:
        read = _read_zip if content.startswith(b"PK") else _read_stream
        saved, storages = read(content)
        if not isinstance(saved, dict):
            raise _Bad(f"a {type(saved).__name__}, expected a dictionary of tensors by name")
        return {name: _array(name, value, storages) for name, value in saved.items()}
    except _Bad as problem:
        raise DataError(f"{path}: {problem}, in a state dict saved by PyTorch") from None


def installed_weights(package: str) -> Path:
    """The checkpoint (.pth) that an installed package carries; the package is not imported.

    Raises DataError that names the package if it is not installed or has no such file.
    """
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise DataError(f"{package}: not installed, expected its weights") from None
    found = [file for file in files if file.suffix == ".pth"]
    if len(found) != 1:
        raise DataError(f"{package}: {len(found)} files that end in .pth, expected one")
    return Path(str(found[0].locate()))


def _read_stream(content: bytes) -> tuple[Any, dict[_Storage, np.ndarray]]:
    """The form before PyTorch 1.6: five pickles, then each storage with its size before it."""
    stream = io.BytesIO(content)
    if not content.startswith(b"\x80") or _interpret(stream) != _MAGIC:
        raise _Bad("no magic number, expected PyTorch's")
    version, system, saved, keys = (_interpret(stream) for _ in range(4))
    if version != _PROTOCOL or not isinstance(system, dict) or not system.get("little_endian"):
        raise _Bad(
            f"protocol {_short(version)} and {_short(system)}, expected {_PROTOCOL}, little-endian"
        )
    wanted, found = _wanted(saved), {}
    if not isinstance(keys, list) or not _all_text(keys) or sorted(keys) != sorted(wanted):
        raise _Bad(f"storages {_short(keys)}, expected {_short(sorted(wanted))}")
    for key in keys:
        storage, header = wanted[key], stream.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else "no"
        if size != storage.size:
            raise _Bad(f"{size} elements of storage {_short(key)}, expected {storage.size}")
        found[storage] = _elements(storage, stream.read(storage.size * storage.dtype.itemsize))
    if stream.read(1):
        raise _Bad("bytes behind the last storage, expected the end")
    return saved, found


def _read_zip(content: bytes) -> tuple[Any, dict[_Storage, np.ndarray]]:
    """The form since PyTorch 1.6: data.pkl, and each storage as data/KEY, in one folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            if any(member.compress_type for member in archive.infolist()):
                raise _Bad("compressed members, expected PyTorch's, which are not")
            if "data.pkl" not in members:
                raise _Bad(f"a zip file of {_short(members)}, expected a folder with data.pkl")
            if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
                raise _Bad("another byte order, expected little")
            saved = _interpret(io.BytesIO(archive.read(members["data.pkl"])))
            found = {}
            for key, storage in _wanted(saved).items():
                if f"data/{key}" not in members:
                    raise _Bad(f"no storage {_short(key)}, expected {storage.size} elements")
                found[storage] = _elements(storage, archive.read(members[f"data/{key}"]))
            return saved, found
    except _ZIP_ERRORS as error:
        raise _Bad(f"no whole zip file ({error}), expected one") from None


def _wanted(saved: Any) -> dict[str, _Storage]:
    """The storages of all tensors, by key."""
    values = saved.values() if isinstance(saved, dict) else ()
    storages = {tensor.storage for tensor in values if isinstance(tensor, _Tensor)}
    wanted = {storage.key: storage for storage in storages}
    if len(wanted) < len(storages):
        raise _Bad("a storage of two sizes or dtypes, expected one")
    return wanted


def _elements(storage: _Storage, content: bytes) -> np.ndarray:
    expected = storage.size * storage.dtype.itemsize
    if len(content) != expected:
        raise _Bad(f"{len(content)} bytes of storage {_short(storage.key)}, expected {expected}")
    return np.frombuffer(content, storage.dtype)


def _array(name: str, tensor: Any, storages: Mapping[_Storage, np.ndarray]) -> np.ndarray:
    if not isinstance(tensor, _Tensor):
        raise _Bad(f"{_short(name)} of {type(tensor).__name__}, expected a tensor under each name")
    storage, offset, shape, strides = tensor
    elements, empty = storages[storage], 0 in shape
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if not empty and last >= storage.size:
        raise _Bad(
            f"{_short(name)} of shape {shape} with strides {strides} from {offset}, expected a "
            f"part of its storage of {storage.size}"
        )
    return np.lib.stride_tricks.as_strided(
        elements[:0] if empty else elements[offset:],
        shape,
        [step * elements.itemsize for step in strides],
        writeable=False,
    )


def _all_text(values: Iterable[Any]) -> bool:
    return all(type(value) is str for value in values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, _Storage)
        or not all(type(n) is int and 0 <= n < _LARGEST for n in numbers)
        or not len(shape) == len(strides) <= 32
        or math.prod(max(n, 1) for n in shape) >= _LARGEST
    ):
        raise _Bad(f"a tensor of {_short(numbers)}, expected offset, shape and strides")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _storage(kind: Any, dtype: Any, key: Any, _: Any, size: Any, view: Any = None) -> _Storage:
    """What a persistent id stands for: ("storage", type, key, device, size[, None])."""
    expected = kind == "storage" and isinstance(dtype, np.dtype) and _all_text([key])
    if not expected or type(size) is not int or not 0 <= size < _LARGEST or view is not None:
        given = _short((kind, dtype, key, size, view))
        raise _Bad(f"a persistent id {given}, expected a storage's")
    return _Storage(key, dtype, size)


# What a name in a file stands for. Only the functions can be called, and all of them are here.
_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda: {},
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
}
_NAMES = _CALLS | {f"torch {name}Storage": dtype for name, dtype in _STORAGES.items()}


def _interpret(stream: BinaryIO) -> Any:
    """The value of the next pickle in a stream, by the instructions of protocol 2 and 4."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop(size: int | None = None) -> list[Any]:
        """The last values of the stack: so many, or those above the last mark."""
        start = marks.pop() if size is None else len(stack) - size
        if start < 0:
            raise IndexError("stack is empty")
        values, stack[start:] = stack[start:], []
        return values

    def fill(known: Any, pairs: list[Any]) -> None:
        # Other keys could take forever to hash.
        if not isinstance(known, dict) or not _all_text(pairs[::2]):
            raise _Bad(f"items of a {type(known).__name__}, expected a dictionary's, by name")
        known.update(zip(pairs[::2], pairs[1::2], strict=True))

    def named(name: str) -> Any:
        if name not in _NAMES:
            raise _Bad(f"it asks for {name.replace(' ', '.')!r:.80}, expected tensors alone")
        return _NAMES[name]

    try:
        argument: Any
        for instruction, argument, _ in pickletools.genops(stream):
            match instruction.name:
                case "PROTO" | "FRAME":
                    pass
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(instruction.name == "NEWTRUE")
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "SHORT_BINUNICODE":
                    stack.append(argument)
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    stack.append(tuple(pop()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(pop(int(instruction.name[-1]))))
                case "APPEND" | "APPENDS":
                    values = pop(1 if instruction.name == "APPEND" else None)
                    stack[-1] += values
                case "SETITEM" | "SETITEMS":
                    pairs = pop(2 if instruction.name == "SETITEM" else None)
                    fill(stack[-1], pairs)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(named(argument))
                case "STACK_GLOBAL":
                    stack.append(named(" ".join(pop(2))))
                case "BINPERSID":
                    stack.append(_storage(*stack.pop()))
                case "REDUCE":
                    function, arguments = pop(2)
                    if not any(function is known for known in _CALLS.values()):
                        raise _Bad(f"a call of {_short(function)}, expected tensors alone")
                    stack.append(function(*arguments))
                case "BUILD":
                    # The attributes of a state dict: the versions of its layers.
                    stack.pop()
                    if not isinstance(stack[-1], dict):
                        raise _Bad(f"attributes of a {type(stack[-1]).__name__}, expected none")
                case "STOP":
                    return stack.pop()
                case other:
                    raise _Bad(f"instruction {other} {argument!r:.80}, expected tensors alone")
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise _Bad(
            f"no whole pickle ({type(error).__name__}: {error!s:.80}), expected one"
        ) from None
    raise _Bad("a pickle without an end, expected one")
