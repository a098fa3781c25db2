"""Trained weights: the arrays of a .pth or a .safetensors file by name, and nothing else of it.

A checkpoint of PyTorch (.pth) is a pickle, which pickles.py interprets without running anything of
the file's choice; here it makes tensors only. Tensors are views of storages, whose bytes follow the
pickle, or are other members of the zip file. A checkpoint may hold more: state dicts by name, and
plain values, which are read and passed over. A .safetensors file is a header of names, dtypes,
shapes and places, and the bytes; it has nothing to run.

What may be added: another form of file, by its first bytes; another of PyTorch's storages. Nothing
that runs what a file says.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import math
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from jaxstruct.data.errors import DataError, read_raw
from jaxstruct.data.pickles import Refused, all_text, interpret, short
from jaxstruct.data.places import given

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
_SAFETENSORS = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
_BITS: dict[str, Any] = {"neg": np.negative, "conj": np.conjugate}
"""What a tensor's view is of its storage's elements, by PyTorch's name."""

_ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError)
"""What zipfile raises for a file that is damaged, encrypted, or packed by a method it lacks."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides are in elements, bits are of `_BITS`."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    bits: frozenset[str] = frozenset()


_noted: ContextVar[tuple[list[dict[str, str]], ...]] = ContextVar("noted", default=())


@contextmanager
def noted_weights() -> Iterator[list[dict[str, str]]]:
    """Yields a list to which every `read_weights` inside appends what it read.

    An entry is {"file": the name without its folder, "sha256": of the file, in hexadecimal}. Inside
    another `noted_weights` both lists get it. Threads started inside append nothing.
    """
    files: list[dict[str, str]] = []
    token = _noted.set((*_noted.get(), files))
    try:
        yield files
    finally:
        _noted.reset(token)


def read_weights(path: str | PathLike[str], *keys: str) -> dict[str, np.ndarray]:
    """Reads arrays by name from a state dict that `torch.save` wrote, or from a safetensors file.

    Args:
        path: of the file, often .pth, .pt or .safetensors; ~ is the home folder. Its first bytes
            say which form it has: PyTorch's zip form, the older stream, in which torchvision's
            vgg16-397923af.pth is, or safetensors.
        keys: where the state dict is in a checkpoint that holds more, from the outside in:
            `read_weights(path, "state_dict")`. Everything else there is left out.

    Returns:
        arrays by name, read-only, in the file's order and dtypes (bfloat16 is ml_dtypes'). Names
        are the file's: torch.nn.DataParallel puts "module." before them. Tensors of a state dict
        that share a storage share memory, apart from negated and conjugated views.

    Raises:
        DataError: the path, and what is wrong: a file that is cut short or of another form; one
            that holds anything but names and tensors, or has no dictionary at the keys; a tensor
            beyond its storage; or one that asks for a function, class or instruction that no tensor
            needs, by its name. Of a checkpoint without keys it names those that lead to tensors.
            For a safetensors file also that the package safetensors is missing.

    Source: torch/serialization.py as of PyTorch 2.14 for the layout, pickletools for instructions;
    the package safetensors, 0.8.
    """
    path = given(path)
    content = read_raw(path, "weights, in a .pth or a .safetensors file")
    if content[8:9] == b"{":  # Before the others: the eight bytes are a number, which may be b"PK".
        form, read = "a safetensors file", _read_safetensors
    elif content.startswith((b"PK", b"\x80")):
        form, read = "a file saved by PyTorch", _read_state_dict
    else:
        raise DataError(
            f"{path}: its first bytes {content[:9]!r} are of no known form; "
            "expected a .pth or a .safetensors file"
        )
    try:
        weights = read(content, keys)
    except Refused as problem:
        raise DataError(f"{path}: {problem}, in {form}") from None
    if noted := _noted.get():
        with path.open("rb") as file:  # what was read is unpacked if the name ends in .gz
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        for files in noted:
            files.append({"file": path.name, "sha256": sha256})
    return weights


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


def _read_safetensors(content: bytes, keys: Sequence[str]) -> dict[str, np.ndarray]:
    if keys:
        raise Refused(f"tensors alone, expected no key, given {short(keys)}")
    try:
        import safetensors
    except ImportError:
        raise Refused("no package to read it, expected safetensors (pip install it)") from None
    try:
        # The package checks that the header's places are whole, apart, and those of all bytes.
        tensors = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        escaped = str(error).encode("unicode_escape").decode()
        raise Refused(f"no whole file ({escaped:.120}), expected one") from None
    weights = {}
    for name, tensor in tensors:
        if tensor["dtype"] not in _SAFETENSORS:
            raise Refused(
                f"{short(name)} of dtype {tensor['dtype']}, expected {', '.join(_SAFETENSORS)}"
            )
        array = np.frombuffer(tensor["data"], _SAFETENSORS[tensor["dtype"]])
        if len(tensor["shape"]) > 32:
            raise Refused(f"{short(name)} of {len(tensor['shape'])} axes, expected 32 at most")
        weights[name] = array.reshape(tensor["shape"])
        weights[name].flags.writeable = False
    return weights


def _read_state_dict(content: bytes, keys: Sequence[str]) -> dict[str, np.ndarray]:
    read = _read_zip if content.startswith(b"PK") else _read_stream
    tensors, storages = read(content, keys)

    @cache
    def elements(storage: _Storage, bits: frozenset[str]) -> np.ndarray:
        array = storages[storage]
        for bit in bits:
            array = _BITS[bit](array)
            array.flags.writeable = False
        return array

    return {
        name: _array(name, tensor, elements(tensor.storage, tensor.bits))
        for name, tensor in tensors.items()
    }


def _read_stream(
    content: bytes, keys: Sequence[str]
) -> tuple[dict[str, _Tensor], dict[_Storage, np.ndarray]]:
    """The form before PyTorch 1.6: five pickles, then each storage with its size before it."""
    stream, known, found = io.BytesIO(content), dict[str, _Storage](), {}
    if _interpret(stream, known) != _MAGIC:
        raise Refused("no magic number, expected PyTorch's")
    version, system, saved = (_interpret(stream, known) for _ in range(3))
    if version != _PROTOCOL or not isinstance(system, dict) or not system.get("little_endian"):
        raise Refused(
            f"protocol {short(version)} and {short(system)}, expected {_PROTOCOL}, little-endian"
        )
    tensors, stored = _tensors(saved, keys), _interpret(stream, {})
    if not isinstance(stored, list) or not all_text(stored) or sorted(stored) != sorted(known):
        raise Refused(f"storages {short(stored)}, expected {short(sorted(known))}")
    for key in stored:
        storage, header = known[key], stream.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else "no"
        if size != storage.size:
            raise Refused(f"{size} elements of storage {short(key)}, expected {storage.size}")
        found[storage] = _elements(storage, stream.read(storage.size * storage.dtype.itemsize))
    if stream.read(1):
        raise Refused("bytes behind the last storage, expected the end")
    return tensors, found


def _read_zip(
    content: bytes, keys: Sequence[str]
) -> tuple[dict[str, _Tensor], dict[_Storage, np.ndarray]]:
    """The form since PyTorch 1.6: data.pkl, and each storage as data/KEY, in one folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            if any(member.compress_type for member in archive.infolist()):
                raise Refused("compressed members, expected PyTorch's, which are not")
            if "data.pkl" not in members:
                raise Refused(f"a zip file of {short(members)}, expected a folder with data.pkl")
            if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
                raise Refused("another byte order, expected little")
            saved = _interpret(io.BytesIO(archive.read(members["data.pkl"])), {})
            tensors, found = _tensors(saved, keys), {}
            for storage in dict.fromkeys(tensor.storage for tensor in tensors.values()):
                key = storage.key
                if f"data/{key}" not in members:
                    raise Refused(f"no storage {short(key)}, expected {storage.size} elements")
                found[storage] = _elements(storage, archive.read(members[f"data/{key}"]))
            return tensors, found
    except _ZIP_ERRORS as error:
        raise Refused(f"no whole zip file ({error}), expected one") from None


