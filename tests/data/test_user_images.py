"""Image files as cameras and drawing programs write them."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxstruct.data import DataError, fit_image, read_image

# 2 rows, 3 columns; no two pixels are equal, so that every turn and every lost channel shows.
PIXELS = np.array(
    [[[250, 10, 20], [30, 240, 50], [60, 70, 230]], [[0, 0, 0], [90, 100, 110], [255, 255, 255]]],
    np.uint8,
)


def test_colour(save):
    found = read_image(save(Image.fromarray(PIXELS)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PIXELS)
    palette = Image.fromarray(PIXELS).quantize(8)
    np.testing.assert_array_equal(read_image(save(palette)), PIXELS)
    photo = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    found = read_image(save(Image.fromarray(photo), "a.jpg", quality=95))
    np.testing.assert_allclose(found, photo, atol=3)
    found = read_image(save(Image.fromarray(photo).convert("CMYK"), "b.jpg", quality=95))
    np.testing.assert_allclose(found, photo, atol=6)


def test_grey(save):
    grey = PIXELS[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(save(Image.fromarray(grey))), expected)
    bits = Image.fromarray(grey > 128)
    np.testing.assert_array_equal(
        read_image(save(bits))[..., 0], np.where(grey > 128, 255, 0).astype(np.uint8)
    )


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_grey_of_16_bits(save, name):
    wide = np.array([[0, 65535, 32896], [257, 2570, 200]], np.uint16)
    found = read_image(save(Image.fromarray(wide), name))
    np.testing.assert_array_equal(found[..., 0], [[0, 255, 128], [1, 10, 0]])
    assert found.shape == (2, 3, 3)
    # A dark image is not an image of 8 bits.
    dark = np.array([[0, 255, 200]], np.uint16)
    assert read_image(save(Image.fromarray(dark), name)).max() == 0


def test_grey_of_32_bits_is_scaled_or_refused(save, tmp_path):
    shares = np.array([[0, 0.2, 1]], np.float32)
    found = read_image(save(Image.fromarray(shares), "a.tiff"))
    np.testing.assert_array_equal(found[..., 0], [[0, 51, 255]])
    for values, said in (
        (np.array([[0, np.nan]], np.float32), "1 of 2 values are NaN or infinite"),
        (np.array([[-2, 0.5]], np.float32), "values from -2 to 0.5"),
        (np.array([[0, 70000]], np.int32), "values from 0 to 70,000"),
    ):
        path = save(Image.fromarray(values), "b.tiff")
        with pytest.raises(DataError) as caught:
            read_image(path)
        assert f"{path} is not an image that can be read ({said}; expected" in str(caught.value)


def test_transparent_pixels_lie_on_white(save):
    alpha = np.array([[255, 0, 255], [0, 255, 51]], np.uint8)
    found = read_image(save(Image.fromarray(np.dstack([PIXELS, alpha]))))
    np.testing.assert_array_equal(found[alpha == 255], PIXELS[alpha == 255])
    assert (found[alpha == 0] == 255).all()
    grey = Image.fromarray(np.dstack([PIXELS[..., 0], alpha]), "LA")
    assert (read_image(save(grey))[alpha == 0] == 255).all()
    wide = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    assert (
        read_image(save(wide, transparency=30 * 257))[0] == [[250] * 3, [255] * 3, [60] * 3]
    ).all()
    palette = Image.fromarray(PIXELS).quantize(8)
    index = palette.getpixel((1, 1))
    found = read_image(save(palette, transparency=index))
    np.testing.assert_array_equal(found[1, 1], [255, 255, 255])
    np.testing.assert_array_equal(found[0], PIXELS[0])


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (6, np.rot90(PIXELS, -1)),
        (8, np.rot90(PIXELS, 1)),
    ],
)
def test_exif_orientation(save, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(save(Image.fromarray(PIXELS), exif=exif)), upright)


def test_any_size(save):
    assert read_image(save(Image.new("RGB", (1, 1), "red"))).tolist() == [[[255, 0, 0]]]
    assert read_image(save(Image.new("L", (5000, 3000), 7))).shape == (3000, 5000, 3)


def test_the_first_frame_of_an_animation(save):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    path = save(frames[0], "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path), np.full((3, 4, 3), (255, 0, 0)))


def test_what_cannot_be_read_is_named(tmp_path):
    missing, text, empty = (tmp_path / name for name in ("no.png", "text.png", "empty.jpg"))
    text.write_text("this is no image")
    empty.touch()
    for path, reason in (
        (missing, "does not exist"),
        (text, "not an image that can be read"),
        (empty, "not an image that can be read"),
        (tmp_path, "not an image that can be read"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_damaged_file_is_a_data_error_and_nothing_else(tmp_path, format):
    exif = Image.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(image).save(written, format, **({"exif": exif} if format != "GIF" else {}))
    draw = np.random.default_rng(1)
    path, refused = tmp_path / "image", 0
    for attempt in range(300):
        content = np.frombuffer(written.getvalue(), np.uint8).copy()
        if attempt % 3 == 0:
            content = content[: draw.integers(len(content))]
        else:
            content[draw.integers(min(len(content), 200), size=3)] = draw.integers(0, 256, 3)
        path.write_bytes(content.tobytes())
        try:
            assert read_image(path).ndim == 3
        except DataError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("dark", [False, True])
def test_a_user_s_image_is_fitted_into_the_frame(dark):
    white, black = (230, 40) if dark else (255, 0)  # a photograph's, or a drawing's
    paper = np.full((40, 20, 3), white, np.uint8)
    paper[10:30, 5:15] = black  # a black bar on white, twice as high as wide
    x = fit_image(paper, (28, 28, 1), dark=dark)
    assert x.shape == (28, 28, 1)
    assert x.dtype == np.float32
    background, ink = (0, 1) if dark else (1, 0)
    assert x[0, 0, 0] == x[14, 0, 0] == background
    assert x[14, 14, 0] == pytest.approx(ink, abs=0.05)
    assert 0 <= x.min() < x.max() <= 1
    blank = fit_image(np.full((9, 9, 3), 200, np.uint8), (28, 28, 1), dark=dark)
    np.testing.assert_allclose(blank, 0 if dark else 200 / 255, atol=1e-6)
    # 40 x 20 becomes 28 x 14: the bar is 14 high and 7 wide, in the middle.
    inside = np.abs(x[..., 0] - ink) < 0.5
    assert abs(inside.sum() - 14 * 7) <= 14
    assert fit_image(paper[:, :1], (28, 20, 1)).shape == (28, 20, 1)
