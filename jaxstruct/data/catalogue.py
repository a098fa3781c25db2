"""The sets this package knows how to prepare, as plain values: name -> Entry.

What may be added: an entry, with a builder of its name in builders/ and, if an installed package
ships real images that resemble it, its imitation in imitate.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxstruct.data import imitate, matlab


@dataclass(frozen=True)
class File:
    """A raw file: its name, where it is downloaded from, and the md5 of what `content` reads."""

    name: str
    urls: tuple[str, ...]  # the official address first
    md5: str
    also: tuple[str, ...] = ()  # other names under which it is accepted
    content: Callable[[Path], bytes] = Path.read_bytes

    def find(self, folder: Path) -> Path | None:
        """The path in `folder` under the first of the names that exists there, or None."""
        paths = (folder / name for name in (self.name, *self.also))
        return next((path for path in paths if path.exists()), None)


@dataclass(frozen=True)
class Entry:
    """A set: what it is, its raw files (none: a package has it), its imitation."""

    version: str
    description: str
    citation: str
    files: tuple[File, ...] = ()
    imitate: Callable[[Path], None] | None = None  # writes the official layout into a folder


def _faces(path: Path) -> bytes:
    """The pixels of frey_rawface.mat: the container around them differs between copies."""
    return matlab.read(path, "ff", "a MATLAB file with `ff`, a face a column").T.tobytes()


def _mnist_file(name: str, md5: str) -> File:
    mirrors = (
        "http://yann.lecun.com/exdb/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    return File(f"{name}.gz", tuple(f"{mirror}{name}.gz" for mirror in mirrors), md5, (name,))


CATALOGUE: dict[str, Entry] = {
    "mnist": Entry(
        version="1.0.0",
        description=(
            "Handwritten digits, 28x28 grey: 60,000 to train, 10,000 to test, in official order."
        ),
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to "
            "document recognition. Proceedings of the IEEE 86(11), 1998."
        ),
        files=(
            _mnist_file("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            _mnist_file("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
            _mnist_file("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
            _mnist_file("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        imitate=imitate.mnist,
    ),
    "frey_face": Entry(
        version="1.0.0",
        description=(
            "1,965 frames of a video of Brendan Frey's face, 28 high, 20 wide, grey, in time order."
        ),
        citation=(
            "S. Roweis, L. Saul, G. Hinton. Global coordination of local linear models. "
            "Advances in Neural Information Processing Systems 14, 2002."
        ),
        files=(
            File(
                "frey_rawface.mat",
                ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",),
                md5="687b39ec28b56c183474c235686975cf",
                content=_faces,
            ),
        ),
        imitate=imitate.frey_face,
    ),
    "digits": Entry(
        version="1.0.0",
        description=(
            "Handwritten digits, 8x8 grey, as scikit-learn carries them (UCI's test part), "
            "0..16 scaled to 0..255. The split is ours, in the official order: the first 1,437 "
            "train, the last 360 test."
        ),
        citation=(
            "E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine "
            "Learning Repository, 1998."
        ),
    ),
}
