"""Folders and archives: the same files come out of all, and every way one can be bad."""

import io
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


def test_a_folder_behind_two_names_is_there_twice(tmp_path):
    write(tmp_path / "folder", {"test/c/1.txt": b"one"})
    (tmp_path / "folder" / "val").symlink_to("test")
    (tmp_path / "folder" / "best").symlink_to(tmp_path / "folder" / "val")
    found = {name: content for name, content in read(tmp_path / "folder").items() if content}
    assert found == dict.fromkeys(["test/c/1.txt", "val/c/1.txt", "best/c/1.txt"], b"one")


def test_only_links_to_a_folder_around_them_are_left_out_and_named(tmp_path):
    write(tmp_path / "outer" / "folder", {"a/1.txt": b"one", "b/2.txt": b"two"})
    links = {"a/top": "..", "a/itself": ".", "a/out": "../..", "a/to_b": "../b", "b/to_a": "../a"}
    for name, target in links.items():
        (tmp_path / "outer" / "folder" / name).symlink_to(target)
    left_out: list[tuple[str, str]] = []
    found = [name for name, _ in files(tmp_path / "outer" / "folder", "", left_out) if "." in name]
    assert sorted(found) == ["a/1.txt", "a/to_b/2.txt", "b/2.txt", "b/to_a/1.txt"]
    around = {"a/top", "a/itself", "a/out", "a/to_b/to_a"}
    around |= {"b/to_a/top", "b/to_a/itself", "b/to_a/out", "b/to_a/to_b"}
    assert sorted(left_out) == [(name, "a link to a folder around it") for name in sorted(around)]


def test_what_is_hidden_or_no_file_is_left_out_and_named(tmp_path):
    path = write(tmp_path / "folder", FILES | HIDDEN)
    os.mkfifo(path / "a" / "pipe.txt")  # reading it would wait for ever
    left_out: list[tuple[str, str]] = []
    assert {name for name, _ in files(path, "", left_out)} == FILES.keys() | FOLDERS
    hidden = [(".DS_Store", "hidden"), (".git/", "hidden"), ("__MACOSX/a/1.txt", "hidden")]
    assert sorted(left_out) == [*hidden, ("a/._1.txt", "hidden"), ("a/pipe.txt", "no file")]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(path, ".")
    left_out.clear()
    assert {name for name, _ in files(tmp_path / "a.tar", "", left_out)} == FILES.keys() | FOLDERS
    assert ("a/pipe.txt", "no file") in left_out
    assert (".git/config", "hidden") in left_out


