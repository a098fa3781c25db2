"""Where data are looked for, whatever the surroundings: one line names what has to be set."""

import os
import pwd
import time

import pytest

from jaxstruct import data
from jaxstruct.data import DataError, places
from jaxstruct.data.__main__ import main

LONG = "a" * 300


@pytest.fixture
def homeless(monkeypatch):
    """A process whose user is in no list of users, and for whom HOME is not set."""

    def unknown(of):
        raise KeyError(of)

    for name in ("HOME", "JAXSTRUCT_PREPARED", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def test_without_a_home_folder_a_line_names_the_variables(homeless, capsys):
    assert main(["list"]) == 1
    assert capsys.readouterr().err == (
        "error: ~/.cache/jaxstruct: no home folder is known; set HOME, or set JAXSTRUCT_PREPARED "
        "to a folder\n"
    )
    with pytest.raises(ValueError, match=r"^~/r: no home folder is known; set HOME$"):
        places.expanded("~/r")


@pytest.mark.parametrize("variable", ["JAXSTRUCT_PREPARED", "XDG_CACHE_HOME"])
def test_a_place_for_prepared_sets_is_enough(homeless, tmp_path, monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, str(tmp_path))
    assert main(["draw", "digits", "--count", "2", "--out", str(tmp_path / "sheet.png")]) == 0
    assert main(["list"]) == 0
    assert main(["describe", "nothing"]) == 2
    assert "~/tensorflow_datasets" in capsys.readouterr().err


@pytest.mark.parametrize(
    "variable", ["JAXSTRUCT_DATA", "JAXSTRUCT_PREPARED", "XDG_CACHE_HOME", "TFDS_DATA_DIR"]
)
@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("~no.such.user/x", "~no.such.user/x: no such user; expected a path, or ./~no.such.user/x"),
        (f"/{LONG}", "a name of 300 bytes; expected at most 255"),
        ("/caf\udce9", r"/caf\xe9: not UTF-8; expected a name in UTF-8"),
        (" ", "an empty path; expected the name of a file or folder"),
    ],
)
def test_a_variable_that_holds_no_path_is_named(monkeypatch, capsys, variable, given, wrong):
    if variable == "XDG_CACHE_HOME":
        monkeypatch.delenv("JAXSTRUCT_PREPARED")
    monkeypatch.setenv(variable, given)
    assert main(["list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {variable}: ")
    assert wrong in line
    assert len(line) < 200


@pytest.mark.parametrize(
    ("home", "wrong"),
    [
        ("/caf\udce9", r"^/caf\\xe9/r: not UTF-8; expected a name in UTF-8$"),
        (f"/{LONG}", "^/a{39}...a{18}/r: a name of 300 bytes; expected at most 255$"),
    ],
)
def test_a_home_folder_is_checked_as_a_part_of_the_path(monkeypatch, home, wrong):
    monkeypatch.setenv("HOME", home)
    with pytest.raises(ValueError, match=wrong):
        places.expanded("~/r")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("a\0b", r"a\\0b: a NUL in it; expected a name without"),
        ("~\0/b", r"~\\0/b: a NUL in it; expected a name without"),
        ("~caf\udce9/x", r"~caf\\xe9/x: no such user; expected a path, or ./~caf\\xe9/x"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused_in_words_that_print(given, wrong):
    with pytest.raises(ValueError, match=f"^{wrong}$") as refused:
        places.expanded(given)
    assert str(refused.value).encode()


def test_files_of_a_user_s_own_are_found_in_the_home_folder(tmp_path, monkeypatch, save):
    from PIL import Image

    monkeypatch.setenv("HOME", str(tmp_path))
    save(Image.new("L", (3, 2), 7), "a.png")
    assert data.read_image("~/a.png").shape == (2, 3, 3)
    save(Image.fromarray(_two_labels()), "b.png")
    assert data.read_labels("~/b.png", None).labels.tolist() == [[0, 1]]
    labels = data.read_labels("~/b.png", None)
    data.write_labels("~/c.png", labels.labels, labels)
    assert data.read_labels("~/c.png", None).labels.tolist() == [[0, 1]]
    write = lambda path: data.write_labels(path, labels.labels, labels)
    for use in (data.read_image, data.read_labels, data.read_weights, write):
        with pytest.raises(DataError, match=r"^~no\.such\.user/a: no such user"):
            use("~no.such.user/a")
        with pytest.raises(DataError, match=r"^an empty path; expected"):
            use("")
    with pytest.raises(DataError, match=rf"^{tmp_path}/w\.pth: missing"):
        data.read_weights("~/w.pth")


def test_what_a_killed_process_left_is_removed_after_two_days(tmp_path, capsys):
    day = 24 * 3600.0
    ages = {"old": (3, 3), "made long ago": (3, 1), "new": (0, 0)}
    for name, (of_folder, of_file) in ages.items():
        file = tmp_path / f".unfinished-{name}" / "mnist" / "file"
        file.parent.mkdir(parents=True)
        file.write_text("")
        for path, age in ((file, of_file), *((p, of_folder) for p in file.parents[:2])):
            os.utime(path, (time.time() - age * day,) * 2)
    aside = tmp_path / "aside"
    aside.mkdir()
    (aside / "kept").write_text("")
    (tmp_path / ".unfinished-old" / "link").symlink_to(aside)  # not a file of its own
    os.utime(tmp_path / ".unfinished-old" / "link", (1, 1), follow_symlinks=False)
    os.utime(tmp_path / ".unfinished-old", (1, 1))
    (tmp_path / "mnist").mkdir()
    os.utime(tmp_path / "mnist", (1, 1))
    with places.workshop(tmp_path) as folder:
        there = {path.name for path in tmp_path.iterdir()}
    expected = {".unfinished-made long ago", ".unfinished-new", "aside", "mnist", folder.name}
    assert there == expected
    assert (aside / "kept").exists()
    assert capsys.readouterr() == ("", "")


def _two_labels():
    import numpy as np

    return np.array([[1, 2]], np.uint8)
