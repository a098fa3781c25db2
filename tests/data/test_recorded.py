"""Sets that are known by what a run wrote down of them."""

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError


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