def _tensors(saved: Any, keys: Sequence[str]) -> dict[str, _Tensor]:
    """The tensors of a state dict, which is at the keys of what was saved."""
    for key in keys:
        if not isinstance(saved, dict) or not isinstance(saved.get(key), dict):
            names = short(list(saved)) if isinstance(saved, dict) else type(saved).__name__
            raise Refused(f"no dictionary under {short(key)} but {names}, expected one")
        saved = saved[key]
    if not isinstance(saved, dict):
        raise Refused(f"a {type(saved).__name__}, expected a dictionary of tensors by name")
    for name, value in saved.items():
        holds = isinstance(value, dict) and any(isinstance(v, _Tensor) for v in value.values())
        if holds and type(name) is str:
            there = ", ".join(short(key) for key in (*keys, name))
            raise Refused(
                f"a checkpoint with tensors under {there}, expected a state dict; "
                f"read_weights(path, {there}) reads them alone"
            )
    for name, value in saved.items():
        if not isinstance(value, _Tensor) or type(name) is not str:
            raise Refused(
                f"{short(name)} of {type(value).__name__}, expected a tensor under each name"
            )
    return saved


def _elements(storage: _Storage, content: bytes) -> np.ndarray:
    expected = storage.size * storage.dtype.itemsize
    if len(content) != expected:
        raise Refused(f"{len(content)} bytes of storage {short(storage.key)}, expected {expected}")
    return np.frombuffer(content, storage.dtype)


