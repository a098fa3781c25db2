"""A user's own image files, whatever a camera or a drawing program wrote, and label maps of theirs.

What may be added: another kind of file that a user has beside an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxstruct.data import DataError
from jaxstruct.data.pictures import name_transparent, upright_rgb

VOID = 255  # of a class map: no label


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 [H, W, 3] RGB, upright.

    Grey and palette images become RGB, more bits become 8, transparent pixels are laid on white,
    the EXIF orientation is applied, and of an animation the first frame is taken. Raises DataError
    for a file that is missing or no image, and for values whose range is not clear, see
    `data.pictures.eight_bits`.
    """
    with _opened(path) as opened:
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


class LabelMap(NamedTuple):
    """Which label each pixel has, and how the file writes a label.

    Attributes:
        labels: int32 [H, W], from 0 on in the order of the colors; 255 where no label is known.
        colors: uint8 [L, 3], as the labels look.
        values: uint8 [L] or [L, 3]: grey values, indices into the palette, or colors.
        palette: of the indices, None without.
    """

    labels: np.ndarray
    colors: np.ndarray
    values: np.ndarray
    palette: list[int] | None


def read_labels(path: Path, unknown: tuple[int, int, int] | None = (0, 0, 0)) -> LabelMap:
    """A label map: each color is a label, be it of RGB, of a palette, or grey.

    Args:
        path: an image file without loss. Transparent pixels have no label.
        unknown: the color of pixels without a label (a grey value thrice); None where all have one.

    Raises:
        DataError: the file is missing or no image, has more than 8 bits, or does not have 2 to 255
            labels.
    """
    with _opened(path) as opened:
        name_transparent(opened)
        mode, palette = opened.mode, opened.getpalette("RGB") if opened.mode == "P" else None
        pixels = np.asarray(opened.convert("RGBA")).reshape(-1, 4)
        kept = opened if palette else opened.convert("L" if mode in ("1", "L") else "RGB")
        written = np.asarray(kept)
    if mode.startswith("I") or mode == "F":
        raise DataError(f"{path} has more than 8 bits a pixel; expected a label map of 8 bits")
    known = pixels[:, 3] > 0
    if unknown is not None:
        known &= (pixels[:, :3] != unknown).any(1)
    colors, first, labels = np.unique(
        pixels[known, :3], axis=0, return_index=True, return_inverse=True
    )
    aside = f"beside {unknown}, which is unknown" if unknown else "and nothing is unknown"
    if len(colors) < 2:
        alone = f"the one label {tuple(colors[0].tolist())}" if len(colors) else "no label"
        raise DataError(f"{path} holds {alone} {aside}; expected at least two labels")
    if len(colors) > VOID:
        raise DataError(
            f"{path} has {len(colors):,} colors {aside}; expected at most {VOID} labels, without "
            "smooth edges, and in a format without loss (PNG, not JPEG)"
        )
    every = np.full(len(pixels), VOID, np.int32)
    every[known] = labels.ravel()
    values = written.reshape(len(pixels), -1)[known][first]
    values = values if written.ndim == 3 else values[:, 0]
    return LabelMap(every.reshape(written.shape[:2]), colors, values, palette)


def write_labels(path: Path, labels: np.ndarray, like: LabelMap) -> None:
    """Writes labels [H, W], integers, as the file that `like` was read from writes them."""
    from PIL import Image

    image = Image.fromarray(like.values[labels])
    if like.palette:
        image.putpalette(like.palette)
    image.save(path)


def write_class_map(path: Path, labels: np.ndarray, colors: np.ndarray | None = None) -> None:
    """Writes class indices uint8 [H, W] as an index PNG, one pixel each.

    `colors` are uint8 [L, 3]; without them, and for indices beyond them, those of PASCAL VOC's
    files.
    """
    from PIL import Image

    palette = voc_colors()
    given = np.zeros((0, 3), np.uint8) if colors is None else np.asarray(colors, np.uint8)
    palette[: len(given)] = given
    image = Image.fromarray(labels)
    image.putpalette(palette.ravel().tolist())
    image.save(path)


def voc_colors() -> np.ndarray:
    """The colours [256, 3] uint8 of PASCAL VOC's index PNGs.

    Bits 0, 3, 6 of the index are red's highest bits, and the next two green's and blue's.

    Source: the development kit of PASCAL VOC 2012, VOClabelcolormap.
    """
    index = np.arange(256)[:, None]
    bits = [((index >> (3 * i + np.arange(3)[None])) & 1) << (7 - i) for i in range(3)]
    return np.sum(bits, axis=0).astype(np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An opened image file; whatever goes wrong with it is a DataError."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            yield opened
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected an image file") from error
    except Exception as error:  # of a damaged file Pillow raises SyntaxError, struct.error, ...
        reason = str(error).split("\n")[0]
        raise DataError(f"{path} is not an image that can be read ({reason})") from error
