"""Proposals of a prepared set: searched once, stored beside it, read with its examples."""

import errno
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxstruct import data
from jaxstruct.data import DataError, proposals
from jaxstruct.data.sets._scenes import imitate_voc
from tests.data.test_proposal_files import NAMES, UNIT, file_of, npz

KIND = "selective_search-fast-24"
SIZES = {"train": 4, "val": 3}
EVERY = np.arange(4)


@pytest.fixture
def raw(tmp_path):
    """Images of 30 x 40 and 40 x 30 in PASCAL VOC's layout, prepared as `cells`."""
    folder = tmp_path / "raw"
    folder.mkdir()
    lists = {f"Main/{split}": size for split, size in SIZES.items()}
    imitate_voc(folder, classes=("dot", "ring"), size=(30, 40), lists=lists)
    data.prepare_folder("cells", folder)
    return folder


@pytest.fixture
def folder(raw):
    """Where proposals of `cells` are stored."""
    return data.places.prepared_root() / "proposals" / "cells"


@pytest.fixture
def searches(monkeypatch):
    """The options of all searches to come."""
    found = []

    def search(image, **options):
        found.append(options)
        return data.selective_search(image, **options)

    monkeypatch.setattr(proposals, "selective_search", search)
    return found


def images(split):
    return data.open_reader("cells", split)(np.arange(SIZES[split]))["image"]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_proposals_of_each_image_are_stored_and_read(folder, capsys):
    stored = data.propose("cells", mode="quality", width=24)
    expected = {s: [data.selective_search(x, mode="quality", width=24) for x in images(s)]
                for s in SIZES}  # fmt: skip
    assert (stored.name, stored.kind) == ("cells", "selective_search-quality-24")
    assert (stored.path, stored.splits) == (folder / stored.kind, SIZES)
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


def test_what_is_stored_are_arrays_and_a_record(folder):
    import cv2

    data.propose("cells", ["val"], width=None)
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    assert path == folder / "selective_search-fast-full" / "val.npz"
    stored = np.load(path)
    assert stored["boxes"].dtype == np.float32
    assert stored["boxes"].shape == (stored["counts"].sum(), 4)
    assert len(stored["counts"]) == SIZES["val"]
    record = json.loads(str(stored["record"]))
    assert record["set"] == "cells"
    assert (record["split"], record["mode"], record["width"]) == ("val", "fast", None)
    assert (record["opencv"], record["version"]) == (cv2.__version__, "1.0.0")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[1:3]", [("train", 1), ("train", 2)]),
        ("train[:25%]", [("train", 0)]),
        ("val+train", [*(("val", i) for i in range(3)), *(("train", i) for i in range(4))]),
        ("train[-1:]+val[:1]+train[:1]", [("train", 3), ("val", 0), ("train", 0)]),
    ],
)
def test_slices_and_sums_have_the_proposals_of_their_images(raw, split, expected):
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


def test_a_reader_with_proposals_pickles_and_keeps_them_as_they_are(raw, searches):
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


def test_what_is_done_is_not_done_again(raw, searches):
    data.propose("cells", ["train"], width=24)
    first = data.propose("cells", ["train"], width=24)
    assert len(searches) == 4
    both = data.propose("cells", ["val", "train", "val"], width=24, workers=1)
    assert len(searches) == 7
    assert (first.splits, both.splits) == ({"train": 4}, {"val": 3, "train": 4})
    assert both.boxes == data.propose("cells", width=24).boxes
    data.propose("cells", ["train"], width=25)
    assert searches[-1] == {"mode": "fast", "width": 25}


def test_an_imitation_has_its_own(monkeypatch):
    with data.looking(imitations=True):
        reader = data.open_reader("bccd", "test[:2]")
        with pytest.raises(DataError, match=r"propose bccd --split test .* --imitations$"):
            data.with_proposals(reader, "mine").ready()
        stored = data.propose("bccd", ["test"], width=24)
    assert stored.path.is_relative_to(data.places.imitations_root())
    assert len(data.with_proposals(reader, KIND)(EVERY[:2])["proposals"]) == 2


def test_a_set_that_is_absent_stays_absent(raw, monkeypatch, tmp_path):
    record = data.open_reader("cells", "train").source.record
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "empty"))
    with data.recorded([record]):
        reader = data.with_proposals(data.open_reader("cells", "val+train"), KIND)
        with pytest.raises(DataError, match=r"cells: not found|no data set 'cells'"):
            data.propose("cells")
    assert (reader.absent, reader.size, reader.keys[-1]) == (True, 7, "proposals")
    with pytest.raises(DataError, match=r"cells: the set of this run .* is not on this machine"):
        reader(EVERY)


