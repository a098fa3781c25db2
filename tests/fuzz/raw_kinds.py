"""The kinds of raw files that are read: how a small one is written, and how it is read to its end.

What may be added: another kind, as soon as jaxstruct.data reads it.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jaxstruct.data import (
    class_folders,
    coco,
    idx,
    label_maps,
    mask_folder,
    read_image,
    read_proposals,
    read_weights,
    voc,
)
from jaxstruct.data.catalogue import CATALOGUE
from jaxstruct.data.sets import cifar10, frey_face
from tests.data import weight_files
from tests.data.written import image, write
from tests.fuzz import fuzzing


@dataclass(frozen=True)
class Kind:
    """A kind of raw file.

    `write` fills a folder; `damage` matches the files of it that are damaged, in these `ways`;
    `read` reads the folder to its end.
    """

    write: Callable[[Path], None]
    damage: str
    read: Callable[[Path], object]
    ways: list = None  # type: ignore[assignment]

    def hurt(self, folder: Path, seed: list[int]) -> tuple[str, Path]:
        """Damages one file of the folder; what was done, and to which file."""
        files = sorted(path for path in folder.glob(self.damage) if path.is_file())
        draw = np.random.default_rng(seed)
        path = files[draw.integers(len(files))]
        way, content = fuzzing.damaged([*seed, 1], path.read_bytes(), self.ways or fuzzing.BYTES)
        path.write_bytes(content)
        return f"{way} of {path.name}", path


def exhaust(splits) -> None:
    """Reads every example of every split."""
    for examples in splits.values():
        for _ in examples:
            pass


def _mnist(ending: str, folder: Path) -> None:
    for stem, size in (("train", 3), ("t10k", 2)):
        images = np.random.default_rng(size).integers(0, 256, (size, 28, 28), np.uint8)
        idx.write(folder / f"{stem}-images-idx3-ubyte{ending}", images)
        idx.write(folder / f"{stem}-labels-idx1-ubyte{ending}", np.arange(size, dtype=np.uint8))


def _frey(compressed: bool, folder: Path) -> None:
    import scipy.io

    columns = np.random.default_rng(0).integers(0, 256, (560, 3), np.uint8)
    scipy.io.savemat(folder / "frey_rawface.mat", {"ff": columns}, do_compression=compressed)


def _frey_4(folder: Path) -> None:
    import scipy.io

    columns = np.random.default_rng(0).integers(0, 256, (560, 3), np.uint8)
    scipy.io.savemat(folder / "frey_rawface.mat", {"ff": columns}, format="4")


def _cifar(place: str, folder: Path) -> None:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    data = np.zeros((1, 3072), np.uint8)
    batch = pickle.dumps({"data": data, "labels": [3], "batch_label": "x"}, protocol=3)
    write(folder / place, {f"cifar-10-batches-py/{name}": batch for name in names})


FORMATS = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}


def _classes(place: str, folder: Path) -> None:
    contents = {
        f"{name}/{ending}.{ending}": image(i, (6, 8), FORMATS[ending])
        for i, ending in enumerate(FORMATS)
        for name in ("cat", "dog")
    }
    write(folder / place, contents)


def _images(folder: Path) -> None:
    for i, (ending, form) in enumerate(FORMATS.items()):
        (folder / f"{i}.{ending}").write_bytes(image(i, (6, 8), form))
    deep = np.arange(48, dtype=np.uint16).reshape(6, 8) * 900
    for name, options in {"deep.png": {}, "deep.tif": {"compression": "tiff_lzw"}}.items():
        Image.fromarray(deep).save(folder / name, **options)
    Image.fromarray(deep.astype(np.float32)).save(folder / "float.tif")
    (folder / "grey.pgm").write_bytes(b"P5 8 6 255\n" + bytes(range(48)))
    (folder / "plain.ppm").write_bytes(b"P3 2 2 255\n" + b"1 2 3 4 5 6 7 8 9 10 11 12\n")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert("P").save(
        folder / "palette.png", transparency=3
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6), "red").save(folder / "turned.jpg", exif=exif)
    (folder / "drawing.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n"
    )


def _read_images(folder: Path) -> None:
    """Each is read alone, as `predict` reads them; the first that is bad is told."""
    for path in sorted(folder.iterdir()):
        if path.name != "drawing.eps":
            read_image(path)


def _label_map(folder: Path) -> None:
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8) // 16
    label_maps.write_class_map(folder / "labels.png", labels)
    Image.fromarray(labels * 100).save(folder / "grey.png")


def _read_label_maps(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        label_maps.read_labels(path)


_XML = """<annotation><filename>{0}.jpg</filename><size><width>8</width><height>6</height>
<depth>3</depth></size><object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin>
<ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"""


def _voc(folder: Path) -> None:
    contents = {f"ImageSets/Main/{name}.txt": f"{name}1\n{name}2\n".encode() for name in "ab"}
    for name in ("a1", "a2", "b1", "b2"):
        contents[f"Annotations/{name}.xml"] = _XML.format(name).encode()
        contents[f"JPEGImages/{name}.jpg"] = image(0)
    write(folder, contents)


def _read_voc(folder: Path) -> None:
    exhaust(voc.read(folder, voc.scan_classes(folder)))


def _coco(folder: Path) -> None:
    for split in ("train", "val"):
        box = {"bbox": [1, 2, 3, 3], "area": 9, "iscrowd": 0, "category_id": 7}
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.jpg", "width": 8, "height": 6} for i in range(2)
            ],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": [{"id": i, "image_id": i, **box} for i in range(2)],
        }
        write(folder, {f"annotations/instances_{split}.json": json.dumps(content).encode()})
        write(folder / split, {f"{i}.jpg": image(i) for i in range(2)})


def _read_coco(folder: Path) -> None:
    exhaust(coco.read(folder, coco.scan_classes(folder)))


def _penn(folder: Path) -> None:
    line = b'Bounding box for object 1 "x" (Xmin, Ymin) - (Xmax, Ymax) : (1, 2) - (5, 6)\n'
    mask = np.zeros((6, 8), np.uint8)
    mask[1:6, :5] = 1
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    for name in (f"{place}{i:05}" for place in ("FudanPed", "PennPed") for i in range(1, 6)):
        write(
            folder,
            {
                f"Annotation/{name}.txt": line,
                f"PNGImages/{name}.png": image(0, format="PNG"),
                f"PedMasks/{name}_mask.png": buffer.getvalue(),
            },
        )


def _masks(folder: Path) -> None:
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8) // 16
    contents = {"classes.txt": b"a\nb\nc\n", "train.txt": b"x\ny.jpg\n", "val.txt": b"z\n"}
    contents |= {f"images/{name}.jpg": image(0) for name in "xyz"}
    write(folder, contents)
    (folder / "masks").mkdir()
    for name in "xyz":
        label_maps.write_class_map(folder / "masks" / f"{name}.png", labels)


def _read_masks(folder: Path) -> None:
    found = mask_folder.scan(folder)
    assert found
    exhaust(mask_folder.entry(found).read(None))


def _houses(folder: Path) -> None:
    for room in ("bathroom", "bedroom", "frontal", "kitchen"):
        write(folder / room, {f"{i}.jpg": image(i, (64, 64)) for i in (1, 5)})


def _weights(folder: Path) -> None:
    for path in [*weight_files.FILES, weight_files.OLD]:
        shutil.copy(path, folder)


def _read_weights(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_weights(path)


def _safetensors(folder: Path) -> None:
    (folder / "w.safetensors").write_bytes(weight_files.lied())


def _proposals(suffix: str, folder: Path) -> None:
    import scipy.io

    boxes = np.array([[1, 1, 9, 8], [2, 2, 3, 3], [1, 1, 4, 4]], np.float64)
    if suffix == "npz":
        counts = np.array([2, 1])
        np.savez(folder / "x.npz", names=np.array(["a", "b"]), boxes=boxes, counts=counts)
    else:
        names, cells = np.empty((2, 1), object), np.empty((1, 2), object)
        names[:, 0], cells[0, 0], cells[0, 1] = ["a", "b"], boxes[:2], boxes[2:]
        content = {"images": names, "boxes": cells}
        scipy.io.savemat(folder / "x.mat", content, do_compression=suffix == "mat")


def _read_proposals(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_proposals(path)


def _of(name: str) -> Callable[[Path], object]:
    return lambda folder: exhaust(CATALOGUE[name].read(folder))


def _read_classes(place: str, folder: Path) -> None:
    exhaust(class_folders.examples(class_folders.scan(folder / place)))


def _archive(place: str, damage: str = "") -> Kind:
    return Kind(
        functools.partial(_classes, place),
        damage or place,
        functools.partial(_read_classes, place),
    )


KINDS = {
    "idx": Kind(functools.partial(_mnist, ""), "*", _of("mnist")),
    "idx.gz": Kind(functools.partial(_mnist, ".gz"), "*", _of("mnist")),
    "mat": Kind(
        functools.partial(_frey, True),
        "*",
        lambda folder: frey_face.faces(folder / "frey_rawface.mat"),
    ),
    "mat, uncompressed": Kind(
        functools.partial(_frey, False),
        "*",
        lambda folder: frey_face.faces(folder / "frey_rawface.mat"),
    ),
    "mat of version 4": Kind(
        _frey_4, "*", lambda folder: frey_face.faces(folder / "frey_rawface.mat")
    ),
    "batches": Kind(
        functools.partial(_cifar, "c"),
        "c/*/*",
        lambda folder: cifar10.images_and_labels(folder / "c"),
    ),
    "batches.tar.gz": Kind(
        functools.partial(_cifar, "c.tar.gz"),
        "*",
        lambda folder: cifar10.images_and_labels(folder / "c.tar.gz"),
    ),
    "zip": _archive("c.zip"),
    "tar": _archive("c.tar"),
    "tar.gz": _archive("c.tar.gz"),
    "tar.xz": _archive("c.tar.xz"),
    "tar.bz2": _archive("c.tar.bz2"),
    "folders": _archive("c", "c/*/*"),
    "rooms": Kind(_houses, "*/*", _of("houses64")),
    "images": Kind(_images, "*", _read_images),
    "label maps": Kind(_label_map, "*", _read_label_maps),
    "XML": Kind(_voc, "Annotations/*", _read_voc, fuzzing.XML),
    "lists": Kind(_voc, "ImageSets/Main/*", _read_voc, fuzzing.TEXT),
    "COCO": Kind(_coco, "annotations/*", _read_coco, fuzzing.JSON),
    "annotations": Kind(_penn, "Annotation/*", _of("penn_fudan"), fuzzing.TEXT),
    "masks": Kind(_penn, "P*/*", _of("penn_fudan")),
    "class masks": Kind(_masks, "masks/*", _read_masks),
    "lists of masks": Kind(_masks, "*.txt", _read_masks, fuzzing.TEXT),
    "weights": Kind(_weights, "*", _read_weights),
    "proposals.npz": Kind(functools.partial(_proposals, "npz"), "*", _read_proposals),
    "proposals.mat": Kind(functools.partial(_proposals, "mat"), "*", _read_proposals),
    "proposals.mat, uncompressed": Kind(
        functools.partial(_proposals, "uncompressed"), "*", _read_proposals
    ),
    "safetensors": Kind(_safetensors, "*", _read_weights, fuzzing.JSON[:-4]),
}
