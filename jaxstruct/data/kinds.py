"""What the values of a batch's key are: said by its name or by the caller, never guessed from rank.

What may be added: another kind, with the dtype that it has in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

Kind = Literal["image", "class_map", "masks", "boxes", "values"]
"""What a value is:

- image: [..., H, W, C] of brightnesses; uint8 in stores, float32 in [0, 1] in batches.
- class_map: [..., H, W] of class indices, int32 in batches, 255 where there is none.
- masks: [..., H, W] of inside (not 0) or outside (0), bool in batches.
- boxes: [..., 4] as (x1, y1, x2, y2) in pixels, float32 in batches.
- values: anything else, whose position in the image means nothing; uint8 becomes int32.
"""

KINDS: dict[str, Kind] = {
    "image": "image",
    "class_map": "class_map",
    "mask": "masks",
    "masks": "masks",
    "boxes": "boxes",
    "proposals": "boxes",
}
"""The kinds that the field's names declare; any other name is of `values`."""


def kinds_of(keys: Any, declared: Mapping[str, Kind] | None = None) -> dict[str, Kind]:
    """The kind of each key: as it is declared, else as `KINDS` says of its name.

    Raises ValueError for a kind that does not exist, and a declaration of a key that does not.
    """
    declared = dict(declared or {})
    for key, kind in declared.items():
        if kind not in get_args(Kind):
            raise ValueError(
                f"kind of {key!r} is {kind!r}, expected one of {', '.join(get_args(Kind))}"
            )
        if key not in keys:
            raise ValueError(f"a kind is declared for {key!r}, expected one of {', '.join(keys)}")
    return {key: declared.get(key, KINDS.get(key, "values")) for key in keys}


def dtype_in_batch(kind: Kind, stored: Any) -> np.dtype:
    """The dtype that a stored array of a kind has in a batch, 64 bits not yet made 32."""
    stored = np.dtype(stored)
    of_uint8 = {"image": np.float32, "class_map": np.int32, "values": np.int32}
    if kind == "masks":
        return np.dtype(np.bool_)
    if kind == "boxes":
        return np.dtype(np.float32)
    if kind == "class_map":
        return np.dtype(np.int32)
    return np.dtype(of_uint8[kind]) if stored == np.uint8 else stored
