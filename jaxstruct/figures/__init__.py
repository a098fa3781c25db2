"""Figures: arrays in, matplotlib Figure out; nothing here reads files, trains or shows windows."""

from jaxstruct.figures.bars import (
    bar_panels,
)
from jaxstruct.figures.boxes import (
    box_panels,
)
from jaxstruct.figures.class_maps import (
    class_map_panels,
)
from jaxstruct.figures.confusion import (
    confusion_matrix,
)
from jaxstruct.figures.curves import (
    curve_panels,
    curves,
)
from jaxstruct.figures.heat_maps import (
    heat_maps,
)
from jaxstruct.figures.images import (
    image_grid,
    side_by_side,
    signed_images,
)
from jaxstruct.figures.labels import (
    label_colors,
    label_overlay,
)
from jaxstruct.figures.manifold import (
    manifold_coordinates,
)
from jaxstruct.figures.pairs import (
    pair_table,
)
from jaxstruct.figures.regions import (
    region_pooling,
)
from jaxstruct.figures.scatter import (
    scatter_panels,
)
from jaxstruct.figures.upconvolution import (
    upconvolution,
)

__all__ = [
    "bar_panels",
    "box_panels",
    "class_map_panels",
    "confusion_matrix",
    "curve_panels",
    "curves",
    "heat_maps",
    "image_grid",
    "label_colors",
    "label_overlay",
    "manifold_coordinates",
    "pair_table",
    "region_pooling",
    "scatter_panels",
    "side_by_side",
    "signed_images",
    "upconvolution",
]
