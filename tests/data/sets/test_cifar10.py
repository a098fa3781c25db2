"""CIFAR-10's official batches: what comes out, every way a file can be bad, the imitation."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError, Source, shapes
from jaxstruct.data.sets import cifar10
from tests.data.written import write

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


FOLDER = "cifar-10-batches-py"


def batch(number, **changes):
    rows = np.random.default_rng(number).integers(0, 256, (4, 3072), np.uint8)
    contents = {"data": rows, "labels": [number, 1, 2, 9], "batch_label": "x"} | changes
    return {name: value for name, value in contents.items() if value is not None}


def batches(**changed):
    """The files of the official folder; `changed` are contents of files in place of a batch."""
    contents = {
        f"{FOLDER}/{name}": pickle.dumps(batch(number), 3) for number, name in enumerate(NAMES)
    }
    contents |= {f"{FOLDER}/batches.meta": b"whatever", f"{FOLDER}/readme.html": b"<html>"}
    contents |= {f"{FOLDER}/{name}": content for name, content in changed.items()}
    return {name: content for name, content in contents.items() if content is not None}


@pytest.mark.parametrize("kind", ["cifar-10-python.tar.gz", "folder"])
def test_cifar10_comes_back_in_official_order(tmp_path, kind):
    (tmp_path / "cifar10").mkdir()
    write(tmp_path / "cifar10" / kind.replace("folder", ""), dict(reversed(batches().items())))
    with data.looking(tmp_path):
        train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    assert train["label"].tolist() == [label for n in range(5) for label in (n, 1, 2, 9)]
    assert test["label"].tolist() == [5, 1, 2, 9]
    assert train["image"].shape == (20, 32, 32, 3)
    for number in range(6):
        rows = batch(number)["data"]
        images = train["image"][4 * number : 4 * number + 4] if number < 5 else test["image"]
        # A row is the red plane, the green one, the blue one, each row by row.
        np.testing.assert_array_equal(images[..., 0].reshape(4, -1), rows[:, :1024])
        np.testing.assert_array_equal(images[..., 2].reshape(4, -1), rows[:, 2048:])
    assert train.source == Source("cifar10", "1.0.0", "train", "official", 20)
    assert train.classes[:2] == ("airplane", "automobile")


EXPECTED = "expected the batches for Python, data_batch_1 to data_batch_5 and test_batch, each a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; " + EXPECTED),
        (b"", "no whole pickle.*; " + EXPECTED),
        (pickle.dumps(batch(0), 3)[:-100], "no whole pickle.*; " + EXPECTED),
        (pickle.dumps([1, 2], 3), "a list without `data` and `labels`; " + EXPECTED),
        (pickle.dumps(batch(0, labels=None), 3), "a dict without `labels`; " + EXPECTED),
        (pickle.dumps(batch(0, data=None), 3), "a dict without `data`; " + EXPECTED),
        (pickle.dumps(batch(0, data=[1, 2]), 3), "`data` is a list; " + EXPECTED),
        (
            pickle.dumps(batch(0, data=np.zeros((4, 3073), np.uint8)), 3),
            r"`data` is \[4, 3073\]; " + EXPECTED,
        ),
        (
            pickle.dumps(batch(0, data=np.zeros((0, 3072), np.uint8)), 3),
            r"`data` is \[0, 3072\]; " + EXPECTED,
        ),
        (
            pickle.dumps(batch(0, data=np.zeros((4, 3072))), 3),
            "an array of 'f8', expected bytes; exp",
        ),
        (pickle.dumps(batch(0, labels=[1, 2, 3]), 3), "3 labels; expected 4, one an image"),
        (pickle.dumps(batch(0, labels=b"1234"), 3), "`labels` is a bytes; " + EXPECTED),
        (pickle.dumps(batch(0, labels=[1, 2, 10, 4]), 3), "label 10 of example 2; expected 0 to 9"),
        (pickle.dumps(batch(0, labels=[1, -2, 1, 4]), 3), "label -2 of example 1; expected 0 to 9"),
        (pickle.dumps(batch(0, labels=[1, 2, "3", 4]), 3), "label '3' of example 2; expected 0 to"),
        (pickle.dumps(batch(0, labels=[True] * 4), 3), "label True of example 0; expected 0 to 9"),
    ],
)
def test_bad_batches(tmp_path, content, message):
    path = write(tmp_path / "cifar10", batches(data_batch_3=content)) / FOLDER
    with (
        data.looking(tmp_path, imitations=True),  # an imitation must not hide it
        pytest.raises(DataError, match=message) as error,
    ):
        data.load("cifar10", "train")
    assert str(error.value).startswith(f"{path / 'data_batch_3'}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "prepared" / "cifar10").exists()


def test_a_batch_that_runs_a_command_is_refused(tmp_path):
    mark = tmp_path / "mark"
    command = f"touch {mark}".encode()
    attack = b"\x80\x02cos\nsystem\nU" + bytes([len(command)]) + command + b"\x85R."
    write(tmp_path / "cifar10", batches(test_batch=attack))
    with (
        data.looking(tmp_path),
        pytest.raises(DataError, match=r"test_batch: it asks for 'os.system'"),
    ):
        data.load("cifar10", "train")
    assert not mark.exists()


def test_a_cut_archive(tmp_path):
    path = write(tmp_path / "cifar-10-python.tar.gz", batches())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"gz.*: cannot be read .*; " + EXPECTED):
        cifar10.images_and_labels(path)


def test_another_archive_under_the_name(tmp_path):
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("data_batch_1.bin"), io.BytesIO())  # that for C
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz/data_batch_1: missing; expected"):
        cifar10.images_and_labels(tmp_path / "cifar-10-python.tar.gz")


def test_the_imitation_shows_shapes(tmp_path):
    cifar10.imitate(tmp_path)
    splits = cifar10.images_and_labels(tmp_path / "cifar-10-batches-py")
    images, labels = splits["train"]
    assert np.bincount(labels).tolist() == [100] * 10
    assert np.bincount(splits["test"][1]).tolist() == [20] * 10
    for index in (0, 1, 205, 999):
        scene = shapes.scene(0, index)
        np.testing.assert_array_equal(images[index], scene.image)
        assert labels[index] == scene.label
