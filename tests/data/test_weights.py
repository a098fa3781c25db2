"""Trained weights: PyTorch's own files, files by hand, and files that want more than tensors."""

import hashlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxstruct.data import DataError, installed_weights, noted_weights, read_weights

RECORDED = Path(__file__).parents[1] / "recorded"
FILES = [RECORDED / f"weights_{form}.pth" for form in ("stream", "stream_protocol4", "zip")]
OLD = RECORDED / "weights_before_0_4.pth"
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
DTYPES += ["complex64", "complex128"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reads_what_pytorch_saved(path):
    weights = read_weights(path)
    expected = {
        "0.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
        "1.running_var": np.ones(3, np.float32),
        "1.num_batches_tracked": np.int64(0),
        "base": BASE,
        "transposed": BASE.T,
        "part": BASE[1:3, ::2],
        "column": BASE[:, 4],
        "expanded": np.repeat(BASE[:1], 3, 0),
        "scalar": np.int64(7),
        "empty": np.zeros((0, 3), np.float32),
        "bfloat16": np.arange(3).astype(ml_dtypes.bfloat16),
    }
    expected |= {name: np.arange(3).astype(name) for name in DTYPES}
    for name, values in expected.items():
        np.testing.assert_array_equal(weights[name], values, strict=True)
        assert not weights[name].flags.writeable
    assert list(weights)[:2] == ["0.weight", "0.bias"]
    assert len(weights) == 26
    assert np.shares_memory(weights["base"], weights["column"])


def test_reads_what_pytorch_saved_before_0_4():
    # torchvision's vgg16-397923af.pth is such a file: its tensors are calls with four arguments.
    shapes = {
        "features.0.weight": (4, 3, 3, 3),
        "features.0.bias": (4,),
        "features.2.weight": (4, 4, 3, 3),
        "features.2.bias": (4,),
        "classifier.6.weight": (2, 4),
        "classifier.6.bias": (2,),
    }
    weights = read_weights(OLD)
    assert list(weights) == list(shapes)
    for place, (name, shape) in enumerate(shapes.items()):
        counted = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(weights[name], counted / 8 + place, strict=True)


def test_reads_what_python_2_saved(tmp_path):
    # There an OrderedDict is called with a list of its items, and names are strings of bytes.
    arguments = b"%b%b%b%btR" % (
        b"(" + storage_of(3),
        value(1),
        value((2,)),
        value((1,)),
    )
    only = b"](U\1w" + b"ctorch._utils\n_rebuild_tensor\n" + arguments + b"e"
    saved = b"\x80\2ccollections\nOrderedDict\n](" + only + b"e\x85R."
    (tmp_path / "w.pth").write_bytes(stream(saved))
    (read,) = read_weights(tmp_path / "w.pth").items()
    assert read[0] == "w"
    np.testing.assert_array_equal(read[1], np.float32([2, 3]), strict=True)


def storage_of(size):
    """The instructions for a storage of float32 under the key "0"."""
    parts = text("storage"), text("0"), value(size)
    return b"(%bctorch\nFloatStorage\n%bX\3\0\0\0cpu%bNtQ" % parts


def test_reads_what_was_built_by_hand(tmp_path):
    # By the instructions' bytes: {"w": _rebuild_tensor_v2(("storage", type, "0", "cpu", 3, None),
    # 1, (2,), (1,), False, OrderedDict())}, for which the machine needs no name but its own.
    (tmp_path / "w.pth").write_bytes(stream(tensor()))
    (only,) = read_weights(tmp_path / "w.pth").items()
    assert only[0] == "w"
    np.testing.assert_array_equal(only[1], np.float32([2, 3]), strict=True)


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


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", ["stream", "zip"])
@pytest.mark.parametrize(
    ("name", "attack"),
    [
        (f"{os.system.__module__}.system", lambda mark: Calls(os.system, f"touch {mark}")),
        (r"(__builtin__|builtins)\.eval", lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')")),
        (r"io\.open", lambda mark: {"w": Calls(open, str(mark), "w")}),
        (
            r"(__builtin__|builtins)\.exec",
            lambda mark: OrderedDict(w=Calls(OrderedDict, Calls(exec, f"open({str(mark)!r})"))),
        ),
        (
            r"(__builtin__|builtins)\.getattr",
            lambda mark: [Calls(getattr, OrderedDict, "__init__")],
        ),
        ("_?pickle.loads", lambda mark: {"w": Calls(pickle.loads, b"N.")}),
        (r"test_weights\.Calls", lambda mark: {"w": Calls}),
    ],
)
def test_nothing_of_a_file_is_called(tmp_path, name, attack, form, protocol):
    mark = tmp_path / "mark"
    saved = pickle.dumps(attack(mark), protocol)
    path = tmp_path / "bad.pth"
    path.write_bytes(stream(saved) if form == "stream" else zipped({"data.pkl": saved}))
    named = rf"asks for '.*{name}', expected tensors alone"
    with pytest.raises(DataError, match=named if protocol > 1 else "expected tensors") as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert not mark.exists()


DEEP = b")" + b"q\1h\1\x86" * 100  # a tuple of 2^100 empty ones, in 501 bytes


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        # What is known is no more than it is: not called otherwise, not changed, not reached into.
        (b"\x80\2ctorch\nFloatStorage\n)R.", "a call of dtype"),
        (b"\x80\2ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
        (b"\x80\2(ios\nsystem\n.", "instruction INST 'os system'"),
        (b"\x80\2(cos\nsystem\no.", "asks for 'os.system'"),
        (b"\x80\2\x82\1.", "instruction EXT1 1"),
        (b"\x80\2ctorch._utils\n_rebuild_tensor_v2\n}b.", "attributes of a function"),
        (tensor(after=b"}b"), "attributes of a _Tensor"),
        (b"\x80\2Vtorch._utils\nVos.system\n\x93.", "instruction UNICODE"),
        (b"\x80\4\x8c\5torch\x8c\x04load\x93.", "asks for 'torch.load'"),
        (b"\x80\4\x8c\5tor\nh\x8c\x04load\x93.", r"asks for 'tor\\nh.load'"),
        (b"\x80\4K\1K\2\x93.", "no whole pickle"),
        (b"\x80\4\x8c\x0ctorch._utils\x8c\x1b_rebuild_tensor_v2.__code__\x93.", "__code__'"),
        (tensor(function=b"ctorch._utils\n_rebuild_qtensor\n"), "_rebuild_qtensor', expected"),
        (b"\x80\2ctorch._utils\n_rebuild_tensor\nN\x85R.", "no whole pickle"),
        (b"\x80\2ccollections\nOrderedDict\n]N]\x86a\x85R.", "a dictionary of other items"),
        (b"\x80\2ccollections\nOrderedDict\n](](NNee\x85R.", "a dictionary of other items"),
        (tensor(function=b"ctorch\nFloatStorage\n"), "a call of dtype"),
        (tensor(function=b"K\1"), "a call of 1,"),
        # A few bytes can be values that take forever to hash or to write.
        (b"\x80\2}" + DEEP + b"Ns.", "items of a dict, expected a dictionary's, by name"),
        (b"\x80\2" + DEEP + b"Q.", "no whole pickle"),
        (b"\x80\2((" + DEEP + b"NNNNtQ.", "a persistent id"),
        (tensor(kind=DEEP), "a persistent id"),
        (tensor(shape=(1,), strides=(1,), offset=0, after=b"0" + DEEP), "instruction POP"),
        (tensor(function=DEEP), "a call of"),
        (b"\x80\2r\xff\xff\xff\xff.", "no whole pickle"),
        (b"\x80\2Nr\xff\xff\xff\xff.", "a NoneType, expected a dictionary of tensors"),
        # The stack.
        (b"\x80\2.", "no whole pickle"),
        (b"\x80\2t.", "no whole pickle"),
        (b"\x80\2h\0.", "no whole pickle"),
        (b"\x80\2R.", "no whole pickle"),
        (b"\x80\2K\1NNs.", "items of a int"),
        (b"\x80\2}(X\1\0\0\0wu.", "no whole pickle"),
        # What is no state dict.
        (b"\x80\2K\1.", "a int, expected a dictionary of tensors"),
        (b"\x80\2}X\5\0\0\0epochK\3s.", "'epoch' of int, expected a tensor under each name"),
        (b"\x80\2}X\5\0\0\0state}s.", "'state' of dict, expected"),
    ],
)
def test_a_file_gets_no_further_than_tensors(tmp_path, saved, message):
    path = tmp_path / "bad.pth"
    path.write_bytes(stream(saved, keys=(), sizes=(), values=()))
    with pytest.raises(DataError, match=message) as error:
        read_weights(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (stream(tensor(offset=2)), r"'w' of shape \(2,\) with strides \(1,\) from 2, expected a p"),
        (stream(tensor(strides=(3,))), r"strides \(3,\) from 1, expected a part of its storage of"),
        (stream(tensor(shape=(2**40, 2**40), strides=(0, 0))), "a tensor of"),
        (stream(tensor(shape=(1, 2), strides=(1,))), "a tensor of"),
        (stream(tensor(offset=-1)), r"a tensor of \(-1, 2, 1\), expected offset, shape and str"),
        (stream(tensor(strides=(-1,))), r"a tensor of \(1, 2, -1\)"),
        (stream(tensor(offset=True)), "a tensor of"),
        (stream(tensor(size=-3)), "a persistent id"),
        (stream(tensor(size=4)), "3 elements of storage '0', expected 4"),
        (stream(tensor(size=2), sizes=(2,)), "bytes behind the last storage"),
        (stream(tensor(), values=(1.0, 2.0)), "8 bytes of storage '0', expected 12"),
        (stream(tensor(), sizes=(2**62,)), f"{2**62} elements of storage '0', expected 3"),
        (stream(tensor(size=2**47), sizes=(2**47,)), f"12 bytes of storage '0', expected {2**49}"),
        (stream(tensor(size=2**48)), "a persistent id"),
        (stream(tensor(), keys=()), r"storages \[\], expected \['0'\]"),
        (stream(tensor(), keys=("0", "0"), sizes=(3, 3)), r"storages \['0', '0'\], expected"),
        (stream(tensor(), sizes=(), values=()), "no elements of storage '0', expected 3"),
        (stream(tensor(view=b"K\1")), "a persistent id"),
        (stream(tensor(kind=text("module"))), "a persistent id"),
        (stream(tensor(type=text("torch FloatStorage"))), "a persistent id"),
        (
            stream(tensor()).replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
            "expected 1001, little-endian",
        ),
        (pickle.dumps({"w": 1}, 2), "no magic number"),
        (b"torch", r"its first bytes b'torch' are of no known form; expected a \.pth or a \.safet"),
        (zipped({"data.pkl": tensor()}), "no storage '0', expected 3 elements"),
        (zipped({"data.pkl": tensor(), "data/0": b"\0" * 8}), "8 bytes of storage '0', expected"),
        (zipped({"data.pkl": tensor(), "byteorder": b"big"}), "another byte order"),
        (zipped({"model.json": b"{}"}), r"a zip file of .*, expected a folder with data.pkl"),
        (zipped({"data.pkl": tensor()})[:-30], "no whole zip file"),
    ],
)
def test_storages_and_forms_that_do_not_fit(tmp_path, content, message):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_storage_has_one_dtype(tmp_path):
    # Two tensors of the storage "0", of which one calls it int32.
    other = tensor(type=b"ctorch\nIntStorage\n")[3:-1].replace(b"X\1\0\0\0w", b"X\1\0\0\0v", 1)
    (tmp_path / "bad.pth").write_bytes(stream(tensor()[:-1] + other + b"."))
    with pytest.raises(DataError, match="a storage of two sizes or dtypes"):
        read_weights(tmp_path / "bad.pth")


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\0" * 10**6)
    with pytest.raises(DataError, match="compressed members"):
        read_weights(tmp_path / "w.pth")


