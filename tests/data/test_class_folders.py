"""Class folders as people make them: what is found in them, and what is refused."""

import unicodedata
import zipfile

import pytest

from jaxstruct.data import DataError, class_folders
from jaxstruct.data.class_folders import images, scan
from tests.data.written import image, pixels, write

SPLIT = [
    *("train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg"),
    *("test/cat/1.jpg", "test/dog/7.jpg"),
]
PLAIN = ["dog/b.jpg", "cat/a.JPG", "dog/deep/down/c.png"]
KINDS = ["folder", "a.zip", "a.tar", "a.tar.xz"]


def made(path, names):
    """Class folders with a different image for each name that ends as an image does."""
    contents = {name: image(seed) if "." in name else b"" for seed, name in enumerate(names)}
    return write(path, contents)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top", ["", "flowers/", "a/b/"])
def test_splits_and_classes(tmp_path, kind, top):
    found = scan(made(tmp_path / kind, [top + name for name in SPLIT]))
    assert found.classes == ("cat", "dog")
    assert found.files == {
        "train": {"train/cat/1.jpg": 0, "train/cat/2.jpg": 0, "train/dog/1.jpg": 1},
        "test": {"test/cat/1.jpg": 0, "test/dog/7.jpg": 1},
    }
    assert list(found.files) == ["train", "test"]
    assert (found.top, found.others) == (top, ())


@pytest.mark.parametrize("kind", KINDS)
def test_classes_alone_are_the_train_split(tmp_path, kind):
    found = scan(made(tmp_path / kind, PLAIN))
    assert found.classes == ("cat", "dog")
    assert found.files == {"train": {"cat/a.JPG": 0, "dog/b.jpg": 1, "dog/deep/down/c.png": 1}}


def test_one_class_is_enough(tmp_path):
    found = scan(made(tmp_path / "a", ["faces/1.jpg", "faces/2.jpg"]))
    assert (found.classes, list(found.files["train"])) == (
        ("faces",),
        ["faces/1.jpg", "faces/2.jpg"],
    )
    only = scan(made(tmp_path / "b", ["train/faces/1.jpg"]))
    assert only.files == {"train": {"train/faces/1.jpg": 0}}
    test = scan(made(tmp_path / "c", ["test/faces/1.jpg"]))
    assert (test.classes, test.files) == (("faces",), {"test": {"test/faces/1.jpg": 0}})


def test_a_class_may_be_called_train(tmp_path):
    found = scan(made(tmp_path / "a", ["bus/1.jpg", "train/1.jpg", "train/2.jpg"]))
    assert (found.classes, list(found.files)) == (("bus", "train"), ["train"])
    inside = scan(made(tmp_path / "b", ["train/train/1.jpg", "test/train/2.jpg"]))
    assert (inside.classes, list(inside.files)) == (("train",), ["train", "test"])


def test_every_split_that_is_named(tmp_path):
    splits = ["val", "test", "train"]
    found = scan(made(tmp_path / "a", [f"{split}/c/{split}.jpg" for split in splits]))
    assert {split: list(files) for split, files in found.files.items()} == {
        split: [f"{split}/c/{split}.jpg"] for split in splits
    }


def test_files_that_are_no_images_are_told(tmp_path):
    names = ["cat/1.jpg", "cat/notes.txt", "README", "labels.csv", ".DS_Store", "cat/.x.jpg"]
    found = scan(write(tmp_path / "a", {name: image() for name in names}))
    assert sorted(found.others) == ["README", "cat/notes.txt", "labels.csv"]
    assert found.files == {"train": {"cat/1.jpg": 0}}


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_other_languages(tmp_path, kind):
    apart = unicodedata.normalize("NFD", "hélice")  # as macOS writes it
    names = [f"train/{apart}/1.jpg", "test/hélice/1.jpg", "train/桜/さくら.jpg", "test/桜/2.jpg"]
    found = scan(made(tmp_path / kind, names))
    assert found.classes == ("hélice", "桜")
    assert list(found.files["train"]) == ["train/hélice/1.jpg", "train/桜/さくら.jpg"]
    contents = {name: content for name, _, content in images(found, "train")}
    assert contents == {"train/hélice/1.jpg": image(0), "train/桜/さくら.jpg": image(2)}


@pytest.mark.parametrize("kind", ["folder", "a.tar"])
def test_names_that_are_no_utf8(tmp_path, kind):
    found = scan(made(tmp_path / kind, ["h\udce9lice/\udcff.jpg", "a/1.jpg"]))
    assert found.classes == ("a", r"h\udce9lice")
    assert {name for name, _, _ in images(found, "train")} == {"a/1.jpg", r"h\udce9lice/\udcff.jpg"}


