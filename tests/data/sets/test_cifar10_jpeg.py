"""CIFAR-10 as JPEG files: what comes out, what is refused, the imitation."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxstruct import data
from jaxstruct.data import DataError, Examples, Source, class_folders, prepared
from jaxstruct.data.sets import cifar10_jpeg
from tests.data.written import drop, image, pixels, write

CIFAR10 = cifar10_jpeg.ENTRY.classes


def cifar(top=""):
    """Three images of each class to train and one to test, all different."""
    return {
        f"{top}{split}/{name}/{number:04}.jpg": image(100 * label + number, (32, 32))
        for split, numbers in (("train", (0, 1, 2)), ("test", (3,)))
        for label, name in enumerate(CIFAR10)
        for number in numbers
    }


def by_content(examples: Examples) -> dict[bytes, int]:
    pairs = zip(examples["image"], examples["label"], strict=True)
    return {picture.tobytes(): int(label) for picture, label in pairs}


@pytest.mark.parametrize(
    ("name", "top"),
    [
        ("cifar10_jpeg.tar.xz", ""),  # beside the folders of other sets
        ("cifar10_jpeg.zip", ""),
        ("cifar10_jpeg/cifar10_jpeg.tar.xz", "cifar10/"),
        ("cifar10_jpeg/CIFAR-10-images-master.zip", "CIFAR-10-images-master/"),
        ("cifar10_jpeg", ""),
    ],
)
def test_cifar10_jpeg(tmp_path, name, top):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, {**cifar(top), f"{top}README.md": b"about"})
    with data.looking(tmp_path):
        train, test = data.load("cifar10_jpeg", "train"), data.load("cifar10_jpeg", "test")
    assert (train["image"].shape, train["image"].dtype) == ((30, 32, 32, 3), np.uint8)
    assert train.source == Source("cifar10_jpeg", "1.0.0", "train", "official", 30)
    assert train.classes == test.classes == CIFAR10
    assert by_content(train) == {
        pixels(image(100 * label + number, (32, 32))).tobytes(): label
        for label in range(10)
        for number in range(3)
    }
    assert sorted(test["label"]) == list(range(10))
    assert train["label"].tolist() != sorted(train["label"])  # a slice has all classes


def test_the_order_is_that_of_the_names_whatever_holds_them(tmp_path):
    write(tmp_path / "a" / "cifar10_jpeg", cifar())
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "cifar10_jpeg.tar.xz", dict(reversed(cifar().items())))
    found = []
    for root in ("a", "b"):
        with data.looking(tmp_path / root):
            found.append(data.load("cifar10_jpeg", "train")["image"].copy())
    np.testing.assert_array_equal(*found)


def test_a_jpeg_is_stored_as_it_is(tmp_path):
    write(tmp_path / "cifar10_jpeg", cifar())
    with data.looking(tmp_path):
        found = data.prepare("cifar10_jpeg")
    source = tfds.builder_from_directory(found.path).as_data_source(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    assert {row["image"] for row in source} == {
        content for name, content in cifar().items() if name.startswith("train")
    }


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: {**c, "train/cat/0001.jpg": b""}, "/train/cat/0001.jpg: no image .*expected an"),
        (
            lambda c: {**c, "test/dog/0003.jpg": image(0, (32, 31))},
            "/test/dog/0003.jpg: 32 x 31 pixels; expected 32 x 32",
        ),
        (lambda c: drop(c, "test/"), ": splits train; expected train, test"),
        (lambda c: drop(drop(c, "train/cat"), "test/cat"), ": classes .*bird, deer.*; expected"),
        (lambda c: drop(c, "train/cat"), "/train/cat: no image; expected some"),
        (lambda c: {**c, "1.jpg": image()}, "/1.jpg: in no class folder"),
    ],
)
@pytest.mark.parametrize("kind", ["cifar10_jpeg", "cifar10_jpeg.tar.xz"])
def test_bad_cifar10_jpeg(tmp_path, spoil, message, kind):
    path = write(tmp_path / kind, spoil(cifar()))
    with (
        data.looking(tmp_path, imitations=True),  # an imitation must not hide it
        pytest.raises(DataError, match=message) as error,
    ):
        data.load("cifar10_jpeg", "train")
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "prepared" / "cifar10_jpeg").exists()


def test_a_cut_archive(tmp_path):
    path = write(tmp_path / "cifar10_jpeg.tar.xz", cifar())
    path.write_bytes(path.read_bytes()[:-500])
    with data.looking(tmp_path), pytest.raises(DataError, match=r"cifar10_jpeg.tar.xz: cannot be"):
        data.load("cifar10_jpeg", "train")


def test_only_what_is_called_as_the_set_lies_beside_its_folder(tmp_path):
    write(tmp_path / "cifar10_jpeg", cifar())
    shutil.move(tmp_path / "cifar10_jpeg" / "train", tmp_path / "train")  # another set's
    shutil.rmtree(tmp_path / "cifar10_jpeg")
    with data.looking(tmp_path):
        assert prepared.find_raw("cifar10_jpeg") is None
        write(tmp_path / "cifar10_jpeg.tar", cifar())
        assert prepared.find_raw("cifar10_jpeg") == tmp_path


@pytest.mark.real_data("cifar10_jpeg.tar.xz")
@pytest.mark.slow
def test_real_cifar10_jpeg(real_data):
    with data.looking(real_data):
        train, test = data.load("cifar10_jpeg", "train"), data.load("cifar10_jpeg", "test")
    assert np.bincount(train["label"]).tolist() == [5000] * 10
    assert np.bincount(test["label"]).tolist() == [1000] * 10
    # CIFAR-10's mean colour, as is often subtracted: (125.3, 123.0, 113.9).
    np.testing.assert_allclose(train["image"].mean((0, 1, 2)), [125.3, 123.0, 113.9], atol=0.5)
    first = np.bincount(train["label"][:1000], minlength=10)
    assert first.min() > 60  # a slice has all classes


def test_the_imitation_has_every_class_as_often(tmp_path):
    cifar10_jpeg.imitate(tmp_path)
    (path,) = tmp_path.iterdir()
    found = class_folders.scan(path)
    assert found.classes == CIFAR10
    for split, size in (("train", 100), ("test", 20)):
        assert np.bincount([*found.files[split].values()]).tolist() == [size] * 10
