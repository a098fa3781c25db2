"""Trained weights in .safetensors files, and files that are none."""

import struct
import sys

import ml_dtypes
import numpy as np
import pytest

from jaxstruct.data import DataError, read_weights
from tests.data.weight_files import BASE, DTYPES, headed, lied


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
