"""Examples, slices, readers, and sets that the user prepared with TFDS."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxstruct import data
from jaxstruct.data import DataError, Examples
from jaxstruct.data.image_files import png


def test_examples_are_a_mapping():
    source = data.Source("x", "1.0.0", "train", "user", 3)
    examples = Examples({"image": np.zeros((3, 2, 2, 1)), "label": np.array([5, 6, 7])}, source)
    assert (examples.size, len(examples), list(examples)) == (3, 2, ["image", "label"])
    assert set(dict(examples)) == {"image", "label"}
    taken = examples.take([2, 0])
    assert taken["label"].tolist() == [7, 5]
    assert (taken.size, taken.source) == (2, source)
    only = examples.only("label")
    assert (list(only), only.source) == (["label"], source)
    named = Examples(dict(examples), source, ["cat", "dog"])
    assert named.classes == named.take([1]).classes == named.only("label").classes == ("cat", "dog")
    assert "cat, dog" in repr(named)
    assert (examples.classes, "classes" in repr(examples)) == ((), False)
    with pytest.raises(KeyError):
        examples.only("mask")
    with pytest.raises(ValueError, match="lengths"):
        Examples({"image": np.zeros(3), "label": np.zeros(2)})


def test_examples_that_are_held_out_are_the_last_or_drawn_from_a_seed():
    examples = Examples({"label": np.arange(10)}, classes=["a"])
    rest, held = examples.hold_out(3)
    assert (rest["label"].tolist(), held["label"].tolist()) == ([*range(7)], [7, 8, 9])
    assert rest.classes == held.classes == ("a",)
    rest, held = examples.hold_out(3, seed=1)
    order = np.random.default_rng(1).permutation(10)
    np.testing.assert_array_equal(np.r_[rest["label"], held["label"]], order)
    assert held.size == 3
    for count in (0, -1, 10):
        with pytest.raises(ValueError, match=f"got count={count}, expected 1 to 9"):
            examples.hold_out(count)


@pytest.mark.parametrize(("count", "found"), [(1, [0]), (3, [0, 4, 9]), (12, [*range(10)])])
def test_examples_are_spread_from_the_first_to_the_last(count, found):
    assert Examples({"label": np.arange(10)}).spread(count)["label"].tolist() == found


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[:50%]", range(6)),
        ("train[3:7]", range(3, 7)),
        ("train[-2:]", range(10, 12)),
        ("train[25%:50%]", range(3, 6)),
        ("test+train[:2]", [*range(5), 0, 1]),
        ("train[:1]+train[4:5]", [0, 4]),
    ],
)
def test_slices_are_those_of_the_official_order(data_dir, split, expected):
    labels = [i % 10 for i in expected]  # as write_mnist numbers them
    with data.looking(data_dir):
        examples, reader = data.load("mnist", split), data.open_reader("mnist", split)
    assert examples["label"].tolist() == labels
    assert examples.source == reader.source
    assert examples.source == data.Source("mnist", "1.0.0", split, "official", len(labels))
    read = reader(np.arange(reader.size))
    assert read["label"].tolist() == labels
    np.testing.assert_array_equal(read["image"], examples["image"])


@pytest.mark.parametrize("split", ["valid", "train[", "train[:50%", "", "train[:x]"])
def test_no_such_split(data_dir, split):
    with data.looking(data_dir):
        for read in (data.load, data.open_reader):
            with pytest.raises(DataError, match=r"mnist: no split .* expected one of train, test"):
                read("mnist", split)


def test_reader_in_threads_and_pickled(data_dir):
    with data.looking(data_dir):
        whole, reader = data.load("mnist", "train"), data.open_reader("mnist", "train")
    assert set(reader.keys) == {"image", "label"}
    assert reader.size == 12
    assert not reader.absent
    assert reader.prepared.path == data.places.prepared_root() / "mnist" / "1.0.0"
    again = pickle.loads(pickle.dumps(reader))
    draws = [np.random.default_rng(i).integers(0, 12, 8) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(again, draws))
    for draw, batch in zip(draws, batches, strict=True):
        np.testing.assert_array_equal(batch["image"], whole["image"][draw])
        np.testing.assert_array_equal(batch["label"], whole["label"][draw])
        assert batch["label"].dtype == np.int32
    with pytest.raises(IndexError, match="3 to 12; expected 0 to 11"):
        reader(np.array([3, 12]))
    with pytest.raises(IndexError, match="-1 to 3"):
        reader(np.array([3, -1]))
    with pytest.raises(TypeError, match="expected integers"):
        reader(np.array([0.5]))


def test_a_key_that_is_left_out_is_not_decoded(data_dir, monkeypatch):
    with data.looking(data_dir):
        labels = data.load("mnist", "train")["label"]

        def decode(*given, **options):
            raise AssertionError("an image was decoded")

        monkeypatch.setattr(tfds.features.Image, "decode_example", decode)
        monkeypatch.setattr(tfds.features.Image, "decode_example_np", decode)
        reader = data.open_reader("mnist", "train", without=("image",))
        assert reader.keys == ("label",)
        read = reader(np.arange(12))
        assert [*read] == ["label"]
        np.testing.assert_array_equal(read["label"], labels)
        with pytest.raises(DataError, match="an image was decoded"):
            data.open_reader("mnist", "train")(np.arange(1))


def test_loaded_arrays_are_read_only_and_cached(data_dir, monkeypatch):
    with data.looking(data_dir):
        first = data.load("mnist", "train")
        monkeypatch.setattr(tfds, "builder_from_directory", None)  # TFDS is not needed again
        second = data.load("mnist", "train")
    np.testing.assert_array_equal(first["image"], second["image"])
    with pytest.raises(ValueError, match="read-only"):
        second["image"][0] = 0


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What a user might have: images of varying size, text, a vector, boxes; two splits."""

    VERSION = tfds.core.Version("2.1.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(num_classes=3),
                    "name": tfds.features.Text(),
                    "area": np.float32,
                    "point": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                    "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "even": self._generate_examples(4, 0)}

    def _generate_examples(self, size, grow=1):
        for i in range(size):
            box = tfds.features.BBox(0.0, 0.0, 0.5, 1.0)
            yield (
                i,
                {
                    "image": png(np.full((4 + grow * i, 5, 3), i, np.uint8)),
                    "label": i % 3,
                    "name": "x" * (i + 1),
                    "area": i / 2,
                    "point": np.array([i, 1], np.float32),
                    "objects": {"bbox": [box] * i},
                },
            )


def users_set(root, **options):
    Shapes(data_dir=root, **options).download_and_prepare()


def test_a_users_set_by_name(tmp_path):
    users_set(tmp_path / "tfds", file_format="array_record")
    reader = data.open_reader("shapes", "train[:50%]+train[50%:]")
    assert reader.source.origin == "user"
    assert (reader.source.version, reader.size) == ("2.1.0", 4)
    batch = reader(np.arange(4))
    assert isinstance(batch["image"], list)
    for image, area, name in zip(batch["image"], batch["area"], batch["name"], strict=True):
        assert image.shape == (4 + 2 * area, 5, 3)
        assert name == b"x" * int(2 * area + 1)
    assert batch["area"].dtype == np.float32
    assert batch["label"].dtype == np.int32
    assert batch["point"].shape == (4, 2)
    with pytest.raises(DataError, match=r"`\w+` differs in shape.*open_reader"):
        data.load("shapes", "train")
    assert [row["origin"] for row in data.where() if row["name"] == "shapes"] == ["user"]
    assert {path.name for path in (tmp_path / "tfds").iterdir()} == {"shapes", "downloads"}


def test_a_users_mnist_stands_in_for_ours(tmp_path):
    class Mnist(Shapes, skip_registration=True):
        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(4, 5, 3)),
                "label": tfds.features.ClassLabel(num_classes=3),
                "name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _generate_examples(self, size, grow=0):
            for key, example in super()._generate_examples(size, 0):
                yield key, {name: example[name] for name in ("image", "label", "name")}

    Mnist(data_dir=tmp_path / "tfds", file_format="array_record").download_and_prepare()
    with data.looking(imitations=True):
        examples = data.load("mnist", "train")
    assert examples.source == data.Source("mnist", "2.1.0", "train", "user", 4)
    assert examples["image"].shape == (4, 4, 5, 3)
    assert sorted(examples["name"].tolist()) == [b"x", b"xx", b"xxx", b"xxxx"]
    assert examples["label"].dtype == np.int32


def test_a_users_set_in_another_format(tmp_path):
    users_set(tmp_path / "tfds", file_format="parquet")
    with pytest.raises(DataError, match="prepared as parquet; expected array_record"):
        data.load("shapes", "train")
    assert [row["path"] for row in data.where() if row["name"] == "shapes"] == [None]
