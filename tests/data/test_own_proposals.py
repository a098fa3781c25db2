"""Proposals of a user's own, kept under a name."""

import json

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError
from tests.data.cells import EVERY, KIND, SIZES, assert_equal
from tests.data.test_proposal_files import NAMES, UNIT, file_of


def test_missing_ones_of_a_users_own_are_named_with_the_command_that_makes_them(cells, stored_in):
    train = data.open_reader("cells", "train")
    path = stored_in / "mine" / "train.npz"
    expected = f"{path}: missing; expected the proposals mine of cells, train; "
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


def test_a_users_own_are_kept_by_name(cells, stored_in, tmp_path, capsys):
    boxes = {name: [[i, 0, i + 2, 4], [0, 0, 30, 30]] for i, name in enumerate(NAMES)}
    # In another order, and with an image that the set has not.
    given = dict(reversed([*boxes.items(), ("other", [[0, 0, 900, 900]])]))
    stored = data.keep_proposals("cells", file_of(tmp_path / "x.npz", **given), "mine")
    assert (stored.path, stored.boxes, stored.seconds) == (stored_in / "mine", 2, None)
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
    assert json.loads(str(np.load(stored_in / "mine" / "train.npz")["record"]))["file"] == str(
        tmp_path / "y.npz"
    )


def test_a_users_own_must_fit_the_images(cells, stored_in, tmp_path):
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
        assert not stored_in.exists()
    # What rounding adds is taken away.
    file_of(path, **boxes | {NAMES[3]: [[-0.001, 0, 30, 40.005]]})
    data.keep_proposals("cells", path, "mine")
    read = data.with_proposals(data.open_reader("cells", "train"), "mine")(EVERY)
    assert read["proposals"][3].tolist() == [[0, 0, 30, 40]]


def test_a_split_that_the_file_is_not_for_is_refused_whole(cells, stored_in, tmp_path):
    path = file_of(tmp_path / "x.npz", **dict.fromkeys(NAMES[:6], UNIT))
    with pytest.raises(
        DataError, match=r"x\.npz: nothing for image '000006' of the split val; expec"
    ):
        data.keep_proposals("cells", path, "mine")
    assert not stored_in.exists()
    assert data.keep_proposals("cells", path, "mine", ["train"]).splits == {"train": 4}


@pytest.mark.parametrize(
    "kind", ["", "a/b", "..", "a b", "é", "a" * 101, "selective_search-fast-9"]
)
def test_kinds_that_are_no_names(cells, tmp_path, kind):
    path = file_of(tmp_path / "x.npz", a=UNIT)
    with pytest.raises(ValueError, match=r"kind '.*, expected up to 100 l|are searched here"):
        data.keep_proposals("cells", path, kind)
    if not kind.startswith("selective"):
        with pytest.raises(ValueError, match="kind '"):
            data.with_proposals(data.open_reader("cells", "val"), kind)
