"""Encoded images of any kind as the field has them: upright, RGB, eight bits; and their size.

What may be added: another thing that every image of a set must be before it is stored.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxstruct.data.errors import DataError, read_raw

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright


def upright_rgb(opened: Image.Image) -> Image.Image:
    """An opened image as RGB of eight bits, upright.

    Grey and palette images become RGB, 16 bits become 8, transparent pixels are laid on white, the
    EXIF orientation is applied, and of an animation the first frame is taken.
    """
    from PIL import Image, ImageOps

    image: Image.Image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        # A mode of 16 bits says so, those of 32 leave their range to be guessed.
        wide = image.mode.startswith("I;16") or np.max(values, initial=0) > 255
        image = Image.fromarray(np.clip(values / (257 if wide else 1), 0, 255).astype("u1"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def stored(content: bytes, size: int | None = None, crop: bool = False) -> tuple[bytes, int, int]:
    """The bytes of an image file as a set stores them: upright RGB; with height and width.

    With a `size`, the whole image, or with `crop` the square in its middle, becomes size x size. A
    JPEG file that needs no change is kept as it is; all else becomes PNG. Raises ValueError with
    the reason for what is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = upright_rgb(opened)
            turned = opened.getexif().get(_ORIENTATION, 1) != 1
            kept = opened.format == "JPEG" and opened.mode == "RGB" and not turned
    except UnidentifiedImageError:  # whose words name a place in memory
        raise ValueError("of no kind that is known") from None
    except Exception as error:  # of a damaged file Pillow raises SyntaxError, struct.error, ...
        raise ValueError(str(error).split("\n")[0] or type(error).__name__) from error
    if size and image.size != (size, size):
        if crop:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        image, kept = image.resize((size, size), Image.Resampling.BICUBIC), False
    return content if kept else png(image), image.height, image.width


def read_image(path: Path, expected: str) -> tuple[bytes, int, int]:
    """What `stored` gives of an image file: the bytes to store, height and width.

    Raises DataError that names `path` and what was `expected` there for what is no image.
    """
    try:
        return stored(read_raw(path, expected))
    except ValueError as error:
        raise DataError(f"{path}: no image ({error}); expected {expected}") from None


def read_values(path: Path, expected: str) -> np.ndarray:
    """The values of a grey or palette image, [H,W]: uint8, of 16 bits uint16, of one bit 0 and 1.

    Of a palette, the indices. Raises DataError that names `path` and what was `expected` there for
    what is no such image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(read_raw(path, expected))) as opened:
            mode, values = opened.mode, np.asarray(opened)
    except DataError:
        raise
    except Exception as error:  # of a damaged file Pillow raises SyntaxError, struct.error, ...
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise DataError(f"{path}: no image{reason}; expected {expected}") from None
    if mode not in ("1", "L", "P", "I;16"):
        raise DataError(f"{path}: an image of mode {mode}; expected {expected}")
    return values.astype(np.uint8) if mode == "1" else values


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
