"""Encoded images of any kind as the field has them: upright, RGB, eight bits; and their size.

What may be added: another thing that every image of a set must be before it is stored.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

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


def png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # small images: speed over size
    return buffer.getvalue()
