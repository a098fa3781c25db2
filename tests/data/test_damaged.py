"""Prepared sets that are damaged, and disks that fill while one is prepared."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.data import DataError, download, places
from jaxstruct.data.__main__ import main
from tests.data.written import image, write

RECORDS = ["jaxstruct.json", "dataset_info.json"]
GARBAGE = {"empty": b"", "garbage": b"\xff\x00\xfe", "{}": b"{}", "[]": b"[]", "5": b"5"}
GARBAGE |= {"of strings": b'{"origin": [], "raw": 1, "splits": "x", "version": "1.0.0"}'}
GARBAGE |= {"deep": b"[" * 100_000}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with raw MNIST, a prepared one, own images, and a set prepared with TFDS."""
    root = tmp_path_factory.mktemp("whole")
    from tests.data.conftest import _write_mnist
    from tests.data.test_sources import users_set

    _write_mnist(root / "raw" / "mnist")
    own = {f"{name}/{i}.jpg": image(i) for name in ("cat", "dog") for i in range(3)}
    with pytest.MonkeyPatch.context() as patch, data.looking(root / "raw"):
        patch.setenv("JAXSTRUCT_PREPARED", str(root / "prepared"))
        data.load("mnist", "train")
        data.prepare_folder("pets", write(root / "images", own))
        users_set(root / "tfds", file_format="array_record")
    return root


@pytest.fixture
def place(whole, tmp_path):
    """A copy of it, whose prepared sets are looked for."""
    ignored = shutil.ignore_patterns("decoded")
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True, ignore=ignored)
    return tmp_path


MNIST, PETS, SHAPES = "prepared/mnist/1.0.0", "prepared/own/pets/1.0.0", "tfds/shapes/2.1.0"


def labels() -> list[int]:
    return data.load("mnist", "train")["label"].tolist()


def records_of(folder: Path) -> Path:
    return next(folder.glob("*-train.array_record*"))


def assert_named_and_listed(name: str, folder: Path, remedy: str, capsys) -> None:
    """One line where it is loaded; a list that shows all the others."""
    for read in (data.load, data.open_reader):
        with pytest.raises(DataError) as error:
            read(name, "train")
        assert str(error.value).startswith(f"{folder}: damaged (")
        assert remedy in str(error.value)
        assert "\n" not in str(error.value)
    capsys.readouterr()
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert re.search(f"^{name} +- +damaged ", said, re.MULTILINE)
    assert f"{name}: {folder}: damaged (" in said
    assert re.search("^digits ", said, re.MULTILINE)
    assert main(["describe", name]) == 0
    assert f"prepared: {folder}: damaged (" in capsys.readouterr().out


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("record", RECORDS)
def test_damaged_records_are_made_again_of_raw_files_or_named(place, capsys, record, content):
    (place / MNIST / record).write_bytes(content)
    assert_named_and_listed(
        "mnist", place / MNIST, "get it with: python -m jaxstruct.data prepare mnist", capsys
    )
    with data.looking(place / "raw"):
        assert labels() == [*range(10), 0, 1]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{place / MNIST}: damaged, so mnist is prepared again"
    assert labels() == [*range(10), 0, 1]  # without raw files, too
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_set_of_own_images_is_named(place, capsys, record, content):
    (place / PETS / record).write_bytes(content)
    remedy = "prepare it again with: python -m jaxstruct.data prepare pets --from PATH"
    assert_named_and_listed("pets", place / PETS, remedy, capsys)
    assert main(["prepare", "pets"]) == 1
    assert remedy in capsys.readouterr().err
    assert main(["prepare", "pets", "--from", str(place / "images")]) == 0
    assert data.load("pets", "train").size == 6


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"5"])
def test_a_damaged_set_of_tfds_is_named(place, capsys, content):
    (place / SHAPES / "dataset_info.json").write_bytes(content)
    folder = place / "tfds" / "shapes"
    with pytest.raises(DataError, match=r"damaged \(.*with TensorFlow Datasets") as error:
        data.open_reader("shapes", "train")
    assert str(error.value).startswith(str(folder))
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert re.search("^shapes +- +damaged ", said, re.MULTILINE)
    assert re.search("^mnist +train 12, test 5 ", said, re.MULTILINE)


@pytest.mark.parametrize("missing", [*RECORDS, "features.json"])
def test_a_set_without_one_of_its_files_is_damaged(place, capsys, missing):
    (place / PETS / missing).unlink()
    remedy = "prepare it again with"
    assert_named_and_listed("pets", place / PETS, remedy, capsys)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def overwritten(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(content))


@pytest.mark.parametrize("damage", [cut, overwritten, lambda _: b""], ids=["cut", "other", "empty"])
@pytest.mark.parametrize("read", ["load", "open_reader"])
def test_damaged_examples_are_made_again_of_raw_files_or_named(place, damage, read):
    file = records_of(place / MNIST)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    with pytest.raises(DataError, match=r"1\.0\.0: damaged.*prepare mnist$") as error:
        getattr(data, read)("mnist", "train")
    assert "\n" not in str(error.value)
    with data.looking(place / "raw"):
        found = getattr(data, read)("mnist", "train")
    found = found(np.arange(12)) if read == "open_reader" else found
    assert found["label"].tolist() == [*range(10), 0, 1]
    assert len(file.read_bytes()) == len(content)


