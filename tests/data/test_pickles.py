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


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_plain_values(tmp_path, protocol):
    value = {
        "a": [1, -5, 70000, True, False, None],
        "nested": {"t": (1, ("x", "é")), "many": list(range(2000))},
    }
    if protocol == 0:  # writes texts and whole numbers as lines
        value = {1: [True, False, None, (1, 2)]}
    assert read(pickle.dumps(value, protocol), tmp_path) == value


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_bytes(tmp_path, protocol):
    array = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    value = {b"data": array, b"turned": np.asfortranarray(array), b"none": array[:0], b"raw": b"x"}
    found = read(pickle.dumps(value, protocol), tmp_path)
    np.testing.assert_array_equal(found[b"data"], array)
    np.testing.assert_array_equal(found[b"turned"], array)
    assert found[b"data"].dtype == np.uint8
    assert (found[b"none"].shape, found[b"raw"]) == ((0, 7), b"x")


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
    array = python2_array(b"K\x02K\x03\x86", bytes(range(6)))
    content = HEAD + b"}(" + text(b"data") + array + text(b"labels") + b"](K\x04K\x07eu."
    found = read(content, tmp_path)
    assert found[b"labels"] == [4, 7]
    assert found[b"data"].tolist() == [[0, 1, 2], [3, 4, 5]]


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
    yield "inst", b"(S" + repr(command).encode() + b"\nios\nsystem\n."
    yield "obj", b"(cos\nsystem\n" + text(command.encode()) + b"o."
    yield "newobj", HEAD + b"cos\nsystem\n" + text(command.encode()) + b"\x85\x81."
    yield "stack global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R."
    yield "extension", HEAD + b"\x82\x01."
    yield "persistent", HEAD + text(b"x") + b"Q."
    yield "function of NumPy", pickle.dumps(Runs(np.load, str(mark)))
    yield "an attribute of NumPy", HEAD + b"cnumpy\nlib.npyio.os.system\n" + text(b"x") + b"\x85R."
    objects = HEAD + python2_array(b"K\x01\x85", b"12345678", b"O8") + b"."
    yield "objects", objects
    yield "array of objects", pickle.dumps(np.array([Runs(os.system, command)], object), 4)
    yield "floats", pickle.dumps(np.zeros(3), 4)
    yield "signed bytes", pickle.dumps(np.zeros(3, np.int8), 4)
    untyped = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85K\x07\x89U\x01atb."
    yield "no dtype", HEAD + untyped
    yield "shape", HEAD + python2_array(b"K\x09\x85", b"12345678") + b"."
    minus = b"J\xff\xff\xff\xffJ\xf8\xff\xff\xff\x86"
    yield "negative shape", HEAD + python2_array(minus, b"8bytes!!") + b"."
    yield "function", HEAD + b"]cnumpy.core.multiarray\n_reconstruct\na."
    yield "dtype", HEAD + b"}K\x01cnumpy\ndtype\n" + text(b"u1") + b"\x85Rs."
    yield "state", HEAD + b"cnumpy\nndarray\n}" + text(b"a") + b"K\x01sb."
    yield "called", HEAD + b"cnumpy.core.multiarray\n_reconstruct\nK\x01R."
    yield "array as function", HEAD + b"cnumpy\nndarray\n(tR."
    yield "memory", HEAD + b"]r\xff\xff\xff\x7f."
    yield "long text", HEAD + b"T\xff\xff\xff\x7fx."
    yield "bytearray", b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x."
    yield "sets", pickle.dumps({1, 2}, 4)
    yield "float", pickle.dumps(0.5, 4)
    yield "whole number of any length", pickle.dumps(2**70, 4)
    yield "empty", b""
    yield "text", b"this is no pickle"
    yield "cut", pickle.dumps({"a": list(range(100))}, 2)[:-30]
    yield "unknown memo", HEAD + b"h\x05."


def test_nothing_is_run_and_nothing_else_is_built(tmp_path):
    mark = tmp_path / "mark"
    os.system(f"touch {mark}")  # what the attacks would do
    assert mark.exists()
    mark.unlink()
    for name, content in attacks(mark):
        with pytest.raises(DataError, match=r"not read as a pickle, because .*expected a batch"):
            print(name, read(content, tmp_path))
        assert not mark.exists(), name


def test_the_error_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(DataError) as error:
        read(pickle.dumps(Runs(os.system, "true")), tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'batch'}: not read as a pickle, because of ")
    assert "system" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_file_does_to_a_function_is_gone(tmp_path):
    spoiled = HEAD + b"cnumpy.core.multiarray\n_reconstruct\n}" + text(b"__name__") + b"U\x01xsb."
    with pytest.raises(DataError, match="a function"):
        read(spoiled, tmp_path)
    array = python2_array(b"K\x01\x85", b"a")
    assert read(HEAD + array + b".", tmp_path).tolist() == [97]


def test_a_list_in_itself_and_one_that_would_take_for_ever(tmp_path):
    found = read(HEAD + b"]q\x00h\x00a.", tmp_path)
    assert found[0] is found
    value = []
    for _ in range(60):
        value = [value, value]
    assert read(pickle.dumps(value), tmp_path)
