"""Sets that are known by what a run wrote down of them."""

import dataclasses

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError
from jaxstruct.data.recorded import absent
from tests.data.written import image, write


@pytest.fixture
def record(data_dir, tmp_path, monkeypatch):
    """Of a set whose prepared files are gone; its raw ones are in `data_dir`."""
    with monkeypatch.context() as patch, data.looking(data_dir):
        patch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "gone"))
        return data.load("mnist", "train").source.record


def test_a_recorded_set_has_shapes_slices_and_classes_without_its_files(record):
    assert (record.splits, record.classes) == ({"train": 12, "test": 5}, tuple("0123456789"))
    with data.looking("/nowhere"), data.recorded([record]):
        examples = data.load("mnist", "train[:50%]+test")
        reader = data.open_reader("mnist", "test")
    assert examples.source == data.Source("mnist", "1.0.0", "train[:50%]+test", "official", 11)
    assert (examples["image"].shape, examples["image"].dtype) == ((11, 28, 28, 1), np.uint8)
    assert (examples["label"].shape, examples["label"].dtype) == ((11,), np.int32)
    assert (reader.size, reader.keys, reader.absent) == (5, ("image", "label"), True)
    assert reader.prepared is None
    message = "mnist: the set of this run .* is not on this machine"
    for use in (
        lambda: np.asarray(examples["image"]),
        lambda: examples["image"][0],
        lambda: examples["label"].sum(),
        lambda: examples["label"] == 3,
        lambda: examples["image"] / 255,
        lambda: reader(np.arange(2)),
    ):
        with pytest.raises(DataError, match=message):
            use()
    with data.looking("/nowhere"), pytest.raises(DataError, match="mnist: not found"):
        data.load("mnist", "train")
    with data.recorded([record]), pytest.raises(DataError, match="no split 'valid'"):
        data.load("mnist", "valid")


def test_a_recorded_set_that_is_there_is_read(record, data_dir):
    with data.looking(data_dir), data.recorded([record]):
        assert data.load("mnist", "test")["label"].tolist() == [0, 1, 2, 3, 4]


def pets(tmp_path, *classes, splits=("train",)):
    """Own images of the same number in each class, prepared."""
    names = [f"{split}/{name}/a.png" for split in splits for name in classes]
    root = tmp_path / "_".join([*classes, *splits])
    data.prepare_folder("pets", write(root, {name: image() for name in names}), size=8)
    return data.load("pets", "train").source.record


def test_a_set_whose_classes_have_other_names_is_absent(tmp_path):
    record = pets(tmp_path, "cat", "dog")
    pets(tmp_path, "dog", "wildcat")
    with data.recorded([record]):
        reader = data.open_reader("pets", "train")
        assert (reader.absent, reader.classes) == (True, ("cat", "dog"))
        assert data.load("pets", "train").classes == ("cat", "dog")
        about = r"user, version 1\.0\.0: train of 2; classes cat, dog"
        with pytest.raises(DataError, match=rf"pets: the set of this run \({about}\) is not on"):
            reader(np.arange(1))
    many = dataclasses.replace(record, classes=tuple("abcdefgh"))
    assert "; classes a, b, c, d, e and 3 more) is not" in str(absent(many))


def test_a_set_that_has_a_further_split_is_read(tmp_path):
    record = pets(tmp_path, "cat", "dog")
    both = pets(tmp_path, "cat", "dog", splits=("train", "test"))
    with data.recorded([record]):
        assert not data.open_reader("pets", "train").absent
    pets(tmp_path, "cat", "dog")
    with data.recorded([both]):  # but not one that lacks a split
        assert data.open_reader("pets", "train").absent
    with data.recorded([dataclasses.replace(record, splits={"train": 3})]):
        assert data.open_reader("pets", "train").absent
