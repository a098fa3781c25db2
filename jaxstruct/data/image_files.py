"""Encoded images of any kind as the field has them: upright, RGB, eight bits; and their size.

What may be added: another thing that every image of a set must be before it is stored.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxstruct.data.errors import DataError, blamed, read_raw, reason

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
"""How the name of an image ends, in any case."""

_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
_BITS, _PHOTOMETRIC = 258, 262  # TIFF's tags: of a sample; 0 where high values are dark


_ELSEWHERE = {"EPS"}
"""Formats that Pillow hands to another program, which may run as long as the file says."""

_LARGE, _DENSE = 2**26, 2000
"""Pixels may have so many bytes, or so many times those of the file: no common method packs more.

A header of some bytes can ask for an image that fills the memory.
"""


@contextmanager
def opened_by_pillow(file: Path | bytes) -> Iterator[Any]:
    """An image that Pillow opens, of a file or of a file's bytes.

    Inside, Pillow neither warns nor logs, since its errors say enough. Raises what Pillow raises,
    and ValueError for an image that is too large for its file.
    """
    from PIL import Image

    Image.init()
    formats = [form for form in Image.ID if form not in _ELSEWHERE]
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = io.BytesIO(file) if isinstance(file, bytes) else file
            with Image.open(whole, formats=formats) as opened:
                _check_size(opened, len(file) if isinstance(file, bytes) else file.stat().st_size)
                yield opened
    finally:
        logger.setLevel(level)


def _check_size(opened: Image.Image, packed: int) -> None:
    of_mode = {"1": 1 / 8, "I": 4, "F": 4}.get(opened.mode) or 1 + opened.mode.startswith("I;16")
    unpacked = opened.width * opened.height * of_mode * len(opened.getbands())
    if unpacked > max(_LARGE, _DENSE * packed):
        raise ValueError(f"{opened.width:,} x {opened.height:,} pixels in {packed:,} bytes")


def upright_rgb(opened: Image.Image) -> Image.Image:
    """An opened image as RGB of eight bits, upright.

    Grey and palette images become RGB, more bits become 8 (`eight_bits` says how), transparent
    pixels are laid on white, the EXIF orientation is applied, and of an animation the first frame
    is taken. Raises ValueError that names the values where their range is not clear.
    """
    from PIL import Image, ImageOps

    name_transparent(opened)
    white, dark_is_high = _white(opened), _dark_is_high(opened)
    image: Image.Image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":
        values, clear = np.asarray(image), image.info.get("transparency")
        grey = eight_bits(values, white)
        grey = 255 - grey if dark_is_high else grey
        if clear is not None:
            grey = np.dstack([grey, np.where(values == clear, 0, 255).astype(np.uint8)])
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white_ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white_ground, image)
    return image.convert("RGB")


def eight_bits(values: np.ndarray, white: int | None = None) -> np.ndarray:
    """Grey values [H,W], integers or floats, as uint8: 0 is black, and `white` becomes 255.

    Where `white` is not known, it is 65,535 of values above 255, 1 of floats up to 1, and else 255.
    Raises ValueError for what is not clear: values below 0 or above white, NaN, infinite ones, and
    fractions whose largest is above 1 and below 16, which may be of [0, 1] or of [0, 255].
    """
    floats, values = values.dtype.kind == "f", values.astype(np.float64)
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise ValueError(f"{bad:,} of {values.size:,} values are NaN or infinite; {_RANGES}")
    low, high = float(values.min()), float(values.max())
    unclear = floats and white is None and 1 < high < 16 and (values % 1).any()
    if low < 0 or high > (white or 65535) or unclear:
        raise ValueError(f"values from {low:,.6g} to {high:,.6g}; {_RANGES}")
    if floats and white is None and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    return (values * 255 / (white or (65535 if high > 255 else 255))).astype(np.uint8)


_RANGES = "expected values from 0 to 255 or to 65,535, or shares of white from 0 to 1"


def name_transparent(opened: Image.Image) -> None:
    """Says the transparent colour of an opened PNG file, not yet loaded, as its pixels will be.

    Pillow makes 8 bits of 2 and 4 of the pixels, and of 16 of colours, but not of this colour.
    Raises ValueError for one of 16-bit colours, whose lower halves are lost.
    """
    clear = opened.info.get("transparency")
    if clear is None:
        return
    if step := _STEPS.get(_raw_mode(opened)):
        opened.info["transparency"] = clear * step
    elif opened.mode == "RGB" and ";16" in _raw_mode(opened):
        raise ValueError(
            "a transparent colour of 16 bits each; expected an alpha channel or 8 bits"
        )


_STEPS = {"L;2": 85, "L;4": 17}
"""By how much Pillow multiplies grey values of a PNG file of 2 and 4 bits."""


def _raw_mode(opened: Image.Image) -> str:
    """How an opened PNG file, not yet loaded, stores its pixels; empty for other formats."""
    tiles = getattr(opened, "tile", ())
    return tiles[0][3] if opened.format == "PNG" and tiles else ""


def _white(opened: Image.Image) -> int | None:
    """Which value is white, where mode and format say it."""
    if opened.mode.startswith("I;16"):
        bits = getattr(opened, "tag_v2", {}).get(_BITS, (16,))
        return 4095 if tuple(bits) == (12,) else 65535
    return 65535 if opened.mode == "I" and opened.format == "PPM" else None


def _dark_is_high(opened: Image.Image) -> bool:
    """Whether 0 is white: Pillow turns such TIFF files of up to eight bits alone."""
    return getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC, 1) == 0


def stored(content: bytes, size: int | None = None, crop: bool = False) -> tuple[bytes, int, int]:
    """The bytes of an image file as a set stores them: upright RGB; with height and width.

    With a `size`, the whole image, or with `crop` the square in its middle, becomes size x size. A
    JPEG file that needs no change is kept as it is; all else becomes PNG. Raises ValueError with
    the reason for what is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with opened_by_pillow(content) as opened:
            image = upright_rgb(opened)
            turned = opened.getexif().get(_ORIENTATION, 1) != 1
            kept = opened.format == "JPEG" and opened.mode == "RGB" and not turned
    except UnidentifiedImageError:  # whose words name a place in memory
        raise ValueError("of no kind that is known") from None
    except Exception as error:  # of a damaged file Pillow raises SyntaxError, struct.error, ...
        raise ValueError(reason(error)) from error
    if size and image.size != (size, size):
        if crop:
            image = image.crop(_middle(*image.size))
        image, kept = image.resize((size, size), Image.Resampling.BICUBIC), False
    return content if kept else png(image), image.height, image.width


