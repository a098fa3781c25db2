"""python -m jaxstruct.data: what it prints and returns."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxstruct import data
from jaxstruct.data.__main__ import main
from jaxstruct.data.sets._scenes import imitate_voc
from tests.data.test_sources import users_set
from tests.data.written import image, write

ROOT = Path(__file__).parents[2]


def test_list(data_dir, capsys):
    assert main(["list", "--data-dir", str(data_dir)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    mnist, faces, digits = (
        next(row for row in rows if row.startswith(name)) for name in ("mnist", "frey", "digits")
    )
    assert [row.split()[0] for row in rows] == list(data.CATALOGUE)
    assert head.split() == ["name", "splits", "prepared", "raw", "files", "origin"]
    assert mnist.split() == ["mnist", "-", "no", str(data_dir / "mnist"), "-"]
    assert faces.split() == ["frey_face", "-", "no", "not", "found", "-"]
    assert digits.split() == ["digits", "-", "no", "none", "needed", "-"]
    assert main(["prepare", "mnist", "--data-dir", str(data_dir)]) == 0
    assert "12 train, 5 test (official)" in capsys.readouterr().out
    main(["list"])
    assert re.search("^mnist +train 12, test 5  ", capsys.readouterr().out, re.MULTILINE)


def test_describe(data_dir, capsys):
    assert main(["describe", "mnist", "--data-dir", str(data_dir)]) == 0
    said = capsys.readouterr().out
    assert f"looked in: {data_dir / 'mnist'}" in said
    assert "LeCun" in said
    assert "prepared: no" in said
    assert "classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in said
    assert "raw file: t10k-labels-idx1-ubyte.gz, from http" in said


def test_describe_what_has_to_be_got_by_hand(capsys):
    assert main(["describe", "houses64"]) == 0
    said = capsys.readouterr().out
    assert "raw file: bathroom\n" in said
    assert "to get them: shrink the middle square of N_ROOM.jpg of https://github.com/" in said
    assert "classes: bathroom, bedroom, frontal, kitchen" in said


def test_draw(data_dir, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    given = ["--data-dir", str(data_dir), "--split", "test", "--count", "3", "--out", str(out)]
    assert main(["draw", "mnist", *given]) == 0
    assert "3 of 5 examples of test (official)" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.format == "PNG"


def test_draw_replaces_no_picture_but_one_that_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.png").write_bytes(b"a user's")
    for name in ("digits-2.png", "digits-3.png"):
        assert main(["draw", "digits", "--count", "2"]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: 2 of ")
    assert (tmp_path / "digits.png").read_bytes() == b"a user's"
    assert main(["draw", "digits", "--count", "2", "--out", "digits.png"]) == 0
    with Image.open(tmp_path / "digits.png") as image:
        assert image.format == "PNG"
    with pytest.raises(SystemExit):
        main(["draw", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "in place of one that is there (NAME.png, or NAME-2.png and so on" in said


def test_draw_of_an_imitation_must_be_asked_for(tmp_path, capsys):
    out = str(tmp_path / "sheet.png")
    assert main(["draw", "frey_face", "--out", out]) == 1
    assert main(["draw", "frey_face", "--out", out, "--imitations"]) == 0
    assert "(imitation)" in capsys.readouterr().out


def test_images_of_a_users_own(tmp_path, capsys):
    contents = {
        f"{name}/{i}.jpg": image(i, (9 + i, 9)) for name in ("cat", "dog") for i in range(3)
    }
    path = write(tmp_path / "pets.zip", {**contents, "dog/bad.jpg": b""})
    asked = ["prepare", "pets", "--from", str(path), "--size", "8", "--crop"]
    assert main(asked) == 1
    assert "pets.zip/dog/bad.jpg: no image" in capsys.readouterr().err
    assert main([*asked, "--skip-unreadable"]) == 0
    said = capsys.readouterr()
    assert "pets: 6 train (user) in " in said.out
    assert "dog/bad.jpg: no image (of no kind that is known): left out" in said.err
    assert main(["list"]) == 0
    assert re.search("^pets +train 6 .* user$", capsys.readouterr().out, re.MULTILINE)
    assert main(["describe", "pets"]) == 0
    said = capsys.readouterr().out
    assert f"Images of {path}, the middle square, 8x8." in said
    assert "classes: cat, dog" in said
    assert main(["draw", "pets", "--out", str(tmp_path / "sheet.png")]) == 0
    assert "6 of 6 examples of train (user)" in capsys.readouterr().out
    assert main(["prepare", "pets"]) == 0
    assert capsys.readouterr().out == "pets: already prepared\n"


@pytest.fixture
def cells(tmp_path):
    """A set with boxes, prepared as `cells`; where its proposals are stored."""
    (tmp_path / "raw").mkdir()
    lists = {"Main/train": 3, "Main/val": 2}
    imitate_voc(tmp_path / "raw", classes=("dot", "ring"), size=(30, 40), lists=lists)
    data.prepare_folder("cells", tmp_path / "raw")
    return data.places.prepared_root() / "proposals" / "cells"


def boxes_of(split, kind):
    reader = data.with_proposals(data.open_reader("cells", split), kind)
    return [len(boxes) for boxes in reader(np.arange(reader.size))["proposals"]]


def test_propose(cells, capsys):
    assert main(["propose", "cells", "--split", "val", "--width", "24", "--workers", "1"]) == 0
    said = capsys.readouterr()
    place = re.escape(str(cells / "selective_search-fast-24"))
    shown = rf"cells: (\d+) boxes and 0\.\d\d s of a core an image \(2 val\) in {place}\n"
    found = re.fullmatch(shown, said.out)
    assert float(found[1]) == round(np.mean(boxes_of("val", "selective_search-fast-24")))
    assert said.err == ""
    assert main(["propose", "cells", "--mode", "quality", "--full-width"]) == 0
    place = cells / "selective_search-quality-full"
    assert capsys.readouterr().out.endswith(f" an image (3 train, 2 val) in {place}\n")
    assert main(["propose", "cells", "--split", "val", "train", "--split", "val"]) == 0
    place = cells / "selective_search-fast-320"
    assert capsys.readouterr().out.endswith(f" an image (2 val, 3 train) in {place}\n")


def test_propose_from_a_file(cells, tmp_path, capsys):
    names = np.array([f"{i:06}" for i in range(5)])
    boxes = np.tile(np.float32([0, 0, 9, 9]), (10, 1))
    np.savez(tmp_path / "x.npz", names=names, boxes=boxes, counts=[1, 2, 3, 2, 2])
    given = ["propose", "cells", "--from", str(tmp_path / "x.npz"), "--as"]
    assert main([*given, "mine"]) == 0
    said = f"cells: 2 boxes an image (3 train, 2 val) in {cells / 'mine'}\n"
    assert capsys.readouterr().out == said
    assert boxes_of("train+val", "mine") == [1, 2, 3, 2, 2]
    for rest, message in (
        ([*given, "a/b"], "kind 'a/b', expected up to 100 letters"),
        (given[:-1], "--from FILE and --as KIND are for proposals of your own: both, or none"),
        (["propose", "cells", "--as", "x"], "--from FILE and --as KIND are"),
        ([*given, "x", "--workers", "2"], "--workers are for a search, not with --from"),
        ([*given, "x", "--full-width"], "--full-width and --workers are for a search"),
    ):
        assert main(rest) == 2
        assert message in capsys.readouterr().err
    assert [*cells.iterdir()] == [cells / "mine"]


def test_proposals_of_an_imitation_must_be_asked_for(capsys):
    given = ["propose", "bccd", "--width", "16", "--split", "test"]
    assert main(given) == 1
    assert main([*given, "--imitations"]) == 0
    assert "(8 test) in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["propose", "digits", "--split", "valid"], 1, "digits: no split 'valid' as a whole; exp"),
        (["propose", "digits", "--width", "0"], 2, "--width: '0', expected an integer of at least"),
        (["propose", "digits", "--width", "9", "--full-width"], 2, "not allowed with argument"),
        (["propose", "digits", "--mode", "slow"], 2, "invalid choice: 'slow'"),
        (["propose", "mnits"], 2, "did you mean 'mnist'?"),
        (["prepare", "mnits"], 2, "did you mean 'mnist'?"),
        (["draw", "mnist"], 1, "python -m jaxstruct.data prepare mnist"),
        (["draw", "digits", "--split", "valid"], 1, "no split 'valid'"),
        (["draw", "digits", "--out", "/nowhere/at/all.png"], 1, "/nowhere/at/all.png: cannot be"),
        (["draw", "digits", "--split", "train[:0]"], 1, "digits"),
        (["draw", "digits", "--count", "0"], 2, "--count: '0', expected an integer of at least 1"),
        (["draw", "digits", "--count", "-1"], 2, "--count: '-1', expected an integer of at le"),
        (["draw", "digits", "--out", "a" * 300], 2, "--out: " + "a" * 40 + "..." + "a" * 20),
        (["draw", "digits", "--out", "caf\udce9"], 2, r"--out: caf\xe9: not UTF-8"),
        (["draw", "digits", "--out", "~no.such.user/a"], 2, "~no.such.user/a: no such user"),
        (
            ["prepare", "x", "--from", ".", "--size", "60000"],
            2,
            "size 60000, expected at most 8192",
        ),
        (["prepare", "x", "--from", ".", "--size", "0"], 2, "--size: '0', expected an integer"),
        (["prepare", "x" * 300, "--from", "."], 2, "... has 300 letters, expected at most 100"),
        (["describe", "mnits"], 2, "did you mean 'mnist'?"),
        (["prepare", "x", "--from", "/nowhere"], 1, "/nowhere: missing; expected images in class"),
        (["prepare", "mnist", "--from", "/nowhere"], 2, "the name 'mnist'; expected one of small"),
        (["prepare", "mnist", "--size", "8"], 2, "are for images of your own: --from"),
        (["prepare", "houses64"], 1, "https://github.com/emanhamed/Houses-dataset"),
        (["prepare", "mnist:9.9.9"], 2, "mnist has no version or configuration '9.9.9'; expected"),
        (["prepare", "mnist:9.9.9"], 2, "; expected mnist:1.0.0"),
        (["describe", "mnist:9.9.9"], 2, "has no version or configuration '9.9.9'"),
        (["describe", "mnist/nonsense"], 2, "has no version or configuration 'nonsense'"),
        (["describe", "mnist/nonsense:1.0.0"], 2, "configuration 'nonsense:1.0.0'"),
        (["describe", "mnist:"], 2, "has no version or configuration ''"),
        (["draw", "mnist/nonsense"], 2, "has no version or configuration 'nonsense'"),
        (["describe", ""], 2, "no data set ''"),
        (["describe", "../mnist"], 2, "no data set '../mnist'"),
        (["list", "--data-dir", ""], 2, "argument --data-dir: an empty path; expected the name of"),
        (["prepare", "x", "--from", ""], 2, "argument --from: an empty path"),
        (["prepare", "x", "--from= "], 2, "argument --from: an empty path"),
        (["draw", "digits", "--out", ""], 2, "argument --out: an empty path"),
        (["prepare", "x", "--from=~no.such.user/x"], 2, "~no.such.user/x: no such user; expected"),
        (
            ["prepare", "x", "--from", "/", "--size", "big"],
            2,
            "argument --size: 'big', expected an",
        ),
        (["prepare", "x", "--from", "/", "--size", "-8"], 2, "argument --size: '-8', expected an"),
        (["paint", "mnist"], 2, "invalid choice: 'paint'"),
    ],
)
def test_errors_are_one_line(arguments, status, message, capsys):
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("surroundings", "letters"),
    [
        ({"PYTHONIOENCODING": "ascii", "LANG": "C"}, rb"\xe9t\xe9"),
        ({"PYTHONIOENCODING": "latin-1"}, "été".encode("latin-1")),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, rb"\xe9t\xe9"),
        ({"PYTHONIOENCODING": "utf-8"}, "été".encode()),
    ],
    ids=["ascii", "latin-1", "C", "utf-8"],
)
def test_a_terminal_of_few_letters_shows_the_others_another_way(tmp_path, surroundings, letters):
    contents = {f"{name}/{i}.jpg": image(i) for name in ("été", "dog") for i in range(3)}
    data.prepare_folder("seasons", write(tmp_path / "seasons", contents))
    answer = subprocess.run(
        [sys.executable, "-m", "jaxstruct.data", "describe", "seasons"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **surroundings},
        capture_output=True,
    )
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert answer.stdout.endswith(b"classes: dog, " + letters + b"\n")


def test_a_version_that_is_there_may_be_named(data_dir, tmp_path, capsys):
    contents = {f"{name}/{i}.jpg": image(i) for name in ("cat", "dog") for i in range(3)}
    data.prepare_folder("pets", write(tmp_path / "pets", contents))
    users_set(tmp_path / "tfds", file_format="array_record")
    assert main(["prepare", "mnist:1.0.0", "--data-dir", str(data_dir)]) == 0
    assert "mnist: 12 train, 5 test (official) in" in capsys.readouterr().out
    for name in ("pets:1.0.0", "shapes:2.1.0", "shapes"):
        assert main(["prepare", name]) == 0
        assert capsys.readouterr().out.endswith(": already prepared\n")
        assert main(["describe", name]) == 0
        assert re.search("prepared: .*train", capsys.readouterr().out)
    with data.looking(data_dir):
        assert data.load("mnist:1.0.0", "test").size == 5
    assert data.load("pets:1.0.0", "train").size == 6
    for name, there in (("pets:2.0.0", "pets:1.0.0"), ("shapes:1.0.0", "shapes:2.1.0")):
        assert main(["prepare", name]) == 2
        assert f"has no version or configuration {name[-5:]!r}; expected {there}; --help lists" in (
            capsys.readouterr().err
        )


def test_a_set_in_another_format_is_not_called_prepared(tmp_path, capsys):
    users_set(tmp_path / "tfds", file_format="parquet")
    assert main(["prepare", "shapes"]) == 1
    assert "prepared as parquet; expected array_record" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder_in_every_path(data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(data_dir)
    write(tmp_path / "pets", {"cat/1.jpg": image(), "dog/1.jpg": image(1)})
    assert main(["prepare", "pets", "--from=~/pets"]) == 0
    assert main(["prepare", "mnist", "--data-dir=~/raw"]) == 0
    assert main(["draw", "mnist", "--out=~/sheet.png"]) == 0
    assert (tmp_path / "sheet.png").is_file()
    assert [path.name for path in data_dir.iterdir()] == ["mnist"]
    monkeypatch.setenv("JAXSTRUCT_PREPARED", "~no.such.user/x")
    assert main(["list"]) == 1
    assert "~no.such.user/x: no such user" in capsys.readouterr().err


def test_an_empty_data_dir_is_refused():
    with pytest.raises(ValueError, match="an empty path"), data.looking(""):
        pass
    with pytest.raises(ValueError, match="an empty path"):
        data.prepare_folder("pets", "")


def test_as_a_module():
    root = Path(data.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "jaxstruct.data", "describe", "mnits"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "'mnist'" in done.stderr