def test_missing_ones_of_a_users_own_are_named_with_the_command_that_makes_them(raw, folder):
    train = data.open_reader("cells", "train")
    expected = (
        f"{folder / 'mine' / 'train.npz'}: missing; expected the proposals mine of cells, train; "
    )
    command = "make them with: python -m jaxstruct.data propose cells --split train --from FILE"
    reader = data.with_proposals(train, "mine")
    for look in (reader.ready, lambda: reader(EVERY), lambda: reader.seconds):
        with pytest.raises(DataError) as error:
            look()
        assert str(error.value) == f"{expected}{command} --as mine"
    data.propose("cells", ["train"], width=24)
    with pytest.raises(DataError) as error:
        reader.ready()
    assert str(error.value) == f"{expected}there are {KIND}; {command} --as mine"


def test_missing_ones_are_searched_once(raw, searches, capsys):
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


def test_threads_that_read_first_search_once(raw, searches):
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


@pytest.mark.parametrize("place", [".", "proposals"])
def test_a_folder_that_cannot_be_written_is_named_before_the_search(
    raw, searches, monkeypatch, tmp_path, place
):
    root = data.places.prepared_root()
    (root / "proposals" / "cells").mkdir(parents=True)
    make = data.places.tempfile.TemporaryDirectory
    there = root if place == "." else root / "proposals" / "cells"

    def refuse(dir, **options):
        if dir == there:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
        return make(dir=dir, **options)

    monkeypatch.setattr(data.places.tempfile, "TemporaryDirectory", refuse)
    message = rf"^{there}: cannot be written \(Read-only file system\); expected a folder for prop"
    reader = data.with_proposals(data.open_reader("cells", "val"), KIND)
    boxes = file_of(tmp_path / "x.npz", **dict.fromkeys(NAMES, UNIT))
    for use in (
        lambda: data.propose("cells", width=24),
        lambda: reader(EVERY[:1]),
        lambda: data.keep_proposals("cells", boxes, "mine"),
    ):
        with pytest.raises(DataError, match=message):
            use()
    assert searches == []
    assert [*(root / "proposals").rglob("*")] == [root / "proposals" / "cells"]


def test_a_search_by_the_options_of_a_kind(raw):
    image = images("train")[0]
    for kind, options in (
        (KIND, {"width": 24}),
        ("selective_search-quality-full", {"mode": "quality", "width": None}),
    ):
        expected = data.selective_search(image, **options)
        np.testing.assert_array_equal(data.searched(kind, image), expected)
    with pytest.raises(ValueError, match="proposals 'mine' are a user's own, and of no other imag"):
        data.searched("mine", image)


def test_a_set_that_was_prepared_again_or_copied_has_them_still(
    raw, searches, monkeypatch, tmp_path
):
    data.propose("cells", ["val"], width=24)
    expected = data.with_proposals(data.open_reader("cells", "val"), KIND)(EVERY[:3])["proposals"]
    data.prepare_folder("cells", raw)
    shutil.copytree(data.places.prepared_root(), tmp_path / "copy")
    for root in (data.places.prepared_root(), tmp_path / "copy"):
        monkeypatch.setenv("JAXSTRUCT_PREPARED", str(root))
        reader = data.with_proposals(data.open_reader("cells", "val"), KIND)
        assert_equal(reader(EVERY[:3])["proposals"], expected)
        data.propose("cells", ["val"], width=24)
    assert len(searches) == 3


def test_a_set_of_other_images_needs_new_ones(raw, searches):
    data.propose("cells", width=24)
    first, *_ = sorted((raw / "JPEGImages").iterdir())
    named = {split: (raw / f"ImageSets/Main/{split}.txt").read_text() for split in SIZES}
    (changed,) = (split for split in SIZES if first.stem in named[split].split())
    pixels = np.asarray(Image.open(first)).copy()
    pixels[3:20, 3:20] = 255 - pixels[3:20, 3:20]
    Image.fromarray(pixels).save(first)
    data.prepare_folder("cells", raw)
    command = f"python -m jaxstruct.data propose cells --split {changed}"
    message = rf"{changed}\.npz: of other examples of cells; .* make them again with: {command}"
    with pytest.raises(DataError, match=message):
        data.with_proposals(data.open_reader("cells", changed), KIND).ready()
    del searches[:]
    data.propose("cells", width=24)
    assert len(searches) == SIZES[changed]
    read = data.with_proposals(data.open_reader("cells", changed), KIND)(EVERY[: SIZES[changed]])
    assert_equal(read["proposals"], [data.selective_search(x, width=24) for x in read["image"]])


