"""Files of trained weights, built by hand."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).parents[1] / "recorded"
FILES = [RECORDED / f"weights_{form}.pth" for form in ("stream", "stream_protocol4", "zip")]
OLD = RECORDED / "weights_before_0_4.pth"
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
DTYPES += ["complex64", "complex128"]


def storage_of(size):
    """The instructions for a storage of float32 under the key "0"."""
    parts = text("storage"), text("0"), value(size)
    return b"(%bctorch\nFloatStorage\n%bX\3\0\0\0cpu%bNtQ" % parts


def tensor(offset=1, shape=(2,), strides=(1,), size=3, **changes):
    """A pickle of {"w": tensor}, from the instructions of its parts."""
    part = {
        "function": b"ctorch._utils\n_rebuild_tensor_v2\n",
        "type": b"ctorch\nFloatStorage\n",
        "kind": text("storage"),
        "key": text("0"),
        "view": b"N",
        "offset": value(offset),
        "shape": value(shape),
        "strides": value(strides),
        "size": value(size),
        "after": b"",
    } | changes
    storage = b"(%(kind)b%(type)b%(key)bX\3\0\0\0cpu%(size)b%(view)btQ" % bytes_keys(part)
    arguments = b"(%b%b%b%b\x89ccollections\nOrderedDict\n)Rt" % (
        storage,
        part["offset"],
        part["shape"],
        part["strides"],
    )
    return b"\x80\2}X\1\0\0\0w%b%bR%bs." % (part["function"], arguments, part["after"])


def bytes_keys(parts):
    return {name.encode(): part for name, part in parts.items()}


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def value(given):
    """The instructions for integers and tuples of them, without the frame of a pickle."""
    return pickle.dumps(given, 2)[2:-1]


def stream(saved, keys=("0",), sizes=(3,), values=(1.0, 2.0, 3.0)):
    """A whole file of the older form around the pickle of an object."""
    system = {"protocol_version": 1001, "little_endian": True}
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    storages = [struct.pack("<q", size) for size in sizes]
    return b"".join([*head, saved, pickle.dumps(list(keys), 2), *storages]) + struct.pack(
        f"<{len(values)}f", *values
    )


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"w/{name}", content)
    return file.getvalue()


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def lied(name="w", data=8, **changes):
    """A safetensors file by hand: a header of one array of two float32, and bytes for it."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return headed(json.dumps({name: entry}).encode(), bytes(data))


def headed(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data
