"""Where a set is found, what is prepared when, and what may stand in for it."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError, places, prepared


def origin(name: str = "mnist") -> str:
    source = data.load(name, "train").source
    assert source is not None
    return source.origin


def test_without_data_the_error_says_where_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSTRUCT_DATA", str(tmp_path / "b"))
    with data.looking(tmp_path / "a"), pytest.raises(DataError) as error:
        data.load("mnist", "train")
    said = str(error.value)
    for place in (tmp_path / "a" / "mnist", tmp_path / "b" / "mnist", tmp_path / "tfds"):
        assert str(place) in said
    assert "python -m jaxstruct.data prepare mnist" in said
    assert "$JAXSTRUCT_DATA" in said
    assert "\n" not in said


def test_an_unknown_name_is_told_the_nearest():
    for call in (lambda: data.load("mnits", "train"), lambda: data.prepare("mnits")):
        with pytest.raises(DataError, match="no data set 'mnits'; did you mean 'mnist'"):
            call()


def test_data_dir_comes_before_the_environment(data_dir, write_mnist, tmp_path, monkeypatch):
    write_mnist(tmp_path / "other" / "mnist", seed=1)
    monkeypatch.setenv("JAXSTRUCT_DATA", str(tmp_path / "other"))
    other = data.load("mnist", "train")["image"]
    with data.looking(data_dir):
        assert prepared.find_raw("mnist") == data_dir / "mnist"
        assert (data.load("mnist", "train")["image"] != other).any()
    assert prepared.find_raw("mnist") == tmp_path / "other" / "mnist"


def test_prepared_once_and_kept_without_raw_files(data_dir, tmp_path, capsys):
    with data.looking(data_dir):
        first = data.load("mnist", "train")["image"].copy()
        assert capsys.readouterr().err == f"mnist: preparing from {data_dir / 'mnist'} (once)\n"
        data.load("mnist", "test")
        assert data.prepare("mnist").path == tmp_path / "prepared" / "mnist" / "1.0.0"
    assert (data.load("mnist", "train")["image"] == first).all()
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in (data_dir / "mnist").iterdir()) == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


def test_other_raw_files_are_prepared_again_and_empty_the_cache(data_dir, write_mnist, tmp_path):
    with data.looking(data_dir):
        old = data.load("mnist", "train")["image"].copy()
        assert len(list((tmp_path / "prepared" / "decoded").glob("*/*/*"))) == 1
        write_mnist(data_dir / "mnist", seed=1)
        new = data.load("mnist", "train")["image"]
    assert (old != new).any()
    assert len(list((tmp_path / "prepared" / "decoded").glob("*/*/*"))) == 1


def test_imitations_are_announced_and_give_way_to_the_real_set(data_dir, tmp_path, capsys):
    with data.looking(imitations=True):
        assert origin() == "imitation"
        data.load("mnist", "test")
        assert capsys.readouterr().err.count("IMITATION") == 1  # once, not once a call
        assert not (tmp_path / "prepared" / "mnist").exists()
    with pytest.raises(DataError, match="prepare mnist"):  # made, but not asked for
        data.load("mnist", "train")
    with data.looking(data_dir, imitations=True):
        assert origin() == "official"
        assert data.load("mnist", "train").size == 12
    assert "IMITATION" not in capsys.readouterr().err


def test_an_imitation_given_as_raw_files_is_not_taken_for_real(tmp_path):
    with data.looking(imitations=True):
        data.load("frey_face", "train")
    raw = next((tmp_path / "prepared").glob("imitations/*/raw"))
    with data.looking(raw), pytest.raises(DataError, match="prepare frey_face"):
        data.load("frey_face", "train")
    (raw / "frey_face" / places.IMITATION_MARK).unlink()  # the mark is what told them apart
    with data.looking(raw):
        assert origin("frey_face") == "official"


def test_raw_files_may_lie_in_another_folder_that_the_set_names(data_dir, tmp_path, monkeypatch):
    entry = dataclasses.replace(CATALOGUE["mnist"], folders=("kits/mnist2",))
    monkeypatch.setitem(CATALOGUE, "mnist", entry)
    (data_dir / "kits").mkdir()
    (data_dir / "mnist").rename(data_dir / "kits" / "mnist2")
    folders = [data_dir / "mnist", data_dir / "kits" / "mnist2"]
    with data.looking(data_dir):
        assert data.load("mnist", "train").source.origin == "official"
        row = next(row for row in data.where() if row["name"] == "mnist")
    assert (row["raw"], row["looked"][:2]) == (folders[1], folders)
    with data.looking(tmp_path / "no"), pytest.raises(DataError) as error:
        data.load("fashion_mnist", "train")
    assert "kits" not in str(error.value)
    shutil.rmtree(tmp_path / "prepared")
    with (
        data.looking(tmp_path / "no"),
        pytest.raises(DataError, match=r"no/mnist, .*no/kits/mnist2"),
    ):
        data.load("mnist", "train")


def test_where_prepares_nothing(data_dir, tmp_path):
    with data.looking(data_dir):
        rows = {row["name"]: row for row in data.where()}
        assert not (tmp_path / "prepared").exists()
        assert rows["mnist"]["raw"] == data_dir / "mnist"
        assert rows["mnist"]["looked"][0] == data_dir / "mnist"
        assert rows["mnist"]["path"] is rows["mnist"]["origin"] is None
        assert rows["frey_face"]["raw"] is None
        assert rows["digits"]["looked"] == []
        data.load("mnist", "train")
        row = next(row for row in data.where() if row["name"] == "mnist")
    assert row["splits"] == {"train": 12, "test": 5}
    assert (row["origin"], row["path"]) == ("official", tmp_path / "prepared" / "mnist" / "1.0.0")


def test_prepare_without_download(data_dir):
    with pytest.raises(DataError, match="not found; looked for train-images"):
        data.prepare("mnist", download=False)
    with data.looking(data_dir):
        assert data.prepare("mnist", download=False).origin == "official"
    assert data.prepare("digits", download=False).origin == "package"


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written .*set JAXSTRUCT_PREPARED"):
        data.load("digits", "train")


PROCESS = """
import sys
from jaxstruct import data
examples = data.load("digits", "train")
print(examples.size, examples["image"].sum())
"""


def test_processes_that_prepare_at_once(tmp_path):
    root = Path(data.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS], env=environment, text=True, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    answers = {process.communicate(timeout=120)[0] for process in started}
    examples = data.load("digits", "train")
    assert answers == {f"1437 {examples['image'].sum()}\n"}
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["decoded", "digits"]


IMPORTS = """
import sys
from jaxstruct import data
heavy = {"tensorflow_datasets", "grain", "sklearn", "skimage", "scipy", "PIL", "jax"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
with data.looking(imitations=True):
    data.load("mnist", "train")
    data.load("frey_face", "train[:3]")
    data.open_reader("mnist", "test")([0])
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
AGAIN = """
import sys
from jaxstruct import data
with data.looking(imitations=True):
    assert data.load("mnist", "train").size == 1437
assert "tensorflow_datasets" not in sys.modules
"""


def test_imports(tmp_path):
    root = Path(data.__file__).parents[2]
    for code in (IMPORTS, AGAIN):
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, check=True
        )
