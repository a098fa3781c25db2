"""What a library's reader raises, and what it would fill the memory with, is one DataError."""

import gzip
import io
import json
import lzma
import os
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from PIL import Image

from jaxstruct import data
from jaxstruct.data import DataError, archives, coco, errors, idx, image_files, matlab
from tests.data.written import image
from tests.fuzz import raw_kinds
from tests.fuzz.fuzzing import VALUES, WORDS, outcome, places, report

RAISED = [
    *(SyntaxError("no"), struct.error("no"), OverflowError("no"), MemoryError()),
    *(RecursionError("no"), zlib.error("no"), EOFError(), Image.DecompressionBombError("no")),
    *(KeyError("no"), ValueError()),
    *(lzma.LZMAError("no"), IndexError("no"), AttributeError("a\nb"), NotImplementedError("no")),
    *(AssertionError(), LookupError("no"), UnicodeDecodeError("utf-8", b"", 0, 1, "no")),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("mat", "scipy.io.whosmat"),
        ("mat", "scipy.io.loadmat"),
        ("zip", "zipfile.ZipFile.infolist"),
        ("tar.xz", "tarfile.TarFile.next"),
        ("tar.gz", "tarfile.TarFile.extractfile"),
        ("batches", "pickletools.genops"),
        ("weights", "zipfile.ZipFile.read"),
        ("XML", "xml.etree.ElementTree.fromstring"),
        ("COCO", "json.loads"),
        ("rooms", "PIL.Image.open"),
        ("masks", "PIL.ImageFile.ImageFile.load"),
        ("images", "PIL.ImageFile.ImageFile.load"),
        ("label maps", "PIL.ImageFile.ImageFile.load"),
    ],
)
def test_whatever_a_library_raises_is_one_line(tmp_path, monkeypatch, kind, function, error):
    raw_kinds.KINDS[kind].write(tmp_path)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(function, fail)
    found = outcome(
        lambda: raw_kinds.KINDS[kind].read(tmp_path), statuses={1}, names=[str(tmp_path)]
    )
    assert not found.faults, found.faults


def test_a_reason_is_one_line_and_never_empty():
    assert errors.reason(OSError(2, "No such file", "x")) == "No such file"
    assert errors.reason(MemoryError()) == "MemoryError"
    assert errors.reason(ValueError(" \nx")) == "x"
    assert errors.reason(ValueError("a\rb\x1b[0mé\udce9")) == "a\\rb\\x1b[0mé\\udce9"
    assert len(errors.reason(ValueError("a" * 9999))) == 200
    assert str(DataError("a\nb\u2028c é\u3000")) == "a\\nb\\u2028c é\u3000"