def test_what_another_process_has_not_finished_is_no_set(place, capsys):
    (place / "prepared" / "own" / ".unfinished-x" / "cats" / "1.0.0").mkdir(parents=True)
    assert main(["list"]) == 0
    assert "unfinished" not in capsys.readouterr().out


def test_damaged_examples_of_own_images_are_named(place):
    file = records_of(place / PETS)
    file.write_bytes(overwritten(file.read_bytes()))
    for read in (data.load, data.open_reader):
        with pytest.raises(
            DataError, match=r"damaged \(.+\); expected .* prepare pets --from PATH$"
        ):
            read("pets", "train")


def test_a_cut_set_is_listed_as_damaged_and_prepared_again(place, capsys):
    file = records_of(place / MNIST)
    file.write_bytes(cut(file.read_bytes()))
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert re.search("^mnist +- +damaged ", said, re.MULTILINE)
    assert re.search("^pets +train 6 ", said, re.MULTILINE)
    assert f"{file.name} has " in said
    assert main(["prepare", "mnist", "--data-dir", str(place / "raw")]) == 0
    assert "12 train, 5 test (official)" in capsys.readouterr().out
    assert labels() == [*range(10), 0, 1]


def test_examples_that_turn_out_damaged_while_they_are_read_are_named(place):
    file = records_of(place / MNIST)
    content = bytearray(file.read_bytes())
    content[4000:6000] = bytes(2000)  # of 12 records of some 850 bytes
    file.write_bytes(content)
    reader = data.open_reader("mnist", "train")
    with pytest.raises(DataError, match=r"mnist/1\.0\.0: damaged .*expected a prepared") as error:
        reader(np.arange(12))
    assert "\n" not in str(error.value)


def test_a_damaged_imitation_is_made_again(tmp_path):
    with data.looking(imitations=True):
        size = data.load("frey_face", "train").size
        folder = next(tmp_path.glob("prepared/imitations/*/frey_face/*"))
        (folder / "jaxstruct.json").write_text("[]")
        assert data.load("frey_face", "train").size == size
        records_of(folder).write_bytes(b"x" * records_of(folder).stat().st_size)
        shutil.rmtree(tmp_path / "prepared" / "decoded")
        assert data.load("frey_face", "train").size == size


@pytest.mark.parametrize("damage", [cut, overwritten, lambda _: b"", None])
@pytest.mark.parametrize("key", ["image", "label"])
def test_damaged_decoded_arrays_are_made_again(place, damage, key):
    before = data.load("mnist", "train")[key].copy()
    (file,) = (place / "prepared" / "decoded").glob(f"*/train/*/{key}.npy")
    content = file.read_bytes()
    file.unlink()
    if damage:
        file.write_bytes(damage(content))
    np.testing.assert_array_equal(data.load("mnist", "train")[key], before)
    assert file.read_bytes() == content


FULL = """
import resource, signal, sys
from pathlib import Path
from jaxstruct.data.__main__ import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the writer gets an error, as of a full disk
for size in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    status = main(sys.argv[1].split())
    assert status == 1, status
"""


def test_a_disk_that_fills_while_a_set_is_prepared_is_one_line_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, "prepare digits", "500", "20000", "250000"],
        env={**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    root = tmp_path / "prepared"
    assert lines == 3 * [
        f"error: {root}: cannot be written (File too large); expected a folder with room for "
        "prepared sets; make room there, or set JAXSTRUCT_PREPARED to another one"
    ]
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_what_was_written_is_read_before_it_is_taken_for_whole(monkeypatch, tmp_path):
    from array_record.python import array_record_module

    class Forgetful(array_record_module.ArrayRecordWriter):
        """Says nothing where the disk is full."""

        def write(self, record):
            return None

    monkeypatch.setattr(array_record_module, "ArrayRecordWriter", Forgetful)
    with pytest.raises(DataError, match=r"prepared: cannot be written .what was written cannot be"):
        data.prepare("digits")
    assert [path for path in (tmp_path / "prepared").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_of_decoded_arrays_is_one_line(place, monkeypatch, number):
    def save(file, array):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save)
        with pytest.raises(DataError) as error:
            data.load("mnist", "train")
    assert f"prepared: cannot be written ({os.strerror(number)}); expected a folder " in str(
        error.value
    )
    assert ("make room there" in str(error.value)) == (number != errno.EIO)
    assert labels() == [*range(10), 0, 1]


def test_a_full_disk_of_downloads_is_named_not_the_address(tmp_path, monkeypatch):
    def copy(answer, out):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "there").write_bytes(b"x")
    file = data.catalogue.CATALOGUE["mnist"].files[0]
    file = type(file)("x", ((tmp_path / "there").as_uri(),), md5="0")
    monkeypatch.setattr(download.shutil, "copyfileobj", copy)
    with pytest.raises(
        DataError, match=r"into: cannot be written .No space left on device"
    ) as error:
        download.fetch([file], tmp_path / "into")
    assert "choose another with --data-dir" in str(error.value)
    assert list((tmp_path / "into").iterdir()) == []


def test_a_raw_file_that_cannot_be_read_is_no_full_disk(tmp_path):
    missing = tmp_path / "raw"
    with (
        pytest.raises(DataError, match=r"raw: cannot be read \(No such file") as error,
        places.workshop(tmp_path / "prepared"),
    ):
        missing.read_bytes()
    assert str(error.value).startswith(f"{missing}: ")
