"""Checkpoints that hold more than a state dict, and views that are negated: files by hand."""

import pickle
import struct

import numpy as np
import pytest

from jaxstruct.data import DataError, noted_weights, read_weights
from tests.data.weight_files import FILES, lied, stream, tensor, text, value, zipped

TENSOR = tensor()[9:-2]  # the instructions of one tensor, [2, 3] of the storage [1, 2, 3]
OPTIMIZER = {"state": {0: {"step": 7}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}
BESIDE = {"epoch": 3, "arch": "resnet18", "best": 0.5, "scheduler": {"milestones": [1, 2]}}


def dictionary(**items):
    """The instructions of a dictionary, of those of its values."""
    return b"}(%bu" % b"".join(text(name) + item for name, item in items.items())


def form(name, saved, storages):
    """A file of either form around instructions, with storages of float32 by key."""
    saved = b"\x80\2%b." % saved
    content = {key: struct.pack(f"<{len(of)}f", *of) for key, of in storages.items()}
    if name == "zip":
        return zipped({"data.pkl": saved, **{f"data/{key}": c for key, c in content.items()}})
    parts = [struct.pack("<q", len(of)) + content[key] for key, of in storages.items()]
    return stream(saved, keys=storages, sizes=(), values=()) + b"".join(parts)


def checkpoint(name, key="state_dict"):
    momentum = tensor(key=text("1"), size=2, offset=0)[9:-2]
    saved = dictionary(
        **{part: value(of) for part, of in BESIDE.items()},
        **{key: dictionary(**{"module.w": TENSOR})},
        optimizer=value(OPTIMIZER),
        momentum=dictionary(state=b"}(K\0" + dictionary(momentum=momentum) + b"u"),
    )
    return form(name, saved, {"0": (1, 2, 3), "1": (4, 5)})


@pytest.mark.parametrize("name", ["stream", "zip"])
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_is_named_and_read_at_its_key(tmp_path, name, key):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(checkpoint(name, key))
    message = (
        rf"checkpoint\.pth: a checkpoint with tensors under '{key}', expected a state dict; "
        rf"read_weights\(path, '{key}'\) reads them alone"
    )
    with pytest.raises(DataError, match=message):
        read_weights(path)
    with noted_weights() as noted:
        (only,) = read_weights(path, key).items()
    assert only[0] == "module.w"  # as in the file
    np.testing.assert_array_equal(only[1], np.float32([2, 3]), strict=True)
    assert [file["file"] for file in noted] == ["checkpoint.pth"]
    with pytest.raises(
        DataError, match=r"no dictionary under 'ema' but .*'epoch', .*, expected one"
    ):
        read_weights(path, "ema")
    with pytest.raises(DataError, match="no dictionary under 'epoch' but"):
        read_weights(path, "epoch")
    with pytest.raises(DataError, match="'state' of dict"):
        read_weights(path, "optimizer")


def test_a_checkpoint_in_a_checkpoint(tmp_path):
    saved = dictionary(last=dictionary(model=dictionary(w=TENSOR)), epoch=value(1))
    (tmp_path / "w.pth").write_bytes(form("zip", saved, {"0": (1, 2, 3)}))
    with pytest.raises(DataError, match=r"read_weights\(path, 'last', 'model'\) reads them alone"):
        read_weights(tmp_path / "w.pth", "last")
    assert list(read_weights(tmp_path / "w.pth", "last", "model")) == ["w"]


def test_what_is_in_a_checkpoint_is_not_run(tmp_path):
    saved = dictionary(state_dict=dictionary(w=TENSOR), args=b"cargparse\nNamespace\n)R")
    (tmp_path / "w.pth").write_bytes(form("zip", saved, {"0": (1, 2, 3)}))
    message = (
        r"'argparse\.Namespace', expected tensors alone, as torch\.save\(model\.state_dict\(\)"
    )
    with pytest.raises(DataError, match=message):
        read_weights(tmp_path / "w.pth", "state_dict")


@pytest.mark.parametrize("key", [-1, 2**31, 2**61 - 1, (), 0.5, None])
def test_keys_that_could_take_long_are_refused(tmp_path, key):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({key: 1}, 2))
    with pytest.raises(DataError, match="items of a dict, expected a dictionary's, by name"):
        read_weights(tmp_path / "w.pth")


def test_a_state_dict_has_no_keys_and_a_safetensors_file_neither(tmp_path):
    with pytest.raises(DataError, match=r"no dictionary under 'state_dict' but .*'0\.weight'"):
        read_weights(FILES[0], "state_dict")
    pytest.importorskip("safetensors")
    (tmp_path / "w.safetensors").write_bytes(lied())
    with pytest.raises(DataError, match=r"tensors alone, expected no key, given \('model',\)"):
        read_weights(tmp_path / "w.safetensors", "model")


def test_a_path_may_be_text():
    assert list(read_weights(str(FILES[0]))) == list(read_weights(FILES[0]))
    with pytest.raises(DataError, match=r"^nowhere\.pth: missing"):
        read_weights("nowhere.pth")


def viewed(bits, **changes):
    """A pickle of a tensor whose metadata PyTorch adds since 1.11: what its view does."""
    return tensor(**changes)[2:-4] + value(bits) + b"tRs"


@pytest.mark.parametrize("name", ["stream", "zip"])
def test_a_negated_view_is_negated(tmp_path, name):
    (tmp_path / "w.pth").write_bytes(form(name, viewed({"neg": True}), {"0": (1, 2, 3)}))
    found = read_weights(tmp_path / "w.pth")["w"]
    np.testing.assert_array_equal(found, np.float32([-2, -3]), strict=True)
    assert not found.flags.writeable
    (tmp_path / "w.pth").write_bytes(form(name, viewed({"neg": False}), {"0": (1, 2, 3)}))
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pth")["w"], np.float32([2, 3]))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [({"conj": True}, [3 - 4j, 5 - 6j]), ({"conj": True, "neg": True}, [-3 + 4j, -5 + 6j])],
)
def test_a_conjugated_view_is_conjugated(tmp_path, bits, expected):
    saved = viewed(bits, type=b"ctorch\nComplexFloatStorage\n")
    (tmp_path / "w.pth").write_bytes(stream(b"\x80\2%b." % saved, values=range(1, 7)))
    found = read_weights(tmp_path / "w.pth")["w"]
    np.testing.assert_array_equal(found, np.complex64(expected), strict=True)


@pytest.mark.parametrize(
    ("bits", "changes", "message"),
    [
        (
            {"conj": True},
            {},
            r"a tensor of float32 with \['conj'\], expected nothing but \['neg'\]",
        ),
        ({"zero": True}, {}, r"a tensor of float32 with \['zero'\], expected"),
        ({"neg": True}, {"type": b"ctorch\nBoolStorage\n"}, r"of bool with \['neg'\], expected"),
        ({"neg": 1}, {}, "a tensor with {'neg': 1}, expected no more than bits"),
        ([True], {}, r"a tensor with \[True\], expected no more than bits"),
    ],
)
def test_other_views_are_refused(tmp_path, bits, changes, message):
    (tmp_path / "w.pth").write_bytes(form("stream", viewed(bits, **changes), {"0": (1, 2, 3)}))
    with pytest.raises(DataError, match=message):
        read_weights(tmp_path / "w.pth")
