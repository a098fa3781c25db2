"""A contact sheet: the images of some examples side by side, with their labels.

What may be added: drawing of other annotations (boxes, masks) over an image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from jaxstruct.data.sources import Examples

if TYPE_CHECKING:
    from PIL import Image

_SMALLEST = 56  # pixels: smaller images are enlarged by a whole factor to at least this height
_GAP = 4
_CAPTION = 12


def contact_sheet(examples: Examples, columns: int | None = None) -> Image.Image:
    """Draw `image` uint8 [N,H,W,1 or 3] row by row, with `label` [N], or its class, below.

    `columns` defaults to a sheet about as wide as high. Returns a PIL image. Raises KeyError
    without `image`, ValueError for other shapes or no example at all.
    """
    from PIL import Image, ImageDraw

    images = examples["image"]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"image: {images.dtype} {images.shape}; expected uint8 [N,H,W,1 or 3]")
    if not examples.size:
        raise ValueError("no examples; expected at least one")
    scale = max(1, math.ceil(_SMALLEST / images.shape[1]))
    height, width = images.shape[1] * scale, images.shape[2] * scale
    labels = examples.get("label")
    step_y = height + _GAP + (0 if labels is None else _CAPTION)
    step_x = width + _GAP
    columns = columns or math.ceil(math.sqrt(examples.size * step_y / step_x))
    rows = math.ceil(examples.size / columns)
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, pixels in enumerate(images):
        x = _GAP + index % columns * step_x
        y = _GAP + index // columns * step_y
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        sheet.paste(image.resize((width, height), Image.Resampling.NEAREST), (x, y))
        if labels is not None:
            label = int(labels[index])
            named = 0 <= label < len(examples.classes)
            caption = examples.classes[label] if named else str(label)
            while draw.textlength(caption) > step_x:
                caption = caption[:-1]
            draw.text((x, y + height), caption, fill="black")
    return sheet