def _array(name: str, tensor: _Tensor, elements: np.ndarray) -> np.ndarray:
    storage, offset, shape, strides, _ = tensor
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.size:
        raise Refused(
            f"{short(name)} of shape {shape} with strides {strides} from {offset}, expected a "
            f"part of its storage of {storage.size}"
        )
    # Read-only, as the elements are.
    steps = [step * elements.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(elements[offset:], shape, steps)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if (
        not isinstance(storage, _Storage)
        or not all(type(n) is int and 0 <= n < _LARGEST for n in numbers)
        or not len(shape) == len(strides) <= 32
        or math.prod(max(n, 1) for n in shape) >= _LARGEST
    ):
        raise Refused(f"a tensor of {short(numbers)}, expected offset, shape and strides")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _tensor_v2(*arguments: Any) -> _Tensor:
    """Behind `_tensor`'s arguments: requires_grad, hooks, and since PyTorch 1.11 the bits."""
    *view, _, _, metadata = arguments if len(arguments) > 6 else (*arguments, {})
    tensor = _tensor(*view)
    if not isinstance(metadata, dict) or not all(type(bit) is bool for bit in metadata.values()):
        raise Refused(f"a tensor with {short(metadata)}, expected no more than bits")
    bits = frozenset(name for name, bit in metadata.items() if bit)
    kind = tensor.storage.dtype.kind
    known = {name for name in _BITS if kind != "b" and (name == "neg" or kind == "c")}
    if not bits <= known:
        raise Refused(
            f"a tensor of {tensor.storage.dtype} with {short(sorted(bits, key=str))}, expected "
            f"nothing but {short(sorted(known))}"
        )
    return tensor._replace(bits=bits)


def _storage(kind: Any, dtype: Any, key: Any, _: Any, size: Any, view: Any = None) -> _Storage:
    """What a persistent id stands for: ("storage", type, key, device, size[, None])."""
    expected = kind == "storage" and isinstance(dtype, np.dtype) and all_text([key])
    if not expected or type(size) is not int or not 0 <= size < _LARGEST or view is not None:
        given = short((kind, dtype, key, size, view))
        raise Refused(f"a persistent id {given}, expected a storage's")
    return _Storage(key, dtype, size)


def _unchanged(known: Any, _: Any) -> Any:
    """A state dict has attributes: the versions of its layers."""
    if not isinstance(known, dict):
        raise Refused(f"attributes of a {type(known).__name__}, expected none")
    return known


def _dictionary(pairs: Any = ()) -> dict[str, Any]:
    """An OrderedDict, which is filled later; one that Python 2 saved is called with its items."""
    if not all(type(pair) is list and len(pair) == 2 and type(pair[0]) is str for pair in pairs):
        raise Refused("a dictionary of other items, expected items by name")
    return dict(pairs)


# What a name in a file stands for. Only the functions can be called.
_NAMES: dict[str, Any] = {
    "collections OrderedDict": _dictionary,
    "torch._utils _rebuild_tensor": _tensor,  # before PyTorch 0.4
    "torch._utils _rebuild_tensor_v2": _tensor_v2,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    **{f"torch {name}Storage": dtype for name, dtype in _STORAGES.items()},
}


def _interpret(stream: BinaryIO, known: dict[str, _Storage]) -> Any:
    """The value of the next pickle, whose storages become known by key."""

    def persistent(*parts: Any) -> _Storage:
        storage = _storage(*parts)
        if known.setdefault(storage.key, storage) != storage:
            raise Refused("a storage of two sizes or dtypes, expected one")
        return storage

    expected = "tensors alone, as torch.save(model.state_dict(), path) writes them"
    return interpret(
        stream, _NAMES, expected, build=_unchanged, persistent=persistent, numbered=True
    )
