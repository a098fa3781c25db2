"""How proposals are stored: whole or not at all, and only for the images that they are of."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxstruct import data
from jaxstruct.data import DataError, proposals
from tests.data.cells import EVERY, KIND, SIZES, assert_equal
from tests.data.test_proposal_files import NAMES, UNIT, file_of, npz


def test_what_is_stored_are_arrays_and_a_record(stored_in):
    import cv2

    data.propose("cells", ["val"], width=None)
    (path,) = (path for path in stored_in.rglob("*") if path.is_file())
    assert path == stored_in / "selective_search-fast-full" / "val.npz"
    stored = np.load(path)
    assert stored["boxes"].dtype == np.float32
    assert stored["boxes"].shape == (stored["counts"].sum(), 4)
    assert len(stored["counts"]) == SIZES["val"]
    record = json.loads(str(stored["record"]))
    assert record["set"] == "cells"
    assert (record["split"], record["mode"], record["width"]) == ("val", "fast", None)
    assert (record["opencv"], record["version"]) == (cv2.__version__, "1.0.0")


def test_what_is_done_is_not_done_again(cells, searches):
    data.propose("cells", ["train"], width=24)
    first = data.propose("cells", ["train"], width=24)
    assert len(searches) == 4
    both = data.propose("cells", ["val", "train", "val"], width=24, workers=1)
    assert len(searches) == 7
    assert (first.splits, both.splits) == ({"train": 4}, {"val": 3, "train": 4})
    assert both.boxes == data.propose("cells", width=24).boxes
    data.propose("cells", ["train"], width=25)
    assert searches[-1] == {"mode": "fast", "width": 25}


@pytest.mark.parametrize("place", [".", "proposals"])
def test_a_folder_that_cannot_be_written_is_named_before_the_search(
    cells, searches, monkeypatch, tmp_path, place
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


def test_a_set_that_was_prepared_again_or_copied_has_them_still(
    cells, searches, monkeypatch, tmp_path
):
    data.propose("cells", ["val"], width=24)
    expected = data.with_proposals(data.open_reader("cells", "val"), KIND)(EVERY[:3])["proposals"]
    data.prepare_folder("cells", cells)
    shutil.copytree(data.places.prepared_root(), tmp_path / "copy")
    for root in (data.places.prepared_root(), tmp_path / "copy"):
        monkeypatch.setenv("JAXSTRUCT_PREPARED", str(root))
        reader = data.with_proposals(data.open_reader("cells", "val"), KIND)
        assert_equal(reader(EVERY[:3])["proposals"], expected)
        data.propose("cells", ["val"], width=24)
    assert len(searches) == 3


def test_a_set_of_other_images_needs_new_ones(cells, searches):
    data.propose("cells", width=24)
    first, *_ = sorted((cells / "JPEGImages").iterdir())
    named = {split: (cells / f"ImageSets/Main/{split}.txt").read_text() for split in SIZES}
    (changed,) = (split for split in SIZES if first.stem in named[split].split())
    pixels = np.asarray(Image.open(first)).copy()
    pixels[3:20, 3:20] = 255 - pixels[3:20, 3:20]
    Image.fromarray(pixels).save(first)
    data.prepare_folder("cells", cells)
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
def test_damaged_ones_are_named_and_made_again(cells, stored_in, searches, damage):
    data.propose("cells", ["val"], width=24)
    path = stored_in / KIND / "val.npz"
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


def test_a_full_disk_leaves_nothing(cells, stored_in, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(DataError, match=r"expected a folder with room for proposals; make room"):
        data.propose("cells", ["val"], width=24)
    assert not stored_in.exists()
    assert not [*data.places.prepared_root().glob(".unfinished*")]


def test_an_image_that_fails_ends_the_search(cells, stored_in, monkeypatch):
    asked = []

    def fail(image, **_):
        asked.append(image)
        raise DataError("a bad image")

    monkeypatch.setattr(proposals, "selective_search", fail)
    with pytest.raises(DataError, match="a bad image"):
        data.propose("cells", ["train"], workers=1)
    assert len(asked) < 4
    assert not stored_in.exists()


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
def test_a_signal_ends_the_search_and_leaves_nothing(cells, stored_in, number, status):
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
    assert not stored_in.exists()
