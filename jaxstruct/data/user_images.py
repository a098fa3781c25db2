"""A user's own image files, whatever a camera or a drawing program wrote, as arrays.

What may be added: another way to bring a user's image into the form that a model sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxstruct.data.errors import DataError, reason
from jaxstruct.data.image_files import opened_by_pillow, upright_rgb
from jaxstruct.data.places import given
from jaxstruct.data.regular_files import check_regular


def read_image(path: str | Path) -> np.ndarray:
    """An image file (~ is the home folder) as uint8 [H, W, 3] RGB, upright.

    Grey and palette images become RGB, more bits become 8, transparent pixels are laid on white,
    the EXIF orientation is applied, and of an animation the first frame is taken. Raises DataError
    for a file that is missing or no image, and for values whose range is not clear, see
    `image_files.eight_bits`.
    """
    with opened_image(path) as opened:
        return np.asarray(upright_rgb(opened))


def fit_image(image: np.ndarray, shape: Sequence[int], *, dark: bool = False) -> np.ndarray:
    """A user's image uint8 [H,W,3] as the model sees images: float32 [h,w,1] in [0, 1].

    Grey, its longer side shrunk to the frame's, the rest filled with its border's median. Where the
    model's images have a black background (`dark`), the border becomes black and what differs most
    from it white, whether it was darker or brighter.
    """
    from PIL import Image

    grey = Image.fromarray(image).convert("L")
    pixels = np.asarray(grey)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    scale = min(shape[0] / grey.height, shape[1] / grey.width)
    size = max(1, round(grey.width * scale)), max(1, round(grey.height * scale))
    frame = Image.new("L", (shape[1], shape[0]), int(np.median(border)))
    place = (shape[1] - size[0]) // 2, (shape[0] - size[1]) // 2
    # Bilinear, since a filter with negative lobes makes ink that is blacker than black.
    frame.paste(grey.resize(size, Image.Resampling.BILINEAR), place)
    x = np.asarray(frame, np.float32)[..., None] / 255
    if not dark:
        return x
    background = np.float32(np.median(border) / 255)
    ink = background - x if background > 0.5 else x - background
    return np.clip(ink / max(np.max(ink), 1 / 255), 0, 1)


@contextmanager
def opened_image(path: str | Path) -> Iterator[Any]:
    """Opens an image file with Pillow; whatever goes wrong inside becomes a DataError."""
    path = given(path)
    try:
        check_regular(path)
        with opened_by_pillow(path) as opened:
            yield opened
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected an image file") from error
    except Exception as error:  # of a damaged file Pillow raises SyntaxError, struct.error, ...
        raise DataError(f"{path} is not an image that can be read ({reason(error)})") from error
