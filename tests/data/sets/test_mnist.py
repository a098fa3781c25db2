"""MNIST and the sets in its format: what comes out, every way a file can be bad, imitations."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError, idx
from jaxstruct.data.sets import _digits, _mnist, fashion_mnist, kmnist, mnist

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def test_mnist_comes_back_as_it_was_written(data_dir):
    with data.looking(data_dir):
        train, test = data.load("mnist", "train"), data.load("mnist", "test")
    for examples, stem, size in ((train, "train", 12), (test, "t10k", 5)):
        written = idx.read(data_dir / "mnist" / f"{stem}-images-idx3-ubyte.gz", 3, "")
        assert examples["image"].shape == (size, 28, 28, 1)
        assert examples["image"].dtype == np.uint8
        np.testing.assert_array_equal(examples["image"][..., 0], written)
        assert examples["label"].dtype == np.int32
        assert examples["label"].tolist() == [i % 10 for i in range(size)]
    assert train.source == data.Source("mnist", "1.0.0", "train", "official", 12)
    assert train.classes == tuple("0123456789")


def test_mnist_unpacked(data_dir):
    for path in list((data_dir / "mnist").iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    with data.looking(data_dir):
        assert data.load("mnist", "train").size == 12


@pytest.mark.parametrize(("name", "third"), [("fashion_mnist", "Pullover"), ("kmnist", "su")])
def test_sets_in_the_format_of_mnist(tmp_path, write_mnist, name, third):
    write_mnist(tmp_path / name, seed=3)
    write_mnist(tmp_path / "mnist", seed=4)  # has files of the same names
    with data.looking(tmp_path):
        train, test = data.load(name, "train"), data.load(name, "test")
    written = idx.read(tmp_path / name / IMAGES, 3, "")
    np.testing.assert_array_equal(train["image"][..., 0], written)
    assert train["label"].tolist() == [i % 10 for i in range(12)]
    assert (len(train.classes), train.classes[2]) == (10, third)
    assert test.source == data.Source(name, "1.0.0", "test", "official", 5)
    corrupt(tmp_path / name / LABELS)
    with data.looking(tmp_path), pytest.raises(DataError, match=f"{name}/{LABELS}: .*expected an"):
        data.load(name, "train")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def replaced(content: bytes):
    return lambda path: path.write_bytes(content)


def values(array):
    return lambda path: idx.write(path, np.asarray(array, np.uint8))


def short(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        (IMAGES, cut, "cut short or corrupt.*expected an IDX file.*28 x 28"),
        (IMAGES, corrupt, "cut short or corrupt.*expected an IDX file"),
        (IMAGES, short, "9407 bytes of data; expected 9408 for 12 x 28 x 28"),
        (
            IMAGES,
            replaced(gzip.compress(struct.pack(">2I", 2049, 0))),
            "cut short, 8 bytes; expected",
        ),
        (IMAGES, values(np.zeros(40)), "magic number 0x00000801; expected 0x00000803"),
        (IMAGES, values(np.zeros((12, 27, 28))), "images of 12 x 27 x 28; expected N x 28 x 28"),
        (IMAGES, values(np.zeros((0, 28, 28))), "images of 0 x 28 x 28; expected N x 28 x 28"),
        (LABELS, values(np.zeros((3, 28, 28))), "magic number 0x00000803; expected 0x00000801"),
        (LABELS, values(range(9)), f"9 labels; expected 12, one for each image of {IMAGES}"),
        (LABELS, values(range(12)), "label 10 of example 10; expected 0 to 9"),
        (IMAGES, replaced(b""), "empty, get it again; expected an IDX file"),
        (LABELS, replaced(gzip.compress(b"")), "empty, get it again; expected an IDX file"),
        (IMAGES, folder, "is a folder; expected an IDX file"),
        (LABELS, replaced(b"no gzip"), "not a gzip file .*; expected an IDX file"),
        (LABELS, Path.unlink, "missing; expected it beside the other files.*prepare mnist"),
    ],
)
def test_bad_mnist(data_dir, tmp_path, name, spoil, message):
    path = data_dir / "mnist" / name
    spoil(path)
    with (
        data.looking(data_dir, imitations=True),  # an imitation must not hide it
        pytest.raises(DataError, match=message) as error,
    ):
        data.load("mnist", "test")
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "prepared" / "mnist").exists()
    assert not list((tmp_path / "prepared").glob(".preparing*"))


def test_a_file_without_read_permission(data_dir, monkeypatch):
    bad = data_dir / "mnist" / LABELS
    read_bytes = Path.read_bytes

    def refuse(path):  # what anyone but root meets
        if path == bad:
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with data.looking(data_dir), pytest.raises(DataError) as error:
        data.load("mnist", "train")
    assert str(error.value).startswith(
        f"{bad}: cannot be read (Permission denied); expected an IDX"
    )


@pytest.mark.real_data("mnist")
@pytest.mark.slow
def test_real_mnist(real_data):
    before = sorted((path, path.stat().st_mtime_ns) for path in (real_data / "mnist").iterdir())
    with data.looking(real_data):
        train, test = data.load("mnist", "train"), data.load("mnist", "test")
    assert (train.size, test.size) == (60000, 10000)
    header = struct.pack(">4I", 2051, 60000, 28, 28)
    content = header + train["image"].tobytes()
    assert hashlib.md5(content).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert np.bincount(test["label"]).tolist() == [
        *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    ]
    after = sorted((path, path.stat().st_mtime_ns) for path in (real_data / "mnist").iterdir())
    assert before == after


def test_the_imitation_of_mnist_is_digits_in_a_border(tmp_path):
    mnist.imitate(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    splits = _mnist.images_and_labels(tmp_path, mnist.FILES)
    images, labels = splits["train"]
    assert (len(images), len(splits["test"][0])) == (1437, 360)
    small, truth = _digits.images_and_labels()
    np.testing.assert_array_equal(labels, truth[:1437])
    assert not images[:, :4].any()  # the box of 20 x 20 has a border of 4
    assert not images[:, :, 24:].any()
    # Shrunk again, an image is the digit that it was made of.
    blocks = images[:, 4:24, 4:24].reshape(-1, 4, 5, 4, 5).mean((2, 4))
    coarse = small[:1437].reshape(-1, 4, 2, 4, 2).mean((2, 4))
    nearest = [np.argmin(((coarse - block) ** 2).sum((1, 2))) for block in blocks[:100]]
    assert np.mean(nearest == np.arange(100)) > 0.95


def test_the_imitations_of_sets_in_the_format_of_mnist(tmp_path):
    small, truth = _digits.images_and_labels()
    read = {}
    for kind in (mnist, fashion_mnist, kmnist):
        name = kind.__name__.rpartition(".")[2]
        (tmp_path / name).mkdir()
        kind.imitate(tmp_path / name)
        images, labels = _mnist.images_and_labels(tmp_path / name, kind.FILES)["train"]
        np.testing.assert_array_equal(labels, truth[:1437])
        read[name] = images
    assert read["fashion_mnist"].mean() > 2 * read["mnist"].mean()  # clothes fill the frame
    assert read["kmnist"][:, 2:26, 2:26].any((1, 2)).all()
    assert not read["kmnist"][:, :2].any()
    # A digit on its side is that digit again when it is turned back.
    shrunk = (
        np.rot90(read["kmnist"][:, 2:26, 2:26], -1, (1, 2)).reshape(-1, 8, 3, 8, 3).mean((2, 4))
    )
    assert np.abs(shrunk - small[:1437]).mean() < 20
