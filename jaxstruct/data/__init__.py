"""Raw files -> prepared sets (TFDS's array_record) -> examples as NumPy arrays.

Importing this package is cheap; TFDS and whatever reads raw files are imported where they are used.
TensorFlow never is.
"""

from jaxstruct.data.affine import Affine, draw_affine, move_boxes
from jaxstruct.data.canvas import canvas_for, letter_box, move, padded
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.class_counts import pixel_counts
from jaxstruct.data.color import jitter_color
from jaxstruct.data.errors import DataError
from jaxstruct.data.image_files import middle_square
from jaxstruct.data.label_maps import VOID, LabelMap, read_labels, voc_colors, write_labels
from jaxstruct.data.later import Later
from jaxstruct.data.own_folder import prepare_folder
from jaxstruct.data.places import looking
from jaxstruct.data.prepared import Prepared, prepare, where
from jaxstruct.data.proposal_files import read_proposals
from jaxstruct.data.proposals import (
    ReaderWithProposals,
    StoredProposals,
    keep_proposals,
    propose,
    searched,
    with_proposals,
)
from jaxstruct.data.recorded import SetRecord, recorded
from jaxstruct.data.selective_search import selective_search
from jaxstruct.data.sources import Examples, Reader, Source, load, open_reader
from jaxstruct.data.user_images import fit_image, read_image
from jaxstruct.data.weights import installed_weights, noted_weights, read_weights

__all__ = [
    "CATALOGUE",
    "VOID",
    "Affine",
    "DataError",
    "Examples",
    "LabelMap",
    "Later",
    "Prepared",
    "Reader",
    "ReaderWithProposals",
    "SetRecord",
    "Source",
    "StoredProposals",
    "canvas_for",
    "draw_affine",
    "fit_image",
    "installed_weights",
    "jitter_color",
    "keep_proposals",
    "letter_box",
    "load",
    "looking",
    "middle_square",
    "move",
    "move_boxes",
    "noted_weights",
    "open_reader",
    "padded",
    "pixel_counts",
    "prepare",
    "prepare_folder",
    "propose",
    "read_image",
    "read_labels",
    "read_proposals",
    "read_weights",
    "recorded",
    "searched",
    "selective_search",
    "voc_colors",
    "where",
    "with_proposals",
    "write_labels",
]
