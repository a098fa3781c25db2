"""Files in PyTorch's forms that want more than tensors, or are cut short."""

import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from jaxstruct.data import DataError, read_weights
from tests.data.weight_files import BASE, FILES, OLD, Calls, stream, tensor, text, zipped


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
        (r"weight_files\.Calls", lambda mark: {"w": Calls}),
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
