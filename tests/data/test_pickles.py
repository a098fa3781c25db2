"""Pickles: the values that are read, and the attacks that are not run."""

import os
import pickle
import struct

import numpy as np
import pytest

from jaxstruct.data import DataError, pickles

HEAD = b"\x80\x02"


def read(content, tmp_path):
    return pickles.read(content, tmp_path / "batch", "a batch")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values(tmp_path, protocol):
    value = {
        "a": [1, -5, 70000, 2**70, True, False, None],
        "nested": {"t": (1, ("x", "é"), (), (1, 2, 3, 4)), "many": list(range(2000))},
    }
    assert read(pickle.dumps(value, protocol), tmp_path) == value


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_bytes(tmp_path, protocol):
    array = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    value = {"data": array, "turned": np.asfortranarray(array), "none": array[:0], "raw": b"x"}
    found = read(pickle.dumps(value, protocol), tmp_path)
    np.testing.assert_array_equal(found["data"], array)
    np.testing.assert_array_equal(found["turned"], array)
    assert found["data"].dtype == np.uint8
    assert (found["none"].shape, found["raw"]) == ((0, 7), b"x")


def text(value: bytes) -> bytes:
    """A string of Python 2, as the official batches have them."""
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def python2_array(shape: bytes, content: bytes, kind: bytes = b"u1") -> bytes:
    """An array as NumPy under Python 2 pickled it."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + text(kind)
        + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text(content)
        + b"tb"
    )


def test_a_pickle_of_python_2(tmp_path):
    array = python2_array(b"K\x02K\x03\x86", bytes(range(250, 256)))
    content = HEAD + b"}(" + text(b"data") + array + text(b"labels") + b"](K\x04K\x07eu."
    found = read(content, tmp_path)
    assert found["labels"] == [4, 7]
    assert found["data"].tolist() == [[250, 251, 252], [253, 254, 255]]
    long = np.arange(600, dtype=np.uint8)
    content = HEAD + python2_array(b"M\x58\x02\x85", long.tobytes()) + b"."
    np.testing.assert_array_equal(read(content, tmp_path), long)


class Runs:
    """What a pickle can do to who loads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(mark):
    command = f"touch {mark}"
    for protocol in range(6):
        yield f"system-{protocol}", pickle.dumps(Runs(os.system, command), protocol)
        yield f"inside-{protocol}", pickle.dumps({"a": [Runs(os.system, command)]}, protocol)
    yield "eval", pickle.dumps(Runs(eval, f"__import__('os').system({command!r})"))
    yield "function of NumPy", pickle.dumps(Runs(np.load, str(mark)))
    yield "array of objects", pickle.dumps(np.array([Runs(os.system, command)], object), 4)
    yield "inst", b"(S" + repr(command).encode() + b"\nios\nsystem\n."
    yield "obj", b"(cos\nsystem\n" + text(command.encode()) + b"o."
    yield "newobj", HEAD + b"cos\nsystem\n" + text(command.encode()) + b"\x85\x81."
    yield "stack global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R."
    yield "extension", HEAD + b"\x82\x01."
    yield "persistent", HEAD + text(b"x") + b"Q."
    yield "an attribute of NumPy", HEAD + b"cnumpy\nlib.npyio.os.system\n" + text(b"x") + b"\x85R."


UNTYPED = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85K\x07\x89U\x01atb"
MINUS = b"J\xff\xff\xff\xffJ\xf8\xff\xff\xff\x86"
DEEP = b")" + b"q\1h\1\x86" * 100  # a tuple of 2^100 empty ones, in 501 bytes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(np.zeros(3), 4), "an array of 'f8', expected bytes"),
        (pickle.dumps(np.zeros(3, np.int8), 4), "an array of 'i1', expected bytes"),
        (HEAD + python2_array(b"K\x01\x85", b"12345678", b"O8"), "an array of 'O8'"),
        (HEAD + python2_array(b"K\x09\x85", b"12345678"), r"shape \(9,\), expected 8 elements"),
        (HEAD + python2_array(MINUS, b"8bytes!!"), r"shape \(-1, -8\), expected bytes"),
        (HEAD + python2_array(DEEP, b"x"), "and shape .*, expected bytes"),
        (HEAD + python2_array(b"(" + b"K\1" * 33 + b"t", b"x"), "and shape .*, expected bytes"),
        (HEAD + UNTYPED, "expected bytes"),
        (HEAD + b"cnumpy\nndarray\n}b", "attributes of a object"),
        (HEAD + b"cnumpy\ndtype\n}b", "attributes of a function"),
        (HEAD + b"}}b", "attributes of a dict, expected none"),
        (HEAD + b"cnumpy.core.multiarray\n_reconstruct\nK\x01R", "no whole pickle"),
        (HEAD + b"cnumpy\nndarray\n(tR", "a call of <object"),
        (HEAD + DEEP + b")R", "a call of "),
        (HEAD + b"}" + DEEP + b"Ns", "items of a dict, expected a dictionary's, by name"),
        (HEAD + b"}K\1Ns", "items of a dict, expected a dictionary's, by name"),
        (HEAD + b"T\xff\xff\xff\x7fx", "no whole pickle"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x", "no whole pickle"),
        (pickle.dumps(bytearray(b"x"), 5)[:-1], "instruction BYTEARRAY8"),
        (pickle.dumps({1, 2}, 4)[:-1], "instruction EMPTY_SET"),
        (pickle.dumps(0.5, 4)[:-1], "instruction BINFLOAT"),
        (b"", "no whole pickle"),
        (b"this is no pickle", "no whole pickle"),
        (pickle.dumps({"a": list(range(100))}, 2)[:-30], "no whole pickle|instruction"),
        (HEAD + b"h\x05", "no whole pickle"),
        (HEAD + b"R", "no whole pickle"),
    ],
)
def test_nothing_else_is_built(tmp_path, content, message):
    with pytest.raises(DataError, match=f"batch: .*({message}).*; expected a batch") as error:
        read(content + b".", tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_nothing_is_run(tmp_path):
    mark = tmp_path / "mark"
    os.system(f"touch {mark}")  # what the attacks would do
    assert mark.exists()
    mark.unlink()
    for name, content in attacks(mark):
        with pytest.raises(DataError, match=r"expected .*; expected a batch"):
            print(name, read(content, tmp_path))
        assert not mark.exists(), name


def test_the_error_names_the_file_and_what_it_asks_for(tmp_path):
    with pytest.raises(DataError) as error:
        read(pickle.dumps(Runs(os.system, "true")), tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'batch'}: it asks for ")
    assert ".system', expected arrays of bytes alone; expected a batch" in str(error.value)


def test_a_place_far_away_takes_no_memory(tmp_path):
    assert read(HEAD + b"]r\xff\xff\xff\x7f.", tmp_path) == []


def test_a_list_in_itself(tmp_path):
    found = read(HEAD + b"]q\x00h\x00a.", tmp_path)
    assert found[0] is found
