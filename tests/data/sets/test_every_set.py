"""What holds of every set: how its imitation is written, prepared and read, what errors say."""

import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError

IMITATED = [name for name, entry in CATALOGUE.items() if entry.imitate]
BY_HAND = [name for name, entry in CATALOGUE.items() if entry.by_hand]


@pytest.mark.parametrize("name", IMITATED)
def test_an_imitation_is_the_same_every_time(tmp_path, name):
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        CATALOGUE[name].imitate(folder)
        read = {
            # MATLAB's header has the date.
            path.relative_to(folder): path.read_bytes()[128 if path.suffix == ".mat" else 0 :]
            for path in folder.rglob("*")
            if path.is_file()
        }
        written.append(read)
    assert written[0] == written[1]


@pytest.mark.parametrize("name", IMITATED)
def test_an_imitation_is_prepared_as_the_set_is(name):
    entry = CATALOGUE[name]
    with data.looking(imitations=True):
        reader = data.open_reader(name, "train")
        columns = reader(np.arange(reader.size))
        if all(isinstance(values, np.ndarray) for values in columns.values()):
            examples = data.load(name, "train")
            assert examples.source == reader.source
            for key, values in columns.items():
                np.testing.assert_array_equal(examples[key], values)
    assert reader.source.origin == "imitation"
    assert reader.classes == entry.classes
    assert 0 < reader.size <= 2000  # of a real set it has the layout, not the size
    features = entry.features(tfds.features)
    assert set(columns) == set(features)
    for image in columns["image"]:
        pairs = zip(image.shape, features["image"].shape, strict=True)
        assert all(declared in (None, length) for length, declared in pairs)
    assert len({image.tobytes() for image in columns["image"]}) > 0.95 * reader.size


@pytest.mark.parametrize("name", BY_HAND)
def test_what_cannot_be_downloaded_says_where_it_is(name, tmp_path):
    where = re.escape(CATALOGUE[name].by_hand)
    for call in (lambda: data.load(name, "train"), lambda: data.prepare(name)):
        with pytest.raises(DataError, match=f"not found; looked for .*{where}") as error:
            call()
        assert "prepare" not in str(error.value).split("TFDS")[1]
    assert not (tmp_path / "prepared" / "downloads").exists()
