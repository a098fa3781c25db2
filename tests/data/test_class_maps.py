"""Class maps: which masks are read, how, and which are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxstruct.data import DataError, class_maps
from jaxstruct.data.class_maps import Pair
from jaxstruct.data.image_files import png
from jaxstruct.data.label_maps import write_class_map
from tests.data.written import image, write

CLASSES = ("road", "car", "sky")
SIZE = (4, 5)


def mask(value=1):
    """A mask of SIZE with a void pixel and one of a value."""
    values = np.zeros(SIZE, np.uint8)
    values[1, 3], values[2, 4] = 255, value
    return values


def pairs(folder, *names):
    return [Pair(name, folder / f"{name}.jpg", folder / f"{name}.png") for name in names]


def examples(folder, contents, *names, **options):
    write(folder, contents)
    found = class_maps.read(folder, {"train": pairs(folder, *names)}, CLASSES, **options)
    return dict(found["train"])


def test_an_image_its_class_map_and_the_classes_in_it(tmp_path):
    counts = {}
    contents = {"a.jpg": image(0, SIZE), "a.png": png(mask(2))}
    contents |= {"b.jpg": image(1, SIZE), "b.png": png(np.ones(SIZE, np.uint8))}
    a, b = examples(tmp_path, contents, "a", "b", counts=counts).values()
    assert (a["name"], a["image"], a["classes"]) == ("a", image(0, SIZE), [0, 2])
    np.testing.assert_array_equal(a["class_map"], mask(2))
    assert a["class_map"].dtype == np.uint8
    assert b["classes"] == [1]
    assert counts["train"][[0, 1, 2, 255]].tolist() == [18, 20, 1, 1]


def test_a_palette_gives_indices_and_few_bits_the_numbers_of_the_file(tmp_path):
    write_class_map(tmp_path / "p.png", mask())
    np.testing.assert_array_equal(
        class_maps.read_class_map(tmp_path / "p.png", SIZE, CLASSES), mask()
    )
    small = np.where(mask() == 255, 2, mask())
    for bits in (2, 4):
        # Pillow writes few bits of palette images alone; their header is made that of grey.
        buffer = io.BytesIO()
        Image.fromarray(small).convert("P").save(buffer, "PNG", bits=bits)
        (tmp_path / "g.png").write_bytes(grey(buffer.getvalue()))
        with Image.open(tmp_path / "g.png") as opened:
            assert opened.mode == "L"
        np.testing.assert_array_equal(
            class_maps.read_class_map(tmp_path / "g.png", SIZE, CLASSES), small
        )


def grey(content):
    """A PNG of indices whose header says that they are greys."""
    import zlib

    at = content.index(b"IHDR")
    header = bytearray(content[at : at + 17])
    header[13] = 0
    content = content[:at] + bytes(header) + zlib.crc32(header).to_bytes(4) + content[at + 21 :]
    palette = content.index(b"PLTE")
    length = int.from_bytes(content[palette - 4 : palette])
    return content[: palette - 4] + content[palette + 8 + length :]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            {"a.png": png(mask(3))},
            r"a\.png: the value 3 in row 2, column 4; expected 0 to 2, the classes from road to "
            r"sky, or 255 where there is none$",
        ),
        ({"a.png": png(mask().astype(np.uint16) * 257)}, "a.png: the value 65535 in row 1, colum"),
        (
            {"a.png": image(0, SIZE, "PNG")},
            r"a\.png: an image of mode RGB; expected a mask: a grey or palette image whose values "
            "are classes, 0 to 2, or 255 where there is none$",
        ),
        ({"a.png": png(np.zeros((4, 6), np.uint8))}, r"a\.png: 6 x 4 pixels; expected 5 x 4, as t"),
        ({"a.png": png(mask())[:50]}, r"a\.png: no image"),
        ({"a.jpg": b"text"}, r"a\.jpg: no image .*; expected an image of the split train"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, contents, message):
    good = {"a.jpg": image(0, SIZE), "a.png": png(mask())}
    with pytest.raises(DataError, match=message) as error:
        examples(tmp_path, good | contents, "a")
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_listed_and_not_there(tmp_path):
    contents = {"a.jpg": image(0, SIZE), "a.png": png(mask()), "c.jpg": image(0, SIZE)}
    for name, file in (("b", "b.jpg"), ("c", "c.png")):
        with pytest.raises(DataError, match=f"{file}: missing; expected a"):
            examples(tmp_path, contents, "a", name)


def test_a_split_without_a_labelled_pixel(tmp_path):
    void = png(np.full(SIZE, 255, np.uint8))
    contents = {"a.jpg": image(0, SIZE), "a.png": void, "b.jpg": image(0, SIZE), "b.png": void}
    message = f"^{tmp_path}: no pixel of the split train has a class; expected values from 0 to 2"
    with pytest.raises(DataError, match=message):
        examples(tmp_path, contents, "a", "b")
    # One labelled pixel will do.
    contents["b.png"] = png(np.where(np.arange(20).reshape(SIZE) == 7, 2, 255).astype(np.uint8))
    assert [x["classes"] for x in examples(tmp_path, contents, "a", "b").values()] == [[], [2]]


def test_a_name_that_is_listed_twice_is_read_once(tmp_path, capsys):
    contents = {"a.jpg": image(0, SIZE), "a.png": png(mask())}
    write(tmp_path, contents)
    found = class_maps.read(tmp_path, {"train": pairs(tmp_path, "a", "a")}, CLASSES)
    assert [name for name, _ in found["train"]] == ["a"]
    assert "a.png: listed twice: left out" in capsys.readouterr().err


def test_shares_of_the_pixels_in_words():
    counts = np.zeros(256, np.int64)
    counts[[0, 2, 255]] = 6, 3, 1
    expected = {"train": "road 60.0%, sky 30.0%, void 10.0%, no pixel of car"}
    assert class_maps.shares({"train": counts}, CLASSES) == expected
    many = class_maps.shares({"train": np.arange(256)}, [f"c{i}" for i in range(100)])["train"]
    assert many.startswith("99 classes, from c1 to c99, void")