def changed(content, **arrays):
    return npz(**{**np.load(io.BytesIO(content)), **arrays})


DAMAGE = {
    "cut": lambda content: content[:-30],
    "empty": lambda content: b"",
    "garbage": lambda content: b"\xff" * 50,
    "a flipped bit": lambda content: content[:200] + bytes([content[200] ^ 4]) + content[201:],
    "no counts": lambda content: npz(boxes=np.zeros((1, 4)), record="{}"),
    "an array alone": lambda content: b"\x93NUMPY" + content,
    "one count less": lambda content: changed(content, counts=np.ones(2, int)),
    "an image less": lambda content: changed(
        content, boxes=np.ones((2, 4)), counts=np.ones(2, int)
    ),
    "negative counts": lambda content: changed(content, counts=np.array([-1, 1, 0])),
    "counts of text": lambda content: changed(content, counts=np.array(["1"])),
    "boxes of five": lambda content: changed(content, boxes=np.zeros((1, 5))),
    "objects": lambda content: changed(content, boxes=np.array([{}])),
    "no JSON": lambda content: changed(content, record=np.array("{")),
    "another JSON": lambda content: changed(content, record=np.array("[1]")),
    "a record of nothing": lambda content: changed(content, record=np.array("{}")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_ones_are_named_and_made_again(raw, folder, searches, damage):
    data.propose("cells", ["val"], width=24)
    path = folder / KIND / "val.npz"
    path.write_bytes(damage(path.read_bytes()))
    reader = data.open_reader("cells", "val")
    with pytest.raises(DataError) as error:
        data.with_proposals(reader, KIND).ready()
    assert str(error.value).startswith(f"{path}: ")
    assert "make them again with: python -m jaxstruct.data propose cells --split val" in str(
        error.value
    )
    data.propose("cells", ["val"], width=24)
    assert len(searches) == 6
    data.with_proposals(reader, KIND).ready()


def test_a_full_disk_leaves_nothing(raw, folder, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(DataError, match=r"expected a folder with room for proposals; make room"):
        data.propose("cells", ["val"], width=24)
    assert not folder.exists()
    assert not [*data.places.prepared_root().glob(".unfinished*")]


def test_an_image_that_fails_ends_the_search(raw, folder, monkeypatch):
    asked = []

    def fail(image, **_):
        asked.append(image)
        raise DataError("a bad image")

    monkeypatch.setattr(proposals, "selective_search", fail)
    with pytest.raises(DataError, match="a bad image"):
        data.propose("cells", ["train"], workers=1)
    assert len(asked) < 4
    assert not folder.exists()


SLOW = """
import sys, time
from jaxstruct.data import __main__, proposals
search = proposals.selective_search
def slow(image, **options):
    print("searching", flush=True)
    time.sleep(0.3)
    return search(image, **options)
proposals.selective_search = slow
sys.exit(__main__.main(["propose", "cells", "--workers", "1", "--split", "train"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_signal_ends_the_search_and_leaves_nothing(raw, folder, number, status):
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "searching\n"
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == status
    assert out.count("searching") < 3
    assert err == ("interrupted\n" if status == 130 else "")
    assert not folder.exists()


@pytest.mark.parametrize("splits", [["train", "nix"], ["train[:2]"], "nix"])
def test_splits_are_whole(raw, splits):
    with pytest.raises(
        DataError, match=r"cells: no split '(nix|train\[:2\])' as a whole; expected"
    ):
        data.propose("cells", splits)


@pytest.mark.parametrize("options", [{"mode": "slow"}, {"width": 0}, {"workers": 0}])
def test_options_that_make_no_sense(raw, options):
    with pytest.raises(ValueError, match=r"slow|width 0|workers"):
        data.propose("cells", **options)


def test_grey_images_are_searched_and_sets_without_are_refused(data_dir, monkeypatch):
    with data.looking(data_dir):
        stored = data.propose("mnist", ["test"])
        reader = data.with_proposals(data.open_reader("mnist", "test"), stored.kind)
        assert len(reader(np.arange(5))["proposals"]) == 5
        with pytest.raises(DataError, match="mnist: its examples have no name, but image, label"):
            data.keep_proposals("mnist", file_of(data_dir / "x.npz", a=[[0, 0, 1, 1]]), "mine")


# A user's own.


def test_a_users_own_are_kept_by_name(raw, folder, tmp_path, capsys):
    boxes = {name: [[i, 0, i + 2, 4], [0, 0, 30, 30]] for i, name in enumerate(NAMES)}
    # In another order, and with an image that the set has not.
    given = dict(reversed([*boxes.items(), ("other", [[0, 0, 900, 900]])]))
    stored = data.keep_proposals("cells", file_of(tmp_path / "x.npz", **given), "mine")
    assert (stored.path, stored.boxes, stored.seconds) == (folder / "mine", 2, None)
    assert stored.splits == SIZES
    read = data.with_proposals(data.open_reader("cells", "val+train"), "mine")(np.arange(7))
    names = [name.decode() for name in read["name"]]
    assert names == NAMES[4:] + NAMES[:4]
    assert_equal(read["proposals"], [np.array(boxes[name], np.float32) for name in names])
    # Another file takes their place.
    given = {name: [[0, 0, 5, 5]] for name in NAMES[:4]}
    data.keep_proposals("cells", file_of(tmp_path / "y.npz", **given), "mine", ["train"])
    read = data.with_proposals(data.open_reader("cells", "train"), "mine")(EVERY)
    assert [one.tolist() for one in read["proposals"]] == [[[0, 0, 5, 5]]] * 4
    assert json.loads(str(np.load(folder / "mine" / "train.npz")["record"]))["file"] == str(
        tmp_path / "y.npz"
    )


def test_a_users_own_must_fit_the_images(raw, folder, tmp_path):
    boxes = {name: [[0, 0, 30, 30]] for name in NAMES}
    path = tmp_path / "x.npz"
    # Image 3 is 30 wide and 40 high, the others are 40 wide and 30 high.
    for name, box, size in (
        (NAMES[3], [0, 0, 30.02, 40], "30 x 40"),
        (NAMES[0], [0, 0, 40, 30.02], "40 x 30"),
        (NAMES[0], [-0.02, 0, 40, 30], "40 x 30"),
        (NAMES[1], [0, -3, 40, 30], "40 x 30"),
    ):
        file_of(path, **boxes | {name: [[0, 0, 1, 1], box]})
        said = ", ".join(f"{side:g}" for side in box)
        message = f"x.npz: box {said} of image '{name}' reaches beyond its {size} pixels; expected"
        with pytest.raises(DataError, match=message):
            data.keep_proposals("cells", path, "mine")
        assert not folder.exists()
    # What rounding adds is taken away.
    file_of(path, **boxes | {NAMES[3]: [[-0.001, 0, 30, 40.005]]})
    data.keep_proposals("cells", path, "mine")
    read = data.with_proposals(data.open_reader("cells", "train"), "mine")(EVERY)
    assert read["proposals"][3].tolist() == [[0, 0, 30, 40]]


def test_a_split_that_the_file_is_not_for_is_refused_whole(raw, folder, tmp_path):
    path = file_of(tmp_path / "x.npz", **dict.fromkeys(NAMES[:6], UNIT))
    with pytest.raises(
        DataError, match=r"x\.npz: nothing for image '000006' of the split val; expec"
    ):
        data.keep_proposals("cells", path, "mine")
    assert not folder.exists()
    assert data.keep_proposals("cells", path, "mine", ["train"]).splits == {"train": 4}


@pytest.mark.parametrize(
    "kind", ["", "a/b", "..", "a b", "é", "a" * 101, "selective_search-fast-9"]
)
def test_kinds_that_are_no_names(raw, tmp_path, kind):
    path = file_of(tmp_path / "x.npz", a=UNIT)
    with pytest.raises(ValueError, match=r"kind '.*, expected up to 100 l|are searched here"):
        data.keep_proposals("cells", path, kind)
    if not kind.startswith("selective"):
        with pytest.raises(ValueError, match="kind '"):
            data.with_proposals(data.open_reader("cells", "val"), kind)


def test_examples_with_proposals_get_no_others(raw):
    data.propose("cells", ["val"], width=24)
    reader = data.with_proposals(data.open_reader("cells", "val"), KIND)
    with pytest.raises(
        ValueError, match="cells has `proposals` of its own, expected a set without"
    ):
        data.with_proposals(reader, KIND)


# Progress.
