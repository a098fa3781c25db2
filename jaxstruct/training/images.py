"""A user's own image files, whatever a camera or a drawing program wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxstruct.data import DataError


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 [H, W, 3] RGB, upright.

    Grey and palette images become RGB, 16 bits become 8, transparent pixels are laid on white, the
    EXIF orientation is applied, and of an animation the first frame is taken. Raises DataError for
    a file that is missing or no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
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
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected an image file") from error
    except Exception as error:  # of a damaged file Pillow raises SyntaxError, struct.error, ...
        reason = str(error).split("\n")[0]
        raise DataError(f"{path} is not an image that can be read ({reason})") from error