def nested(depth: int) -> bytes:
    """A .mat file whose `ff` is a cell in a cell in a cell, so many times."""

    def part(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    def array(of_class, name, content):
        flags, shape = struct.pack("<II", of_class, 0), struct.pack("<2i", 1, 1)
        return part(14, part(6, flags) + part(5, shape) + part(1, name) + content)

    inside = array(9, b"", part(2, b"\1"))
    for _ in range(depth):
        inside = array(1, b"", inside)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    return head + array(1, b"ff", inside)


def test_cells_that_would_end_the_process_are_refused(tmp_path):
    path = tmp_path / "x.mat"
    path.write_bytes(nested(20_000))
    code = (
        "import sys; from pathlib import Path; from jaxstruct.data import matlab\n"
        "matlab.read(Path(sys.argv[1]), 'ff', 'faces')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1  # not -11
    assert done.stderr.endswith(f"{path}: `ff` is of class cell; expected faces\n")


def test_cells_in_cells_are_refused_without_following_them(tmp_path):
    path = tmp_path / "x.mat"
    path.write_bytes(nested(20_000))
    with pytest.raises(DataError, match=r"version 5 \(a cell of class 1, expected one row of text"):
        matlab.read_cells(path, "ff", "names")


def test_a_cell_array_beside_other_variables_is_read(tmp_path):
    cells = np.empty((2, 1), object)
    cells[:, 0] = ["é x", np.arange(6, dtype="i2").reshape(2, 3)]
    other = {"a": {"b": 1}, "c": "text", "d": np.ones((2, 2)), "e": 1j, "f": np.array(["a", "bc"])}
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "x.mat", {**other, "ff": cells}, do_compression=compressed)
        text, numbers = matlab.read_cells(tmp_path / "x.mat", "ff", "cells")
        assert text == "é x"
        assert numbers.tolist() == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(DataError, match=r"x\.mat: no cells `d` in it; expected cells"):
            matlab.read_cells(tmp_path / "x.mat", "d", "cells")


def test_cells_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    cells = np.empty((1, 1), object)
    cells[0, 0] = np.zeros((1, 10_001), "u1")
    scipy.io.savemat(tmp_path / "x.mat", {"ff": cells}, do_compression=True)
    assert len(matlab.read_cells(tmp_path / "x.mat", "ff", "zeros")) == 1
    monkeypatch.setattr(matlab, "most_unpacked", lambda packed: 10_000)
    with pytest.raises(DataError, match=r"cut short, or too large when it is unpacked"):
        matlab.read_cells(tmp_path / "x.mat", "ff", "zeros")
    # A header that promises more cells than there are.
    scipy.io.savemat(tmp_path / "x.mat", {"ff": cells})
    content = (tmp_path / "x.mat").read_bytes()
    lied = content.replace(struct.pack("<2i", 1, 1), struct.pack("<2i", 1, 2**30), 1)
    (tmp_path / "x.mat").write_bytes(lied)
    with pytest.raises(DataError, match=r"1 cells in \(1, 1073741824\), expected one row"):
        matlab.read_cells(tmp_path / "x.mat", "ff", "zeros")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (scipy.sparse.csc_array(np.eye(3)), "of class sparse"),
        ({"a": 1}, "of class struct"),
        ("text", "of class char"),
    ],
)
def test_a_variable_of_another_class_is_refused(tmp_path, value, said):
    scipy.io.savemat(tmp_path / "x.mat", {"ff": value})
    with pytest.raises(DataError, match=said):
        matlab.read(tmp_path / "x.mat", "ff", "faces")


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "?"])
def test_an_array_of_any_dtype_is_read(tmp_path, dtype):
    values = np.eye(3).astype(dtype)
    scipy.io.savemat(tmp_path / "x.mat", {"ff": values, "other": {"a": 1}})
    np.testing.assert_array_equal(matlab.read(tmp_path / "x.mat", "ff", "faces"), values)


@pytest.fixture
def small(monkeypatch):
    """So many bytes may be unpacked of any file, in the place of 1 GiB and more."""
    monkeypatch.setattr(errors, "most_unpacked", lambda packed: 10_000)


def test_a_few_bytes_that_would_fill_the_memory_are_refused(tmp_path, small):
    zeros = bytes(10_001)
    (tmp_path / "x.gz").write_bytes(gzip.compress(zeros))
    with pytest.raises(DataError, match=r"x\.gz: cannot be read \(it becomes more than 10,000 byt"):
        errors.read_raw(tmp_path / "x.gz", "zeros")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", zeros)
    with tarfile.open(tmp_path / "x.tar.xz", "w:xz") as archive:
        member = tarfile.TarInfo("a/1.jpg")
        member.size = len(zeros)
        archive.addfile(member, io.BytesIO(zeros))
    for name in ("x.zip", "x.tar.xz"):
        with pytest.raises(
            DataError, match=rf"{re.escape(name)}: cannot be read .* 10,001, expect"
        ):
            list(archives.files(tmp_path / name, "images"))
    scipy.io.savemat(tmp_path / "x.mat", {"ff": np.zeros((1, 10_001), "u1")}, do_compression=True)
    with pytest.raises(DataError, match=r"x\.mat: cannot be read as MATLAB .* 10,001, expected"):
        matlab.read(tmp_path / "x.mat", "ff", "zeros")


