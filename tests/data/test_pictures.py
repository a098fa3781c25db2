"""What a set stores of an image file, and what becomes of it when it is resized."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxstruct.data import DataError, pictures

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
    assert pictures.stored(content) == (content, 12, 20)
    square = encoded(Image.fromarray(WIDE[:, :12]), "JPEG")
    assert pictures.stored(square, size=12) == pictures.stored(square, 12, True) == (square, 12, 12)


def test_all_else_becomes_rgb_without_loss():
    for image, options in (
        (Image.fromarray(WIDE), {}),
        (Image.fromarray(WIDE), {"format": "BMP"}),
        (Image.fromarray(np.dstack([WIDE, np.full((12, 20), 255, np.uint8)])), {}),
    ):
        content, height, width = pictures.stored(encoded(image, **options))
        np.testing.assert_array_equal(decoded(content), WIDE)
        assert (height, width) == (12, 20)
    grey = encoded(Image.fromarray(WIDE[..., 0]), "JPEG")  # TFDS's decoders differ about its shape
    assert decoded(pictures.stored(grey)[0]).shape == (12, 20, 3)
    cmyk = encoded(Image.fromarray(WIDE).convert("CMYK"), "JPEG")
    assert decoded(pictures.stored(cmyk)[0]).shape == (12, 20, 3)


def test_a_jpeg_on_its_side_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    content, height, width = pictures.stored(encoded(Image.fromarray(WIDE), "JPEG", exif=exif))
    assert (height, width) == (20, 12)
    with Image.open(io.BytesIO(encoded(Image.fromarray(WIDE), "JPEG"))) as flat:
        np.testing.assert_array_equal(decoded(content), np.rot90(np.asarray(flat), -1))


def test_resized_and_cropped():
    thirds = np.repeat(np.array([[250, 100, 0]], np.uint8), 30, 0).repeat(30, 1)  # [30, 90]
    content = encoded(Image.fromarray(thirds))
    whole = decoded(pictures.stored(content, size=9)[0])[..., 0]
    assert whole.shape == (9, 9)
    np.testing.assert_allclose(whole[4, [0, 4, 8]], [250, 100, 0], atol=3)
    cropped = decoded(pictures.stored(content, size=9, crop=True)[0])
    assert (cropped == 100).all()
    assert pictures.stored(content, 9, True)[1:] == (9, 9)
    high = decoded(pictures.stored(encoded(Image.fromarray(thirds.T)), size=9, crop=True)[0])
    assert (high == 100).all()
    assert decoded(pictures.stored(content, size=60)[0]).shape == (60, 60, 3)  # enlarged, too


def test_the_middle_is_the_middle():
    content = encoded(Image.fromarray(WIDE))
    found = decoded(pictures.stored(content, size=12, crop=True)[0])
    np.testing.assert_array_equal(found, WIDE[:, 4:16])


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_what_cannot_be_read(format):
    content = encoded(Image.fromarray(WIDE), format)
    for bad in (b"", b"text", content[:20], content[: len(content) // 2]):
        with pytest.raises(ValueError, match=r".") as error:
            pictures.stored(bad)
        assert "\n" not in str(error.value)


def test_reads_a_file_as_it_is_stored(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(WIDE), "JPEG"))
    assert pictures.read_image(path, "a leaf") == (path.read_bytes(), 12, 20)


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
    found = pictures.read_values(tmp_path / "a.png", "a mask")
    assert found.dtype == (np.uint16 if values is DEEP else np.uint8)
    np.testing.assert_array_equal(found, values)


def test_reads_the_indices_of_a_palette_image(tmp_path):
    image = Image.fromarray(GREY, "L").convert("P")
    image.putpalette([7, 8, 9] * 256)  # colours that say nothing of the index
    (tmp_path / "a.png").write_bytes(encoded(image))
    np.testing.assert_array_equal(pictures.read_values(tmp_path / "a.png", "a mask"), GREY)


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
    for read in (pictures.read_image, pictures.read_values):
        with pytest.raises(DataError, match=f"{problem}; expected a mask") as error:
            read(path, "a mask")
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_colours_are_no_values(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(WIDE)))
    with pytest.raises(DataError, match=r"a.png: an image of mode RGB; expected a mask"):
        pictures.read_values(tmp_path / "a.png", "a mask")


def test_encodes_arrays():
    assert decoded(pictures.png(WIDE)).tolist() == WIDE.tolist()
    with Image.open(io.BytesIO(pictures.png(DEEP))) as image:
        np.testing.assert_array_equal(np.asarray(image), DEEP)
    with Image.open(io.BytesIO(pictures.jpeg(WIDE // 64 * 8))) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - WIDE // 64 * 8).mean() < 10
