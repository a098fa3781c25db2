"""Proposals of a prepared set: searched once, read with its examples."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError, on_disk, proposals
from tests.data.cells import EVERY, KIND, SIZES, assert_equal, images
from tests.data.test_proposal_files import file_of


def test_proposals_of_each_image_are_stored_and_read(stored_in, capsys):
    stored = data.propose("cells", mode="quality", width=24)
    expected = {s: [data.selective_search(x, mode="quality", width=24) for x in images(s)]
                for s in SIZES}  # fmt: skip
    assert (stored.name, stored.kind) == ("cells", "selective_search-quality-24")
    assert (stored.path, stored.splits) == (stored_in / stored.kind, SIZES)
    assert stored.boxes == np.mean([len(boxes) for s in SIZES for boxes in expected[s]])
    assert 0 < stored.seconds < 10
    for split, size in SIZES.items():
        plain = data.open_reader("cells", split)
        reader = data.with_proposals(plain, stored.kind)
        read = reader(EVERY[:size])
        assert_equal(read.pop("proposals"), expected[split])
        assert {*read} == {*plain.keys}
        assert reader.keys == (*plain.keys, "proposals")
        assert (reader.size, reader.classes, reader.source, reader.absent) == (
            *(size, ("dot", "ring"), plain.source, False),
        )
        assert [boxes.tolist() for boxes in read["boxes"]] == [
            boxes.tolist() for boxes in plain(EVERY[:size])["boxes"]
        ]
    assert capsys.readouterr().err == ""  # of work that is short


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[1:3]", [("train", 1), ("train", 2)]),
        ("train[:25%]", [("train", 0)]),
        ("val+train", [*(("val", i) for i in range(3)), *(("train", i) for i in range(4))]),
        ("train[-1:]+val[:1]+train[:1]", [("train", 3), ("val", 0), ("train", 0)]),
    ],
)
def test_slices_and_sums_have_the_proposals_of_their_images(cells, split, expected):
    data.propose("cells", width=24)
    reader = data.with_proposals(data.open_reader("cells", split), KIND)
    pixels = {s: images(s) for s in SIZES}
    read = reader(np.arange(reader.size))
    assert reader.size == len(expected)
    for one, boxes, (part, index) in zip(read["image"], read["proposals"], expected, strict=True):
        np.testing.assert_array_equal(one, pixels[part][index])
        assert_equal([boxes], [data.selective_search(pixels[part][index], width=24)])
    # In any order, and more than once.
    last = reader.size - 1
    assert_equal(reader(np.array([last, 0, last]))["proposals"],
                 [read["proposals"][i] for i in (last, 0, last)])  # fmt: skip
    for bad, kind in (([-1], IndexError), ([reader.size], IndexError), ([0.5], TypeError)):
        with pytest.raises(kind):
            reader(np.array(bad))


def test_a_reader_with_proposals_pickles_and_keeps_them_as_they_are(cells, searches):
    data.propose("cells", "val", width=24)
    reader = data.with_proposals(data.open_reader("cells", "val"), KIND)
    pickled = pickle.dumps(reader)
    (data.places.prepared_root() / "proposals").rename(data.places.prepared_root() / "aside")
    again = pickle.loads(pickled)  # with what was found
    read = reader(EVERY[:3])["proposals"]
    assert_equal(again(EVERY[:3])["proposals"], read)
    assert len(searches) == SIZES["val"]
    with pytest.raises(ValueError, match="read-only"):
        read[0][0] = 0


def test_an_imitation_has_its_own(monkeypatch):
    with data.looking(imitations=True):
        reader = data.open_reader("bccd", "test[:2]")
        with pytest.raises(DataError, match=r"propose bccd --split test .* --imitations$"):
            data.with_proposals(reader, "mine").ready()
        stored = data.propose("bccd", ["test"], width=24)
    assert stored.path.is_relative_to(data.places.imitations_root())
    assert len(data.with_proposals(reader, KIND)(EVERY[:2])["proposals"]) == 2


def test_a_set_that_is_absent_stays_absent(cells, monkeypatch, tmp_path):
    record = data.open_reader("cells", "train").source.record
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "empty"))
    with data.recorded([record]):
        reader = data.with_proposals(data.open_reader("cells", "val+train"), KIND)
        with pytest.raises(DataError, match=r"cells: not found|no data set 'cells'"):
            data.propose("cells")
    assert (reader.absent, reader.size, reader.keys[-1]) == (True, 7, "proposals")
    with pytest.raises(DataError, match=r"cells: the set of this run .* is not on this machine"):
        reader(EVERY)


def test_missing_ones_are_searched_once(cells, searches, capsys):
    data.propose("cells", ["train"], width=24)
    searches.clear()
    both = data.with_proposals(data.open_reader("cells", "train+val[:1]"), KIND)
    assert searches == []  # nothing is read yet
    assert capsys.readouterr().err == ""
    both.ready()
    assert len(searches) == SIZES["val"]
    assert f"cells: searching proposals {KIND} (once)" in capsys.readouterr().err
    assert both.size == 5
    found = both(np.array([4]))["proposals"][0]
    np.testing.assert_array_equal(found, data.selective_search(images("val")[0], width=24))
    again = data.with_proposals(data.open_reader("cells", "val"), KIND)
    assert len(searches) == SIZES["val"]
    assert again.seconds > 0
    assert "searching" not in capsys.readouterr().err


def test_threads_that_read_first_search_once(cells, searches):
    readers = [data.with_proposals(data.open_reader("cells", "val"), KIND) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda i: readers[i % 2](EVERY[:3])["proposals"], range(16))]
    for boxes in found:
        assert_equal(boxes, found[0])
    assert len(searches) == SIZES["val"]


def test_the_set_that_was_opened_is_searched_wherever_one_looks_now(searches):
    with data.looking(imitations=True):
        reader = data.with_proposals(data.open_reader("bccd", "test[:2]"), KIND)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: reader.seconds).result() > 0
    assert len(searches) == reader.prepared.splits["test"]


def test_a_search_by_the_options_of_a_kind(cells):
    image = images("train")[0]
    for kind, options in (
        (KIND, {"width": 24}),
        ("selective_search-quality-full", {"mode": "quality", "width": None}),
    ):
        expected = data.selective_search(image, **options)
        np.testing.assert_array_equal(data.searched(kind, image), expected)
    with pytest.raises(ValueError, match="proposals 'mine' are a user's own, and of no other imag"):
        data.searched("mine", image)


@pytest.mark.parametrize("splits", [["train", "nix"], ["train[:2]"], "nix"])
def test_splits_are_whole(cells, splits):
    with pytest.raises(
        DataError, match=r"cells: no split '(nix|train\[:2\])' as a whole; expected"
    ):
        data.propose("cells", splits)


@pytest.mark.parametrize("options", [{"mode": "slow"}, {"width": 0}, {"workers": 0}])
def test_options_that_make_no_sense(cells, options):
    with pytest.raises(ValueError, match=r"slow|width 0|workers"):
        data.propose("cells", **options)


def test_grey_images_are_searched_and_sets_without_are_refused(data_dir, monkeypatch):
    with data.looking(data_dir):
        stored = data.propose("mnist", ["test"])
        reader = data.with_proposals(data.open_reader("mnist", "test"), stored.kind)
        assert len(reader(np.arange(5))["proposals"]) == 5
        with pytest.raises(DataError, match="mnist: its examples have no name, but image, label"):
            data.keep_proposals("mnist", file_of(data_dir / "x.npz", a=[[0, 0, 1, 1]]), "mine")


def test_examples_with_proposals_get_no_others(cells):
    data.propose("cells", ["val"], width=24)
    reader = data.with_proposals(data.open_reader("cells", "val"), KIND)
    with pytest.raises(
        ValueError, match="cells has `proposals` of its own, expected a set without"
    ):
        data.with_proposals(reader, KIND)


def test_the_mean_time_is_of_an_image():
    assert data.proposals._mean_seconds([(1.0, 1), (4.0, 2)]) == 3
    assert data.proposals._mean_seconds([(1.0, 1), (None, 2)]) is None
    assert data.proposals._mean_seconds([(1.0, 0)]) is None


@pytest.fixture
def interrupted(stored_in, searches, monkeypatch):
    """A search of the four images in parts of one, which ended in the third image."""
    monkeypatch.setattr(proposals, "PART", 1)
    search = proposals.selective_search

    def ends(image, **options):
        if np.array_equal(image, third):
            raise KeyboardInterrupt
        return search(image, **options)

    third = images("train")[2]
    monkeypatch.setattr(proposals, "selective_search", ends)
    with pytest.raises(KeyboardInterrupt):
        data.propose("cells", ["train"], width=24, workers=1)
    monkeypatch.setattr(proposals, "selective_search", search)
    searches.clear()
    return stored_in / KIND


def test_an_interrupted_search_goes_on(interrupted, searches, capsys, monkeypatch):
    parts = {"train.part-0.npz", "train.part-1.npz"}
    assert {path.name for path in interrupted.iterdir()} == parts
    told = []
    monkeypatch.setattr(
        proposals, "progress", lambda what, size: nullcontext(lambda: told.append(size))
    )
    stored = data.propose("cells", ["train"], width=24)
    assert told == [2, 2]
    assert len(searches) == 2
    assert "cells, train: 2 images were searched before" in capsys.readouterr().err
    read = data.with_proposals(data.open_reader("cells", "train"), KIND)(EVERY)["proposals"]
    assert_equal(read, [data.selective_search(image, width=24) for image in images("train")])
    assert stored.seconds > 0
    assert {path.name for path in interrupted.iterdir()} == {"train.npz"}


def test_a_damaged_part_is_searched_again(interrupted, searches):
    (interrupted / "train.part-0.npz").write_bytes(b"damaged")
    data.propose("cells", ["train"], width=24)
    assert len(searches) == 3


def test_parts_of_another_opencv_are_searched_again(interrupted, searches, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "__version__", "another")
    data.propose("cells", ["train"], width=24)
    assert len(searches) == 4


def test_parts_of_other_images_are_searched_again(interrupted, searches, monkeypatch):
    monkeypatch.setattr(on_disk, "digest", lambda *of: "of other images")
    data.propose("cells", ["train"], width=24)
    assert len(searches) == 4


@pytest.mark.parametrize("kind", ["selective_search-fast", "selective_search-slow-320"])
def test_a_slip_of_the_pen_in_a_kind_is_one_line(cells, kind):
    expected = "expected a mode and a width, such as selective_search-fast-320"
    with pytest.raises(ValueError, match=expected):
        data.with_proposals(data.open_reader("cells", "train"), kind)