@pytest.mark.parametrize(
    ("names", "where", "problem"),
    [
        (["README"], "", "no image in it; expected images in class folders"),
        (["1.jpg", "2.jpg"], "/1.jpg", "in no class folder; expected .*CLASS/x.jpg"),
        (["cat/1.jpg", "stray.jpg"], "/stray.jpg", "in no class folder"),
        (["train/1.jpg", "test/2.jpg"], "/test/2.jpg", "in no class folder"),
        ([*SPLIT, "test/stray.jpg"], "/test/stray.jpg", "in no class folder"),
        ([*SPLIT, "stray.jpg"], "/stray.jpg", "in no class folder"),
        ([*SPLIT, "extra/cat/1.jpg"], "/extra/cat/1.jpg", "in no class folder"),
        ([*SPLIT, "train/bird/1.jpg"], "/test/bird", "no image; expected some for every class"),
        ([*PLAIN, "bird/notes.txt"], "/bird", "no image; expected some for every class"),
        ([*SPLIT, "val/notes.txt"], "/val/cat", "no image; expected some for every class"),
        (["Train/cat/1.jpg", "Test/cat/1.jpg"], "", "folders Test, Train; expected splits spelled"),
        (["train/cat/1.jpg", "testing/cat/1.jpg"], "", "folders testing, train; expected splits"),
        ([*PLAIN, " bird/1.jpg"], "", "a class is named ' bird'; expected no line break"),
        ([*PLAIN, "bi\nrd/1.jpg"], "", "a class is named 'bi.nrd'; expected no line break"),
        ([*PLAIN, "bi\rrd/1.jpg"], "", "a class is named 'bi.rrd'; expected no line break"),
    ],
)
def test_what_is_not_laid_out_so(tmp_path, names, where, problem):
    path = made(tmp_path / "a", names)
    with pytest.raises(DataError, match=problem) as error:
        scan(path)
    assert str(error.value).startswith(f"{path}{where}: ")
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_a_class_without_images(tmp_path):
    path = made(tmp_path / "a", PLAIN)
    (path / "bird").mkdir()
    with pytest.raises(DataError, match="a/bird: no image"):
        scan(path)
    nested = made(tmp_path / "b", [f"top/{name}" for name in SPLIT])
    (nested / "top" / "train" / "bird").mkdir()
    with pytest.raises(DataError, match="b/top/train/bird: no image"):
        scan(nested)


def test_one_name_twice(tmp_path):
    apart = unicodedata.normalize("NFD", "é.jpg")
    path = made(tmp_path / "a", ["cat/é.jpg", f"cat/{apart}"])
    with pytest.raises(DataError, match=r"a/cat/é\.jpg: there twice"):
        scan(path)


def test_a_split_may_be_a_link_to_another(tmp_path):
    path = made(tmp_path / "a", SPLIT)
    (path / "val").symlink_to("test")
    found = scan(path)
    assert list(found.files) == ["train", "val", "test"]
    of_val, of_test = ([content for *_, content in images(found, s)] for s in ("val", "test"))
    assert of_val == of_test == [image(3), image(4)]


def test_a_class_is_found_however_the_archive_spells_its_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for seed, name in enumerate(("./a/1.png", "a/../b/1.png", "/c/1.png", "d\\1.png")):
            archive.writestr(name, image(seed))
    found = scan(tmp_path / "a.zip")
    assert found.classes == ("a", "b", "c", "d")
    contents = [(label, content) for _, label, content in images(found, "train")]
    assert contents == [(seed, image(seed)) for seed in range(4)]


