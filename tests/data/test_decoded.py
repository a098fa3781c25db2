"""Decoded arrays: found by the examples that they are of, wherever the prepared sets stand."""

import errno
import os
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxstruct import data
from jaxstruct.data import DataError, on_disk, places
from tests.data.test_sources import users_set
from tests.data.written import image, write


@pytest.fixture
def pets(tmp_path):
    """A function that prepares own images of two splits, of which it is given the first letters."""

    def prepare(letter="a", splits=("train", "test")):
        images = {
            f"{split}/{c}/{letter}{i}.png": image(10 * i + ord(letter))
            for i, split in enumerate(splits)
            for c in ("cat", "dog")
        }
        shutil.rmtree(tmp_path / "images", ignore_errors=True)
        return data.prepare_folder("pets", write(tmp_path / "images", images), size=8).path

    return prepare


def kept(root):
    """The folders of arrays below a folder of prepared sets: SET/SPLIT."""
    found = [path.parent for path in sorted((root / "decoded").rglob("keys.json"))]
    return [path.parent.relative_to(root / "decoded").as_posix() for path in found]


def test_a_copy_elsewhere_with_other_dates_has_them(pets, tmp_path, monkeypatch):
    path = pets()
    before = data.load("pets", "train+test")["image"].copy()
    copy = shutil.copytree(places.prepared_root(), tmp_path / "copy")
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
    shutil.rmtree(path)
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(copy))
    monkeypatch.setattr(tfds, "builder_from_directory", None)  # nothing is decoded
    np.testing.assert_array_equal(data.load("pets", "train+test")["image"], before)
    assert kept(copy) == ["pets-1.0.0-user/test", "pets-1.0.0-user/train"]


def test_the_same_examples_keep_them_and_others_do_not(pets):
    root = pets().parents[2]
    first = data.load("pets", "train")["image"]
    data.load("pets", "test")
    (file,) = root.glob("decoded/*/train/*/image.npy")
    number = file.stat().st_ino
    pets()
    np.testing.assert_array_equal(data.load("pets", "train")["image"], first)
    assert file.stat().st_ino == number
    pets("b", splits=["train"])
    assert (data.load("pets", "train")["image"] != first).any()
    assert not file.exists()
    assert kept(root) == ["pets-1.0.0-user/train"]  # the other split is no more


def test_sets_of_one_name_keep_theirs_beside_each_other(data_dir, monkeypatch):
    for _ in range(2):
        with data.looking(data_dir):
            data.load("mnist", "train")
        shutil.rmtree(places.prepared_root() / "mnist")
        with data.looking(imitations=True):
            data.load("mnist", "train")
        monkeypatch.setattr(data.decoded, "write", None)  # the second time both are there
    there = [f"mnist-1.0.0-{origin}/train" for origin in ("imitation", "official")]
    assert kept(places.prepared_root()) == there


def test_a_users_set_is_named_without_slashes(tmp_path):
    from tests.data.test_sources import Shapes

    class Flat(Shapes, skip_registration=True):
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="small"),)

        def _info(self):
            features = {"point": tfds.features.Tensor(shape=(2,), dtype=np.float32)}
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _generate_examples(self, size, grow=0):
            for i in range(size):
                yield i, {"point": np.array([i, 1], np.float32)}

    Flat(data_dir=tmp_path / "tfds", file_format="array_record").download_and_prepare()
    assert data.load("flat/small:2.1.0", "train").size == 4
    assert kept(places.prepared_root()) == ["flat-small-2.1.0-user/train"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("where", ["the root", "the folder of the set"])
def test_where_they_cannot_be_kept_they_are_in_memory(pets, monkeypatch, number, where):
    root = pets().parents[2]
    expected = data.load("pets", "train")["image"].copy()
    shutil.rmtree(root / "decoded")

    def refuse(path=None, *_, **options):
        raise OSError(number, os.strerror(number), str(path or options["dir"]))

    with monkeypatch.context() as patch:
        if where == "the root":
            patch.setattr(places.tempfile, "TemporaryDirectory", refuse)
        else:
            make = places.Path.mkdir
            choose = lambda path, *a, **o: (refuse if "decoded" in path.parts else make)(
                path, *a, **o
            )
            patch.setattr(places.Path, "mkdir", choose)
        found = data.load("pets", "train")
    np.testing.assert_array_equal(found["image"], expected)
    with pytest.raises(ValueError, match="read-only"):
        found["image"][0] = 0
    assert not (root / "decoded").exists()
    assert not [*root.glob(".unfinished*")]


def test_a_folder_that_cannot_be_made_is_one_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        if path == tmp_path / "a":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr(os, "mkdir", lambda path, *_: refuse(places.Path(path)))
    message = rf"^{tmp_path}/a/b: cannot be written \(Read-only file system\); expected a folder"
    with pytest.raises(places.NotWritable, match=message), places.workshop(tmp_path / "a" / "b"):
        pass


def test_examples_are_read_once_for_their_digest(pets, monkeypatch):
    path = pets()
    found = on_disk.digest(path, "train")
    with monkeypatch.context() as patch:
        patch.setattr(on_disk.hashlib, "file_digest", None)
        assert on_disk.digest(path, "train") == found
    pets("b")
    assert on_disk.digest(path, "train") != found


def test_arrays_of_a_set_that_is_prepared_again_meanwhile_are_not_kept(pets, monkeypatch):
    root = pets().parents[2]
    decode = data.sources._decode

    def replaced(prepared, split):
        found = decode(prepared, split)
        pets("b")
        return found

    monkeypatch.setattr(data.sources, "_decode", replaced)
    data.load("pets", "train")
    assert kept(root) == []


def test_a_set_whose_examples_are_not_there_is_damaged(tmp_path):
    users_set(tmp_path / "tfds", file_format="array_record")
    path = data.open_reader("shapes", "train").prepared.path
    for file in path.glob("*array_record*"):
        file.unlink()
    for read in (data.load, data.open_reader):
        with pytest.raises(DataError, match=r"shapes/2\.1\.0: damaged"):
            read("shapes", "train")
