"""Folders and archives: the same files come out of all, and every way one can be bad."""

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxstruct.data import DataError
from jaxstruct.data.archives import files
from tests.data.written import write

FILES = {"a/1.txt": b"one", "a/b/2.txt": b"two" * 1000, "é/3.txt": b"", "4.txt": b"four"}
FOLDERS = {"a/", "a/b/", "é/"}
HIDDEN = {".DS_Store": b"x", "a/._1.txt": b"x", "__MACOSX/a/1.txt": b"x", ".git/config": b"x"}
KINDS = ["folder", "a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"]


def read(path: Path) -> dict[str, bytes]:
    return {name: content() for name, content in files(path, "what is told")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_files_come_out_of_all(tmp_path, kind):
    found = read(write(tmp_path / kind, FILES | HIDDEN))
    assert found == FILES | dict.fromkeys(FOLDERS, b"")


def test_the_files_of_a_folder_come_by_name(tmp_path):
    found = [name for name, _ in files(write(tmp_path / "folder", FILES), "")]
    assert found == ["a/", "é/", "4.txt", "a/b/", "a/1.txt", "a/b/2.txt", "é/3.txt"]


def test_names_that_tar_writes_otherwise(tmp_path):
    with tarfile.open(write(tmp_path / "folder", FILES).with_suffix(".tar"), "w") as archive:
        archive.add(tmp_path / "folder", ".")
    assert read(tmp_path / "folder.tar") == FILES | dict.fromkeys(FOLDERS, b"")


def test_links_are_followed_once(tmp_path):
    write(tmp_path / "folder", FILES)
    write(tmp_path / "other", {"5.txt": b"five"})
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "folder" / "a" / "round").symlink_to(tmp_path / "folder")
    assert read(tmp_path / "folder") == FILES | dict.fromkeys(FOLDERS, b"") | {
        "linked/": b"",
        "linked/5.txt": b"five",
    }


def test_a_hard_link_in_a_tar(tmp_path):
    write(tmp_path / "folder", {"1.txt": b"one"})
    os.link(tmp_path / "folder" / "1.txt", tmp_path / "folder" / "2.txt")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "folder", "c")
    assert read(tmp_path / "a.tar.gz") == {"c/": b"", "c/1.txt": b"one", "c/2.txt": b"one"}


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = write(tmp_path / "a.zip", FILES).read_bytes()
    assert read(write(tmp_path / "a.tar", {"inner.zip": inner})) == {"inner.zip": inner}


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_cut_archive_is_named(tmp_path, kind, share):
    rng = np.random.default_rng(0)
    path = write(tmp_path / kind, {f"{i}.txt": rng.bytes(900) for i in range(50)})
    content = path.read_bytes()
    length = int(len(content) * share)
    for cut in (length, length // 512 * 512):  # in a block of a tar, and between two
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"cannot be read .*expected what is told") as error:
            read(path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)


def test_a_bad_header_is_not_taken_for_the_end(tmp_path):
    path = write(tmp_path / "a.tar", {f"{i}.txt": b"x" for i in range(9)})
    content = bytearray(path.read_bytes())
    content[4 * 1024 + 150] ^= 1  # the checksum of the fourth or fifth header
    path.write_bytes(content)
    with pytest.raises(DataError, match="a bad header"):
        read(path)


def test_a_bad_member_is_named_and_the_next_can_be_read(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.txt", b"one and only")
        archive.writestr("2.txt", b"two")
    path.write_bytes(path.read_bytes().replace(b"one and", b"one amd"))
    found = files(path, "what is told")
    with pytest.raises(DataError, match=r"a\.zip/1\.txt: cannot be read \(Bad CRC"):
        next(found)[1]()
    assert next(found)[1]() == b"two"


def test_what_is_no_archive(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "empty.tar").touch()
    for path, problem in (
        (tmp_path / "text.zip", r"no zip and no tar archive"),
        (tmp_path / "empty.tar", r"no zip and no tar archive|empty"),
        (tmp_path / "missing.tar", "missing"),
    ):
        with pytest.raises(DataError, match=f"{problem}.*expected what is told") as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")


def test_a_file_without_read_permission_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "folder", FILES)

    def refuse(self, *arguments):  # what anyone but root meets
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"4\.txt: cannot be read .*Permission denied"):
        read(path)
