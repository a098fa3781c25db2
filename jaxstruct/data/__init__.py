"""Raw files -> prepared sets (TFDS's array_record) -> examples as NumPy arrays.

Importing this package is cheap; TFDS and whatever reads raw files are imported where they are used.
TensorFlow never is.
"""

from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.errors import DataError
from jaxstruct.data.places import looking
from jaxstruct.data.prepared import Prepared, prepare, prepare_folder, where
from jaxstruct.data.sources import Examples, Reader, Source, load, open_reader
from jaxstruct.data.weights import installed_weights, noted_weights, read_weights

__all__ = [
    "CATALOGUE",
    "DataError",
    "Examples",
    "Prepared",
    "Reader",
    "Source",
    "installed_weights",
    "load",
    "looking",
    "noted_weights",
    "open_reader",
    "prepare",
    "prepare_folder",
    "read_weights",
    "where",
]
