"""What a set stores of an image file, and what becomes of it when it is resized."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxstruct.data import DataError, image_files, middle_square

WIDE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def encoded(image: Image.Image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image)


def test_a_jpeg_is_kept_as_it_is():
    content = encoded(Image.fromarray(WIDE), "JPEG")
    assert image_files.stored(content) == (content, 12, 20)
    square = encoded(Image.fromarray(WIDE[:, :12]), "JPEG")
    assert (
        image_files.stored(square, size=12)
        == image_files.stored(square, 12, True)
        == (square, 12, 12)
    )


def test_all_else_becomes_rgb_without_loss():
    for image, options in (
        (Image.fromarray(WIDE), {}),
        (Image.fromarray(WIDE), {"format": "BMP"}),
        (Image.fromarray(np.dstack([WIDE, np.full((12, 20), 255, np.uint8)])), {}),
    ):
        content, height, width = image_files.stored(encoded(image, **options))
        np.testing.assert_array_equal(decoded(content), WIDE)
        assert (height, width) == (12, 20)
    grey = encoded(Image.fromarray(WIDE[..., 0]), "JPEG")  # TFDS's decoders differ about its shape
    assert decoded(image_files.stored(grey)[0]).shape == (12, 20, 3)
    cmyk = encoded(Image.fromarray(WIDE).convert("CMYK"), "JPEG")
    assert decoded(image_files.stored(cmyk)[0]).shape == (12, 20, 3)


def grey_of(content: bytes) -> list[list[int]]:
    """The one channel of what is stored, whose three are equal."""
    found = decoded(image_files.stored(content)[0])
    assert (found == found[..., :1]).all()
    return found[..., 0].tolist()


def tiff(values: np.ndarray, **options) -> bytes:
    return encoded(Image.fromarray(values), "TIFF", **options)


def own_tiff(packed: bytes, shape: tuple[int, int], bits: int, zero_is_white: bool = False):
    """A grey TIFF of a kind that Pillow reads and does not write."""
    tags = {256: shape[1], 257: shape[0], 258: bits, 259: 1, 262: int(not zero_is_white)}
    tags |= {273: 8, 277: 1, 278: shape[0], 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    after = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + after


FLOATS, WHOLE = np.float32, np.int32


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1]], FLOATS), [[0, 128, 255]]),
        (np.arange(256, dtype=FLOATS)[None] / 255, [list(range(256))]),
        (np.array([[0.2, 0.1, 0.8]], FLOATS), [[51, 26, 204]]),
        (np.array([[0, 1, 1]], FLOATS), [[0, 255, 255]]),
        (np.array([[0, 127.5, 255]], FLOATS), [[0, 127, 255]]),
        (np.array([[0, 3, 7]], FLOATS), [[0, 3, 7]]),
        (np.array([[0, 32896, 65535]], FLOATS), [[0, 128, 255]]),
        (np.array([[0, 7, 255]], WHOLE), [[0, 7, 255]]),
        (np.array([[0, 2570, 65535]], WHOLE), [[0, 10, 255]]),
    ],
)
def test_wide_grey_values_are_scaled_where_their_range_is_clear(values, expected):
    assert grey_of(tiff(values)) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, np.nan, 1]], FLOATS), "1 of 3 values are NaN or infinite"),
        (np.array([[0, np.inf, -np.inf]], FLOATS), "2 of 3 values are NaN or infinite"),
        (np.array([[-0.5, 0.5]], FLOATS), "values from -0.5 to 0.5"),
        (np.array([[0, 1.25]], FLOATS), "values from 0 to 1.25"),
        (np.array([[0, 70000]], FLOATS), "values from 0 to 70,000"),
        (np.array([[0, 65536]], WHOLE), "values from 0 to 65,536"),
        (np.array([[-1, 200]], WHOLE), "values from -1 to 200"),
        (np.array([[5, 2**31 - 1]], WHOLE), "values from 5 to 2.14748e+09"),
    ],
)
def test_wide_grey_values_of_an_unclear_range_are_refused(tmp_path, values, said):
    expected = "expected values from 0 to 255 or to 65,535, or shares of white from 0 to 1"
    with pytest.raises(ValueError, match="expected values") as error:
        image_files.stored(tiff(values))
    assert str(error.value) == f"{said}; {expected}"
    (tmp_path / "a.tif").write_bytes(tiff(values))
    with pytest.raises(DataError) as named:
        image_files.read_encoded(tmp_path / "a.tif", "a leaf")
    assert str(named.value).startswith(f"{tmp_path / 'a.tif'}: no image ({said}; ")


def test_a_dark_image_of_16_bits_stays_dark():
    dark = np.array([[0, 255, 200, 254]], np.uint16)
    pgm = b"P5 4 1 65535\n" + dark.astype(">u2").tobytes()
    for content in (encoded(Image.fromarray(dark)), tiff(dark), pgm):
        assert grey_of(content) == [[0, 0, 0, 0]]


def test_white_of_12_bits_is_white():
    packed = bytes([0x00, 0x08, 0x08, 0xFF, 0xFF, 0xFF])  # 0, 2056, 4095, 4095
    assert grey_of(own_tiff(packed, (1, 4), 12)) == [[0, 128, 255, 255]]


def test_zero_is_white_where_the_file_says_so():
    packed = np.array([0, 65535, 257], np.uint16).tobytes()
    assert grey_of(own_tiff(packed, (1, 3), 16, zero_is_white=True)) == [[255, 0, 254]]
    assert grey_of(own_tiff(packed, (1, 3), 16)) == [[0, 255, 1]]


@pytest.mark.parametrize(
    ("image", "clear"),
    [
        (Image.fromarray(np.array([[0, 2570, 65535]], np.uint16)), 2570),
        (Image.fromarray(np.array([[0, 10, 255]], np.uint8)), 10),
        (Image.fromarray(np.array([[[0] * 3, [10] * 3, [255] * 3]], np.uint8)), (10, 10, 10)),
    ],
    ids=["16 bits", "8 bits", "colours"],
)
def test_a_transparent_colour_lies_on_white(image, clear):
    assert grey_of(encoded(image)) == [[0, 10, 255]]
    assert grey_of(encoded(image, transparency=clear)) == [[0, 255, 255]]


@pytest.mark.parametrize(("bits", "clear", "shown"), [(4, 2, 34), (2, 2, 170), (1, 0, 0)])
def test_a_transparent_grey_of_few_bits_lies_on_white(bits, clear, shown):
    row = [
        int(f"{0:0{bits}b}{clear:0{bits}b}{0:0{bits}b}".ljust(16, "0")[i : i + 8], 2)
        for i in (0, 8)
    ]
    opaque = png_of(bits, 0, bytes([0, *row]), None)
    assert grey_of(opaque) == [[0, shown, 0]]
    found = grey_of(png_of(bits, 0, bytes([0, *row]), struct.pack(">H", clear)))
    assert found == [[255, 255, 255] if clear == 0 else [0, 255, 0]]


def test_a_transparent_colour_of_16_bits_each_is_refused():
    row = struct.pack(">9H", *[0] * 3, *[2570] * 3, *[65535] * 3)
    assert grey_of(png_of(16, 2, b"\0" + row, None)) == [[0, 10, 255]]
    with pytest.raises(ValueError, match="a transparent colour of 16 bits each; expected an alpha"):
        image_files.stored(png_of(16, 2, b"\0" + row, struct.pack(">3H", *[2570] * 3)))


def png_of(bits: int, kind: int, row: bytes, clear: bytes | None) -> bytes:
    """A PNG of one row of three pixels, of a depth that Pillow does not write."""
    row = row[: 1 + -(-3 * bits * (3 if kind == 2 else 1) // 8)]
    header = struct.pack(">IIBBBBB", 3, 1, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", clear), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
        if body is not None
    )


def test_a_jpeg_on_its_side_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    content, height, width = image_files.stored(encoded(Image.fromarray(WIDE), "JPEG", exif=exif))
    assert (height, width) == (20, 12)
    with Image.open(io.BytesIO(encoded(Image.fromarray(WIDE), "JPEG"))) as flat:
        np.testing.assert_array_equal(decoded(content), np.rot90(np.asarray(flat), -1))


def test_resized_and_cropped():
    thirds = np.repeat(np.array([[250, 100, 0]], np.uint8), 30, 0).repeat(30, 1)  # [30, 90]
    content = encoded(Image.fromarray(thirds))
    whole = decoded(image_files.stored(content, size=9)[0])[..., 0]
    assert whole.shape == (9, 9)
    np.testing.assert_allclose(whole[4, [0, 4, 8]], [250, 100, 0], atol=3)
    cropped = decoded(image_files.stored(content, size=9, crop=True)[0])
    assert (cropped == 100).all()
    assert image_files.stored(content, 9, True)[1:] == (9, 9)
    high = decoded(image_files.stored(encoded(Image.fromarray(thirds.T)), size=9, crop=True)[0])
    assert (high == 100).all()
    assert decoded(image_files.stored(content, size=60)[0]).shape == (60, 60, 3)  # enlarged, too


def test_the_middle_is_the_middle():
    content = encoded(Image.fromarray(WIDE))
    found = decoded(image_files.stored(content, size=12, crop=True)[0])
    np.testing.assert_array_equal(found, WIDE[:, 4:16])


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_what_cannot_be_read(format):
    content = encoded(Image.fromarray(WIDE), format)
    for bad in (b"", b"text", content[:20], content[: len(content) // 2]):
        with pytest.raises(ValueError, match=r".") as error:
            image_files.stored(bad)
        assert "\n" not in str(error.value)


def test_reads_a_file_as_it_is_stored(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(WIDE), "JPEG"))
    assert image_files.read_encoded(path, "a leaf") == (path.read_bytes(), 12, 20)


GREY = WIDE[..., 0]
DEEP = GREY.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("image", "values"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(DEEP), DEEP),
        (Image.fromarray(GREY > 99), GREY > 99),
    ],
    ids=["8 bits", "16 bits", "1 bit"],
)
def test_reads_the_values_of_a_grey_image(tmp_path, image, values):
    (tmp_path / "a.png").write_bytes(encoded(image))
    found = image_files.read_values(tmp_path / "a.png", "a mask")
    assert found.dtype == (np.uint16 if values is DEEP else np.uint8)
    np.testing.assert_array_equal(found, values)


def test_reads_the_indices_of_a_palette_image(tmp_path):
    image = Image.fromarray(GREY, "L").convert("P")
    image.putpalette([7, 8, 9] * 256)  # colours that say nothing of the index
    (tmp_path / "a.png").write_bytes(encoded(image))
    np.testing.assert_array_equal(image_files.read_values(tmp_path / "a.png", "a mask"), GREY)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"x", "no image.*"),
        (encoded(Image.fromarray(WIDE))[:200], "no image .*"),
        (b"", "empty, get it again"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, problem):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (image_files.read_encoded, image_files.read_values):
        with pytest.raises(DataError, match=f"{problem}; expected a mask") as error:
            read(path, "a mask")
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_colours_are_no_values(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(WIDE)))
    with pytest.raises(DataError, match=r"a.png: an image of mode RGB; expected a mask"):
        image_files.read_values(tmp_path / "a.png", "a mask")


def test_encodes_arrays():
    assert decoded(image_files.png(WIDE)).tolist() == WIDE.tolist()
    with Image.open(io.BytesIO(image_files.png(DEEP))) as image:
        np.testing.assert_array_equal(np.asarray(image), DEEP)
    with Image.open(io.BytesIO(image_files.jpeg(WIDE // 64 * 8))) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - WIDE // 64 * 8).mean() < 10


def test_a_middle_square_is_cut_out_and_averaged():
    image = np.zeros((40, 20, 3), np.uint8)
    image[10:30] = 255
    np.testing.assert_array_equal(middle_square(image, 10), 255)
    assert middle_square(image[:, :7], 16).shape == (16, 16, 3)
    rows, columns = np.mgrid[:40, :20]
    tall = np.stack([6 * rows, 12 * columns, 0 * rows], axis=-1).astype(np.uint8)
    halves = tall[10:30].reshape(10, 2, 10, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(middle_square(tall, 10), halves, atol=0.5)
    wide = tall.swapaxes(0, 1)
    np.testing.assert_array_equal(middle_square(wide, 10), middle_square(tall, 10).swapaxes(0, 1))