def pack(path: Path, members: dict[str, bytes | tuple[bytes, str]]) -> Path:
    """A zip or tar of names as they are given; (type, target) is a link of a tar's type."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                entry = zipfile.ZipInfo(name)
                linked = isinstance(content, tuple)
                entry.external_attr = (0o120777 if linked else 0o100644) << 16
                archive.writestr(entry, content[1] if isinstance(content, tuple) else content)
        return path
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


PACKED = ["a.zip", "a.tar"]
SOFT, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize(
    "name", ["a/../b/1.png", "./b/1.png", "b/./1.png", "b//1.png", "/b/1.png", "//x/../b/1.png"]
)
def test_a_name_is_seen_from_the_archive_s_top(tmp_path, kind, name):
    path = pack(tmp_path / kind, {"a/1.png": b"a", name: b"b", "c/1.png": b"c"})
    assert read(path) == {"a/1.png": b"a", "b/1.png": b"b", "c/1.png": b"c"}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", ["../b/1.png", "a/../../b/1.png", "/../b/1.png"])
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path, kind, name):
    path = pack(tmp_path / kind, {"a/1.png": b"a", name: b"b"})
    with pytest.raises(DataError, match="leads out of the archive; expected names inside") as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {name} leads")


def test_a_backslash_is_a_slash_in_a_zip_and_refused_elsewhere(tmp_path):
    names = {"a\\b\\1.png": b"b", "a\\": b""}
    assert read(pack(tmp_path / "a.zip", names)) == {"a/b/1.png": b"b", "a/": b""}
    for path in (
        pack(tmp_path / "a.tar", {"top/a\\1.png": b"x"}),
        write(tmp_path / "folder", {"top/a\\1.png": b"x"}),
    ):
        with pytest.raises(DataError, match=r"a backslash in its name; expected slashes") as error:
            read(path)
        assert str(error.value).startswith(f"{path}/top/a\\1.png: ")


@pytest.mark.parametrize("kind", PACKED)
def test_links_in_an_archive_are_followed(tmp_path, kind):
    members = {
        "val": (SOFT, "test"),  # before what it leads to
        "test/c/1.png": b"one",
        "test/c/2.png": (SOFT, "1.png"),
        "test/c/3.png": (SOFT, "../../val/c/2.png"),
        "more/best": (SOFT, "../val"),
    }
    numbers = [f"c/{number}.png" for number in (1, 2, 3)]
    wanted = {f"{top}/{n}": b"one" for top in ("test", "val", "more/best") for n in numbers}
    found = {
        name: content for name, content in read(pack(tmp_path / kind, members)).items() if content
    }
    assert found == wanted


@pytest.mark.parametrize("kind", PACKED)
def test_links_in_a_circle_are_left_out_and_named(tmp_path, kind):
    links = {"a/top": "..", "a/itself": ".", "a/to_b": "../b", "b/to_a": "../a"}
    members = {"a/1.png": b"a", "b/2.png": b"b"}
    path = pack(tmp_path / kind, members | {name: (SOFT, to) for name, to in links.items()})
    left_out: list[tuple[str, str]] = []
    found = [name for name, _ in files(path, "", left_out) if name.endswith(".png")]
    assert sorted(found) == ["a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png"]
    around = ["a/itself", "a/to_b/to_a", "a/top", "b/to_a/itself", "b/to_a/to_b", "b/to_a/top"]
    assert sorted(left_out) == [(name, "a link to a folder around it") for name in around]


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("target", ["2.png", "/etc/passwd", "../../etc/passwd", "link.png", "../x"])
def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(tmp_path, kind, target):
    path = pack(tmp_path / kind, {"a/1.png": b"a", "a/link.png": (SOFT, target)})
    found = dict(files(path, "what is told"))
    assert sorted(found) == ["a/1.png", "a/link.png"]
    with pytest.raises(DataError, match=f"link.png: cannot be read .a link to {target}, which is"):
        found["a/link.png"]()


def test_a_hard_link_to_nothing_is_named(tmp_path):
    path = pack(tmp_path / "a.tar", {"a/1.png": (HARD, "a/2.png")})
    with pytest.raises(DataError, match=r"a\.tar/a/1\.png: cannot be read .*2\.png"):
        read(path)


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
    words = (
        r"a\.zip/1\.txt: cannot be read \(Bad CRC-32 for file '1\.txt'\); a\.zip is cut short or "
        r"corrupt, get it again; expected what is told$"
    )
    with pytest.raises(DataError, match=words):
        next(found)[1]()
    assert next(found)[1]() == b"two"


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


@pytest.mark.parametrize("size", [9, 100_000])
@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("a.tar.gz", lambda content: flipped(content, -8), "CRC check failed"),
        ("a.tar.gz", lambda content: content[:-4], "Compressed file ended"),
        ("a.tar.gz", lambda content: content + b"and more", "other bytes behind its end"),
        ("a.tar.bz2", lambda content: flipped(content, 10), "Invalid data stream"),
        ("a.tar.xz", lambda content: flipped(content, -9), "Corrupt input data"),
    ],
    ids=["gz", "gz cut", "gz and more", "bz2", "xz"],
)
def test_a_wrong_checksum_is_named_wherever_it_stands(tmp_path, kind, spoil, reason, size):
    path = write(tmp_path / kind, {"a.txt": np.random.default_rng(0).bytes(size)})
    path.write_bytes(spoil(path.read_bytes()))
    words = (
        rf"^{path}(/a\.txt)?: cannot be read \({reason}.*\); {kind} is cut short or corrupt, "
        "get it again; expected what is told$"
    )
    with pytest.raises(DataError, match=words):
        read(path)


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