def test_what_is_packed_as_usual_is_read(tmp_path):
    assert errors.most_unpacked(10) == 2**30
    assert errors.most_unpacked(2**30) == 100 * 2**30
    zeros = np.zeros((40_000, 28, 28), np.uint8)
    idx.write(tmp_path / "x.gz", zeros)
    assert (tmp_path / "x.gz").stat().st_size * 900 < zeros.size
    assert idx.read(tmp_path / "x.gz", 3, "zeros").shape == zeros.shape


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_the_densest_image_is_read_and_a_header_alone_is_not(tmp_path, mode):
    path = tmp_path / "x.png"
    Image.new(mode, (8200, 8200)).save(path)  # black, as dense as PNG can be
    with image_files.opened_by_pillow(path) as opened:
        opened.load()
    header = bytearray(image(format="BMP")[:54])
    header[18:26] = struct.pack("<2i", 13_000, 13_000)
    path.write_bytes(bytes(header))
    for read in (data.read_image, data.read_labels):
        with pytest.raises(DataError, match=r"x\.png is not .*13,000 x 13,000 pixels in 54 bytes"):
            read(path)
    with pytest.raises(DataError, match=r"13,000 x 13,000 pixels in 54 bytes"):
        image_files.read_encoded(path, "an image")


def test_no_program_is_started_for_a_drawing(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n"
    )
    with pytest.raises(DataError, match="cannot identify image file"):
        data.read_image(path)
    with pytest.raises(DataError, match="of no kind that is known"):
        image_files.read_encoded(path, "an image")


def test_pillow_neither_warns_nor_logs(tmp_path):
    raw_kinds._images(tmp_path)
    content = (tmp_path / "5.tif").read_bytes()
    found = []
    for size in range(8, len(content), 7):
        (tmp_path / "5.tif").write_bytes(content[:size])
        read = lambda: data.read_image(tmp_path / "5.tif")
        found += outcome(read, names=[str(tmp_path)]).faults
    assert not found, found


def faults_of(kind, folder, file, contents):
    """What was found where a file of a kind has each of these contents."""
    raw_kinds.KINDS[kind].write(folder)
    found = {}
    for name, content in contents((folder / file).read_bytes()):
        (folder / file).write_bytes(content)
        judged = outcome(
            lambda: raw_kinds.KINDS[kind].read(folder), names=[str(folder), "/etc/passwd"]
        )
        if judged.faults:
            found[name] = judged.faults
    return found


def every_value(content):
    """Each value of a JSON text as each other one."""
    for at in range(len(places(json.loads(content)))):
        for value in VALUES:
            whole = json.loads(content)
            holder, key = places(whole)[at]
            holder[key] = value
            yield f"{key} {value!r:.40}", json.dumps(whole).encode()


def every_word(content):
    """Each word and number of a text as each other one."""
    for place in re.finditer(rb"-?\d[\d.e+-]*|\w+", content):
        for word in WORDS:
            new = word.encode("utf-8", "surrogatepass")
            yield (
                f"{place[0]} {word!r:.40}",
                content[: place.start()] + new + content[place.end() :],
            )


@pytest.mark.parametrize(
    ("kind", "file", "contents"),
    [
        ("COCO", "annotations/instances_val.json", every_value),
        ("XML", "Annotations/a1.xml", every_word),
        ("lists", "ImageSets/Main/a.txt", every_word),
        ("annotations", "Annotation/FudanPed00001.txt", every_word),
    ],
)
def test_every_value_of_a_text_may_be_anything(tmp_path, kind, file, contents):
    found = faults_of(kind, tmp_path, file, contents)
    assert not found, report(found)


@pytest.mark.parametrize("name", ["", " x", "x\ny", "\udce9", "x\u2028y"])
def test_a_class_whose_name_a_set_cannot_keep_is_refused(tmp_path, name):
    raw_kinds._coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances_train\.json: a class is named"):
        coco.scan_classes(tmp_path)
    content["categories"][0]["name"] = "dog"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances_train\.json: two classes are named 'dog'"):
        coco.scan_classes(tmp_path)
