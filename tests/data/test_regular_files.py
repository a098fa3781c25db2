"""Pipes, sockets and devices in the place of files: named or left out, and never waited for."""

import os
import shutil
import socket
from functools import partial

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError
from jaxstruct.data.__main__ import main
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.regular_files import NotRegular, check_all_regular, check_regular, read_bytes
from tests.data.test_sources import users_set
from tests.data.written import image, write
from tests.fuzz import raw_kinds
from tests.fuzz.fuzzing import outcome

SECONDS = 5


def make_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_socket(path):
    path.unlink(missing_ok=True)
    here = os.getcwd()
    os.chdir(path.parent)  # the whole path may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def make_link_to_a_device(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")  # which has no end


KINDS = {"a pipe": make_pipe, "a socket": make_socket, "a device": make_link_to_a_device}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def refused(command, *words):
    """The command ends in time with one line that has these words."""
    found = outcome(command, statuses={1}, seconds=SECONDS)
    assert not found.faults, found.faults
    for word in words:
        assert word in found.line
    assert found.line.count("error:") <= 1


@EVERY_KIND
def test_what_is_regular(tmp_path, kind):
    (tmp_path / "file").write_bytes(b"5")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("missing")
    assert read_bytes(tmp_path / "link") == b"5"
    check_regular(tmp_path)
    check_all_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "nowhere")
    (tmp_path / "below").mkdir()
    KINDS[kind](tmp_path / "below" / "x")
    for check, path in [
        (check_regular, tmp_path / "below" / "x"),
        (read_bytes, tmp_path / "below" / "x"),
        (check_all_regular, tmp_path),
    ]:
        with pytest.raises(NotRegular, match=rf"{kind}, expected a regular file.*below/x"):
            check(path)


@EVERY_KIND
@pytest.mark.parametrize("name", [*raw_kinds.KINDS])
def test_in_the_place_of_a_raw_file(tmp_path, kind, name):
    raw_kinds.KINDS[name].write(tmp_path)
    files = [path for path in tmp_path.glob(raw_kinds.KINDS[name].damage) if path.is_file()]
    (file, *_) = sorted(files)
    KINDS[kind](file)
    read = partial(raw_kinds.KINDS[name].read, tmp_path)
    if name in ("batches", "folders", "rooms"):  # other files of the folder are left out, too
        found = outcome(read, seconds=SECONDS)
        assert not found.faults, found.faults
    else:
        refused(read, str(file), f"{kind}, expected a regular file")


@EVERY_KIND
def test_among_images_of_a_users_own_it_is_left_out(tmp_path, capsys, kind):
    folder = write(
        tmp_path / "pets", {f"{name}/{i}.jpg": image(i) for name in "ab" for i in (1, 2)}
    )
    KINDS[kind](folder / "a" / "3.jpg")
    found = outcome(partial(main, ["prepare", "pets", "--from", str(folder)]), seconds=SECONDS)
    assert (found.status, found.faults) == (0, [])
    assert "pets: left out, no file: 1 (a/3.jpg)" in found.err
    assert data.load("pets", "train").size == 4


@EVERY_KIND
@pytest.mark.parametrize(
    "name", ["x", "x.zip", "x.tar.gz", "JPEGImages/1.jpg", "Annotations/1.xml"]
)
def test_as_the_images_of_a_users_own(tmp_path, kind, name):
    raw_kinds._voc(tmp_path / "voc")
    path = tmp_path / "voc" / name.replace("1.", "a1.")
    KINDS[kind](path)
    given = path if name.startswith("x") else tmp_path / "voc"
    command = partial(main, ["prepare", "own", "--from", str(given)])
    refused(command, str(path), f"{kind}, expected a regular file")


@EVERY_KIND
def test_as_an_image_a_label_map_or_weights(tmp_path, kind):
    KINDS[kind](tmp_path / "x.png")
    for read in (data.read_image, data.read_labels, data.read_weights):
        refused(partial(read, tmp_path / "x.png"), str(tmp_path / "x.png"), kind)


@EVERY_KIND
def test_in_a_prepared_set(tmp_path, kind):
    write(tmp_path / "pets", {f"{name}/{i}.jpg": image(i) for name in "ab" for i in (1, 2)})
    data.prepare_folder("pets", tmp_path / "pets")
    users_set(tmp_path / "tfds", file_format="array_record")
    places = {
        "pets": tmp_path / "prepared/own/pets/1.0.0",
        "shapes": tmp_path / "tfds/shapes/2.1.0",
    }
    for name, folder in places.items():
        for file in sorted(folder.iterdir()):
            file.rename(tmp_path / "aside")
            KINDS[kind](file)
            for read in (data.load, data.open_reader):
                refused(partial(read, name, "train"), "damaged")
            found = outcome(partial(main, ["list"]), seconds=SECONDS)
            assert (found.status, found.faults) == (0, [])
            file.unlink()
            (tmp_path / "aside").rename(file)
        assert data.open_reader(name, "train").size


@EVERY_KIND
def test_in_the_place_of_decoded_arrays_it_is_replaced(tmp_path, kind):
    before = data.load("digits", "test")["label"].copy()
    for name in ("keys.json", "label.npy"):
        (file,) = (tmp_path / "prepared" / "decoded").rglob(name)
        KINDS[kind](file)
        found = outcome(partial(data.load, "digits", "test"), seconds=SECONDS)
        assert (found.status, found.faults) == (0, [])
        assert file.is_file()
    np.testing.assert_array_equal(data.load("digits", "test")["label"], before)


@EVERY_KIND
def test_where_a_picture_is_to_be_written(tmp_path, kind):
    KINDS[kind](tmp_path / "x.png")
    command = partial(main, ["draw", "digits", "--out", str(tmp_path / "x.png")])
    refused(command, f"{tmp_path / 'x.png'}: cannot be written ({kind}, expected a regular file)")


def test_an_archive_in_the_place_of_which_there_is_a_pipe(tmp_path):
    raw_kinds._cifar("cifar-10-python.tar.gz", tmp_path)
    shutil.move(tmp_path / "cifar-10-python.tar.gz", tmp_path / "aside")
    make_pipe(tmp_path / "cifar-10-python.tar.gz")
    refused(partial(CATALOGUE["cifar10"].read, tmp_path), "cifar-10-python.tar.gz", "a pipe")


def test_no_other_error_hides_behind_it(tmp_path):
    with pytest.raises(DataError, match="missing"):
        data.read_weights(tmp_path / "x.pth")
    with pytest.raises(DataError, match="is a folder"):
        data.read_weights(tmp_path)
