"""Imitations: small files in a set's official layout, of a package's real images or of shapes.

They let every set, command and test run on a machine without data; a number that was measured
on them says nothing about the real set. Each stands in its set's file as `imitate`, a function of
the folder to write into, which draws nothing at random but the shapes of seed 0, and gives the same
values every time.

What may be added: what the imitations of several sets share.
"""

from __future__ import annotations

import numpy as np

REVISION = "r1"
"""Names the folder of imitations; raise it when an imitation changes, so that old ones are left."""


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 [N,H,W], or [N,H,W,3], to [N,height,width] or [N,height,width,3], bicubic."""
    from PIL import Image

    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
            for image in images
        ]
    )