def lied(name="w", data=8, **changes):
    """A safetensors file by hand: a header of one array of two float32, and bytes for it."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return headed(json.dumps({name: entry}).encode(), bytes(data))


def headed(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def test_reads_a_safetensors_file(tmp_path):
    numbers = pytest.importorskip("safetensors.numpy")
    dtypes = [*DTYPES[:-1], "uint16", "uint32", "uint64", ml_dtypes.bfloat16]
    arrays = {str(np.dtype(dtype)): np.arange(3).astype(dtype) for dtype in dtypes}
    arrays |= {
        "matrix": BASE,
        "scalar": np.array(7, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    # Its form is known by its content, whatever the name.
    path = tmp_path / "w.pth"
    path.write_bytes(numbers.save(arrays, {"format": "pt"}))
    weights = read_weights(path)
    assert weights.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(weights[name], values, strict=True)
        assert not weights[name].flags.writeable


def test_a_header_of_19280_bytes_is_no_zip_file(tmp_path):
    # Its length, in eight bytes, begins with "PK".
    pytest.importorskip("safetensors")
    header = lied()[8:-8]
    (tmp_path / "w").write_bytes(headed(header + b" " * (19280 - len(header)), bytes(8)))
    assert (tmp_path / "w").read_bytes().startswith(b"PK")
    np.testing.assert_array_equal(read_weights(tmp_path / "w")["w"], np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lied(data=7), "no whole file .*not fully covered"),
        (lied(data=9), "no whole file .*not fully covered"),
        (lied(shape=[3]), "no whole file .*invalid shape"),
        (lied(shape=[2**40, 2**40]), "no whole file .*overflow"),
        (lied(shape=[2] + [1] * 80), "'w' of 81 axes, expected 32 at most"),
        (lied(data_offsets=[4, 12], data=12), "no whole file .*invalid offset"),
        (lied(dtype="Q9"), "no whole file .*unknown variant `Q9`"),
        (lied(dtype="Q" * 999), "no whole file .*unknown variant `QQ"),
        (lied(dtype="F8_E4M3", shape=[8]), "'w' of dtype F8_E4M3, expected BOOL, U8, .*, C64"),
        (lied("a\nb", shape=[3], data_offsets=[0, 12]), "no whole file"),
        (lied("a\nb", data_offsets=[4, 12], data=12), r"invalid offset for tensor `a\\nb`"),
        (headed(b"{]"), "no whole file .*invalid JSON"),
        (headed(b'{"\xff":1}'), "no whole file .*invalid UTF-8"),
        (lied()[:30], "no whole file .*invalid header length"),
        (struct.pack("<Q", 2**62) + b"{}", "no whole file .*header too large"),
        (lied()[:8], "are of no known form; expected a"),
    ],
)
def test_safetensors_files_that_do_not_fit(tmp_path, content, message):
    pytest.importorskip("safetensors")
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "w.safetensors").write_bytes(lied())
    with pytest.raises(DataError, match=r"w\.safetensors: no package to read it, expected safet"):
        read_weights(tmp_path / "w.safetensors")


def test_what_is_read_is_noted_by_file_name_and_checksum(tmp_path):
    of_old = {"file": OLD.name, "sha256": hashlib.sha256(OLD.read_bytes()).hexdigest()}
    of_zip = {"file": FILES[2].name, "sha256": hashlib.sha256(FILES[2].read_bytes()).hexdigest()}
    (tmp_path / "bad.pth").write_bytes(b"torch")
    read_weights(OLD)
    with noted_weights() as outer:
        read_weights(OLD)
        with noted_weights() as inner:
            read_weights(FILES[2])
        with pytest.raises(DataError):
            read_weights(tmp_path / "bad.pth")
        read_weights(OLD)
    read_weights(OLD)
    assert outer == [of_old, of_zip, of_old]
    assert inner == [of_zip]


@pytest.mark.parametrize("path", [*FILES, OLD, None], ids=lambda path: path and path.stem)
def test_a_file_that_is_cut_short_or_changed_is_read_or_refused(tmp_path, path):
    bad = tmp_path / "bad.pth"
    if path:
        content = path.read_bytes()
    else:
        numbers = pytest.importorskip("safetensors.numpy")
        content = numbers.save({"base": BASE, "column": BASE[0], "scalar": np.array(7, np.float32)})
    for size in range(0, len(content), 97):
        bad.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"bad\.pth: "):
            read_weights(bad)
    rng, refused = np.random.default_rng(0), []
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 5)):
            changed[place] = rng.integers(256)
        bad.write_bytes(changed)
        try:
            read_weights(bad)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in message for message in refused)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"w\.pth: missing; expected weights, in a \.pth or"):
        read_weights(tmp_path / "w.pth")


def test_weights_of_an_installed_package(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no-such-weights: not installed, expected its weights"):
        installed_weights("no-such-weights")
    with pytest.raises(DataError, match=r"pytest: 0 files that end in \.pth, expected one"):
        installed_weights("pytest")
    folder = tmp_path / "some_weights-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    (folder / "RECORD").write_text("some_weights/__init__.py,,\nsome_weights/models/w.pth,,\n")
    carried = tmp_path / "some_weights" / "models" / "w.pth"
    carried.parent.mkdir(parents=True)
    carried.touch()  # from Python 3.12 on, files that are missing are not listed
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_weights("some-weights") == carried