@pytest.mark.parametrize("names", [("a/1.png", "a/1.png"), ("a/1.png", "b/../a/1.png")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for seed, name in enumerate((*names, "b/1.png")):
            archive.writestr(name, image(seed))
    with pytest.raises(DataError, match=r"a.zip/a/1.png: there twice; expected it once"):
        scan(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("names", "where"), [(["cat/1.HEIC", "dog/2.heic"], ""), ([*PLAIN, "bird/1.HEIC"], "/bird")]
)
def test_images_of_a_format_that_is_not_read_are_named_with_those_that_are(tmp_path, names, where):
    path = made(tmp_path / "a", names)
    with pytest.raises(DataError, match=r"read are \.jpg, \.jpeg, \.png, ") as error:
        scan(path)
    assert str(error.value).startswith(f"{path}{where}: no image")
    assert str(error.value).endswith(
        f"; there are {sum('.h' in n.lower() for n in names)} of .heic"
    )


def test_the_report_counts_what_was_read_and_what_was_left_out(tmp_path):
    others = ["cat/a.txt", "cat/b.txt", "dog/c.txt", "d.heic", "cat/.x.jpg"]
    path = made(tmp_path / "a", [*SPLIT, *(f"train/{name}" for name in others)])
    (path / "train" / "dog" / "again").symlink_to(path / "train")
    assert class_folders.report(scan(path), ["train/cat/2.jpg"]) == [
        "train: cat 1, dog 1",
        "test: cat 1, dog 1",
        "left out, cannot be read: 1 (train/cat/2.jpg)",
        "left out, no image by its name: 4 (train/d.heic, train/cat/a.txt, train/cat/b.txt, ...)",
        "left out, hidden: 1 (train/cat/.x.jpg)",
        "left out, a link to a folder around it: 1 (train/dog/again)",
    ]


def test_the_report_of_many_classes_is_short():
    classes = tuple(f"c{number:02}" for number in range(50))
    labels = {f"{label}-{i}.jpg": label for label in range(50) for i in range(label % 7 + 1)}
    found = class_folders.ClassFolders("here", "", classes, {"train": labels}, ())
    assert class_folders.report(found) == ["train: 50 classes, from c00 1 to c06 7"]


def test_expect():
    found = class_folders.ClassFolders("here", "", ("a", "b"), {"train": {}, "test": {}}, ())
    class_folders.expect(found, ("a", "b"), ("train", "test"))
    with pytest.raises(DataError, match="here: classes a, b; expected a, c"):
        class_folders.expect(found, ("a", "c"), ("train", "test"))
    with pytest.raises(DataError, match="here: splits train, test; expected train"):
        class_folders.expect(found, ("a", "b"), ("train",))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_split(tmp_path, kind):
    found = scan(made(tmp_path / kind, [f"top/{name}" for name in SPLIT]))
    assert sorted(images(found, "test")) == [
        ("test/cat/1.jpg", 0, image(3)),
        ("test/dog/7.jpg", 1, image(4)),
    ]
    shapes = {pixels(content).shape for _, _, content in images(found, "test", size=4, crop=True)}
    assert shapes == {(4, 4, 3)}


def test_images_of_a_shape(tmp_path):
    path = made(tmp_path / "a", PLAIN)
    assert len(list(images(scan(path), "train", shape=(6, 8)))) == 3
    (path / "dog" / "b.jpg").write_bytes(image(0, (8, 6)))
    with pytest.raises(DataError, match=r"a/dog/b.jpg: 8 x 6 pixels; expected 6 x 8"):
        list(images(scan(path), "train", shape=(6, 8)))
    sizes = {name: pixels(content).shape for name, _, content in images(scan(path), "train")}
    assert sizes["dog/b.jpg"] == (8, 6, 3)


BAD = {"empty": b"", "text": b"no image", "cut": image(9)[:200]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_unreadable_images_are_refused_or_named_and_left_out(tmp_path, capsys, kind, content):
    path = write(
        tmp_path / kind, {"cat/1.jpg": image(), "cat/2.jpg": content, "dog/3.jpg": image()}
    )
    found = scan(path)
    with pytest.raises(DataError, match="expected an image that can be read") as error:
        list(images(found, "train"))
    assert str(error.value).startswith(f"{path}/cat/2.jpg: no image (")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().err == ""
    left = [name for name, _, _ in images(found, "train", skip=True)]
    assert sorted(left) == ["cat/1.jpg", "dog/3.jpg"]
    said = capsys.readouterr().err
    assert said.startswith(f"{path}/cat/2.jpg: no image (")
    assert said.endswith("): left out\n")
    assert said.count("\n") == 1


def test_a_class_of_which_nothing_can_be_read(tmp_path, capsys):
    found = scan(write(tmp_path / "a", {"cat/1.jpg": image(), "dog/1.jpg": b"", "dog/2.jpg": b""}))
    with pytest.raises(DataError, match="a: no image of dog in train can be read"):
        list(images(found, "train", skip=True))


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    found = scan(made(tmp_path / "a", PLAIN))
    (tmp_path / "a" / "dog" / "b.jpg").unlink()
    (tmp_path / "a" / "dog" / "b.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"dog/b.jpg: cannot be read .*No such file"):
        list(images(found, "train"))
    assert len(list(images(found, "train", skip=True))) == 2
