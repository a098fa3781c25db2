"""Trained weights: PyTorch's own files, files by hand, and where they come from."""

import hashlib

import ml_dtypes
import numpy as np
import pytest

from jaxstruct.data import DataError, installed_weights, noted_weights, read_weights
from tests.data.weight_files import BASE, DTYPES, FILES, OLD, storage_of, stream, tensor, value


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


def test_reads_what_was_built_by_hand(tmp_path):
    # By the instructions' bytes: {"w": _rebuild_tensor_v2(("storage", type, "0", "cpu", 3, None),
    # 1, (2,), (1,), False, OrderedDict())}, for which the machine needs no name but its own.
    (tmp_path / "w.pth").write_bytes(stream(tensor()))
    (only,) = read_weights(tmp_path / "w.pth").items()
    assert only[0] == "w"
    np.testing.assert_array_equal(only[1], np.float32([2, 3]), strict=True)


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