def middle_square(image: np.ndarray, size: int) -> np.ndarray:
    """The square in the middle of an image, resized by averages over areas.

    Args:
        image: uint8 [H, W, 3], of any size.
        size: pixels of a side of the result.

    Returns:
        uint8 [size, size, 3].
    """
    from PIL import Image

    height, width = image.shape[:2]
    left, top, right, bottom = _middle(width, height)
    middle = Image.fromarray(image[top:bottom, left:right])
    return np.asarray(middle.resize((size, size), Image.Resampling.BOX))


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """The middle square of an image as Pillow has boxes: left, top, right, bottom."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def read_encoded(path: Path, expected: str) -> tuple[bytes, int, int]:
    """What `stored` gives of an image file: the bytes to store, height and width.

    Raises DataError that names `path` and what was `expected` there for what is no image.
    """
    try:
        return stored(read_raw(path, expected))
    except ValueError as error:
        raise DataError(f"{path}: no image ({error}); expected {expected}") from None


def read_values(path: Path, expected: str) -> np.ndarray:
    """The values of a grey or palette image, [H,W]: uint8, of 16 bits uint16.

    They are the numbers in the file, 0 and 1 of one bit and up to 15 of four; of a palette, the
    indices. Raises DataError that names `path` and what was `expected` there for what is no such
    image.
    """
    from PIL import UnidentifiedImageError

    content = read_raw(path, expected)
    with blamed(path, expected, "no image"):
        try:
            with opened_by_pillow(content) as opened:
                step = _STEPS.get(_raw_mode(opened), 1)
                mode, values = opened.mode, np.asarray(opened)
        except UnidentifiedImageError:  # whose words name a place in memory
            raise ValueError("of no kind that is known") from None
    if mode not in ("1", "L", "P", "I;16"):
        raise DataError(f"{path}: an image of mode {mode}; expected {expected}")
    return values.astype(np.uint8) if mode == "1" else values // step


def png(image: Image.Image | np.ndarray) -> bytes:
    """Encode an image, or uint8 [H,W] grey or [H,W,3], or uint16 [H,W], as PNG."""
    return _encoded(image, "PNG", compress_level=1)  # small images: speed over size


def jpeg(image: Image.Image | np.ndarray) -> bytes:
    """Encode an image, or uint8 [H,W] grey or [H,W,3], as JPEG of quality 95."""
    return _encoded(image, "JPEG", quality=95)


def _encoded(image: Image.Image | np.ndarray, form: str, **options: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    opened = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    opened.save(buffer, form, **options)
    return buffer.getvalue()
