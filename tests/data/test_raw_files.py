"""Raw files that are told from others: by names, sizes and dates, and by their contents."""

import errno
import json
import os
import shutil

import pytest

from jaxstruct import data
from jaxstruct.data import CATALOGUE, DataError, raw_files
from jaxstruct.data.sets._scenes import imitate_voc


@pytest.fixture
def folder(tmp_path):
    """A folder with files, one behind a link, and a folder behind another."""
    (tmp_path / "aside" / "lists").mkdir(parents=True)
    (tmp_path / "aside" / "lists" / "train.txt").write_text("1\n")
    (tmp_path / "aside" / "b.bin").write_bytes(b"b")
    (tmp_path / "set" / "in").mkdir(parents=True)
    (tmp_path / "set" / "in" / "a.bin").write_bytes(b"a")
    (tmp_path / "set" / "b.bin").symlink_to(tmp_path / "aside" / "b.bin")
    (tmp_path / "set" / "lists").symlink_to(tmp_path / "aside" / "lists")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "dead").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "set" / "pipe")  # which nobody waits for
    return tmp_path / "set"


def signs(path):
    stamp = raw_files.stamp_of({"set": path})
    return stamp, raw_files.digests_of({"set": path}, stamp)["set"]


CHANGES = {
    "content": lambda f: (f / "in" / "a.bin").write_bytes(b"A!"),
    "behind a link": lambda f: (f / "b.bin").resolve().write_bytes(b"B!"),
    "behind a link to a folder": lambda f: (f / "lists" / "train.txt").write_text("1\n2\n"),
    "a name": lambda f: (f / "in" / "a.bin").rename(f / "in" / "c.bin"),
    "one more": lambda f: (f / "lists" / "val.txt").write_text(""),
    "one less": lambda f: (f / "b.bin").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(folder, change):
    before = signs(folder)
    change(folder)
    after = signs(folder)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_other_dates_change_the_stamp_alone(folder):
    before = signs(folder)
    os.utime(folder / "b.bin", (1, 1))
    after = signs(folder)
    assert before[0] != after[0]
    assert before[1] == after[1]
    os.utime(folder / "in", (1, 1))  # a folder's own date says nothing
    assert signs(folder) == after


def test_a_copy_has_the_same_digest_and_by_its_dates_the_same_stamp(folder, tmp_path):
    (folder / "round").unlink()  # which a copy without links would follow without end
    (folder / "pipe").unlink()
    (folder / "dead").unlink()
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "more").mkdir()
    (copy / "more").rmdir()
    assert signs(copy) == signs(folder)


def test_contents_are_read_once_in_a_process(folder, monkeypatch):
    found = signs(folder)
    monkeypatch.setattr(raw_files.hashlib, "file_digest", None)
    assert signs(folder) == found


# Of a set that is prepared.


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Files of `bccd`, in $JAXSTRUCT_DATA, of which the set is prepared."""
    folder = tmp_path / "raw" / "bccd"
    folder.mkdir(parents=True)
    lists = {"Main/train": 3, "Main/val": 2, "Main/test": 2}
    imitate_voc(folder, classes=CATALOGUE["bccd"].classes, size=(30, 40), lists=lists)
    monkeypatch.setenv("JAXSTRUCT_DATA", str(tmp_path / "raw"))
    return folder


@pytest.fixture
def preparations(monkeypatch):
    """What is prepared from now on."""
    made, build = [], data.prepared.build

    def counted(name, *given, **options):
        made.append(name)
        return build(name, *given, **options)

    monkeypatch.setattr(data.prepared, "build", counted)
    return made


def forget():
    """What another process does not know."""
    raw_files._digest.cache_clear()


def dated_anew(folder, seconds=1.0):
    for path in folder.rglob("*"):
        os.utime(path, (seconds, seconds))


def test_other_dates_alone_prepare_nothing_and_are_compared_once(raw, preparations, monkeypatch):
    path = data.prepare("bccd").path
    other = shutil.copytree(raw, raw.parents[1] / "other" / "bccd")
    dated_anew(other)
    for root in (other.parent, raw.parent):
        monkeypatch.setenv("JAXSTRUCT_DATA", str(root))
        forget()
        data.open_reader("bccd", "train")
    # Of both, the dates are known now.
    monkeypatch.setattr(raw_files, "digests_of", None)
    for root in (other.parent, raw.parent):
        monkeypatch.setenv("JAXSTRUCT_DATA", str(root))
        data.open_reader("bccd", "train")
    assert preparations == ["bccd"]
    assert len(json.loads((path / "jaxstruct.json").read_text())["stamps"]) == 2
    assert not [*path.glob(".*")]


def test_the_dates_of_a_few_copies_are_kept(raw):
    path = data.prepare("bccd").path
    for second in range(20):
        dated_anew(raw, second)
        data.prepare("bccd")
    record = json.loads((path / "jaxstruct.json").read_text())
    assert len(record["stamps"]) == 16
    assert record["stamps"][-1] == raw_files.stamp_of(data.prepared._of_entry("bccd", raw))


def test_other_contents_behind_a_link_are_prepared_again(raw, tmp_path, preparations):
    shutil.move(raw / "ImageSets", tmp_path / "lists")
    (raw / "ImageSets").symlink_to(tmp_path / "lists")
    assert data.open_reader("bccd", "train").size == 3
    names = (tmp_path / "lists" / "Main" / "train.txt").read_text().split()
    (tmp_path / "lists" / "Main" / "train.txt").write_text("\n".join(names[:2]))
    assert data.open_reader("bccd", "train").size == 2
    assert preparations == ["bccd"] * 2


def test_a_record_without_digests_is_prepared_again_once(raw, preparations):
    path = data.prepare("bccd").path / "jaxstruct.json"
    record = json.loads(path.read_text())
    del record["stamps"]
    record["raw"] = {name: [1, 2] for name in record["raw"]}  # as they were: sizes and dates
    path.write_text(json.dumps(record))
    for _ in range(2):
        data.open_reader("bccd", "train")
    assert preparations == ["bccd"] * 2


def test_where_nothing_can_be_written_other_dates_do_no_harm_and_other_contents_are_named(
    raw, preparations, monkeypatch
):
    data.prepare("bccd")
    before = (data.places.prepared_root() / "bccd" / "1.0.0" / "jaxstruct.json").read_text()
    dated_anew(raw)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(data.on_disk.Path, "write_text", refuse)
    monkeypatch.setattr(data.places.tempfile, "TemporaryDirectory", refuse)
    forget()
    assert data.open_reader("bccd", "train").size == 3
    assert preparations == ["bccd"]
    name = (raw / "ImageSets" / "Main" / "train.txt").read_text().split()[0]
    (raw / "ImageSets" / "Main" / "train.txt").write_bytes(name.encode())
    with pytest.raises(DataError, match=r"prepared: cannot be written \(Read-only file system\)"):
        data.open_reader("bccd", "train")
    path = data.places.prepared_root() / "bccd" / "1.0.0" / "jaxstruct.json"
    assert path.read_text() == before
