"""Files of proposals that users bring: .npz, and .mat as Fast R-CNN's release has them."""

import io
import warnings

import numpy as np
import pytest
import scipy.io

from jaxstruct import data
from jaxstruct.data import DataError


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def file_of(path, **boxes):
    """A file of boxes by the name of their image."""
    counts = [len(one) for one in boxes.values()]
    every = np.concatenate([np.reshape(one, (-1, 4)) for one in boxes.values()])
    np.savez(path, names=np.array([*boxes]), boxes=every, counts=np.array(counts))
    return path


def release(path, boxes, **options):
    """A .mat file as those of Fast R-CNN's release: 1-based y1, x1, y2, x2 with the last pixel."""
    names, cells = np.empty((len(boxes), 1), object), np.empty((1, len(boxes)), object)
    for index, (name, one) in enumerate(boxes.items()):
        names[index, 0], cells[0, index] = name, one
    scipy.io.savemat(path, {"images": names, "boxes": cells}, **options)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.uint16, np.int32])
def test_a_file_of_the_release_becomes_continuous(tmp_path, dtype, compressed):
    given = {"000005": np.array([[1, 1, 30, 40], [2, 3, 4, 5]], dtype),
             "2008_000002": np.array([[7, 1, 9, 2]], dtype)}  # fmt: skip
    path = release(tmp_path / "voc_2007_trainval.mat", given, do_compression=compressed)
    found = data.read_proposals(path)
    assert {name: boxes.tolist() for name, boxes in found.items()} == {
        "000005": [[0, 0, 40, 30], [2, 1, 5, 4]],
        "2008_000002": [[0, 6, 2, 9]],
    }
    assert {boxes.dtype for boxes in found.values()} == {np.dtype(np.float32)}


def test_an_integer_below_1_does_not_wrap(tmp_path):
    path = release(tmp_path / "x.mat", {"a": np.array([[0, 1, 3, 4]], np.uint8)})
    assert data.read_proposals(path)["a"].tolist() == [[0, -1, 4, 3]]


def test_a_file_of_arrays_is_read(tmp_path):
    path = file_of(tmp_path / "x.npz", a=[[0, 0, 1, 1], [0.5, 1, 2, 3]], b=[[1, 1, 2, 2]])
    found = data.read_proposals(str(path))
    assert found["a"].tolist() == [[0, 0, 1, 1], [0.5, 1, 2, 3]]
    assert found["b"].tolist() == [[1, 1, 2, 2]]
    assert found["a"].dtype == np.float32


UNIT = [[0, 0, 1, 1]]


def arrays(**given):
    whole = {"names": np.array(["a", "b"]), "boxes": np.ones((2, 4)) * [0, 0, 1, 1]}
    return {**whole, "counts": np.array([1, 1]), **given}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (arrays(names=np.array(["a", "a"])), "image 'a' is there twice; expected each name once"),
        (arrays(counts=np.array([2, 0])), "image 'b' has no box; expected at least one"),
        (arrays(counts=np.array([1, 2])), "`counts` add up to 3 for 2 boxes; expected `names`"),
        (arrays(counts=np.array([3, -1])), "`counts` add up to 2 for 2 boxes"),
        (arrays(counts=np.array([1.0, 1])), r"`counts` is float64 \[2\]; expected"),
        (arrays(names=np.array(["a"])), r"`names` is <U1 \[1\] for 2 counts; expected"),
        (arrays(names=np.array([1, 2])), r"`names` is int64 \[2\]"),
        (arrays(boxes=np.ones((2, 5))), r"`boxes` is float64 \[2, 5\]; expected"),
        (arrays(boxes=np.array([UNIT[0], [0, 0, np.nan, 1]])), "box 0, 0, nan, 1 of image 'b'; ex"),
        (arrays(boxes=np.array([UNIT[0], [0, 0, 1e99, 1]])), "box 0, 0, inf, 1 of image 'b'"),
        (arrays(boxes=np.array([[2, 0, 2, 1], UNIT[0]])), "box 2, 0, 2, 1 of image 'a'; expected "),
        (arrays(boxes=np.array([[0, 3, 2, 1], UNIT[0]])), "x2 above x1 and y2 above y1"),
        (arrays(names=np.array([{}, {}])), "no whole .npz file .* expected `names`"),
    ],
)
def test_a_bad_file_of_arrays(tmp_path, given, message):
    path = tmp_path / "x.npz"
    np.savez(path, **given)
    assert_refused(path, message)


def assert_refused(path, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(DataError, match=message) as error:
            data.read_proposals(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            {"a": np.array([[0, 1, 3, 4.0]]), "b": "text"},
            "a cell is no name or no .n, 4.; expected",
        ),
        ({"a": np.ones((3, 5))}, "a cell is no name or no .n, 4.; expected the cells `images`"),
        ({"a": np.zeros((0, 4))}, "image 'a' has no box"),
        ({"a": np.array([[5, 1, 2, 4.0]])}, "box 0, 4, 4, 2 of image 'a'; expected"),
        ({"a": np.array([[1, 1, np.nan, 4.0]])}, "box 0, 0, 4, nan of image 'a'"),
        ({"a": np.array([[1j, 1, 1, 4.0]])}, "a cell of class 6, expected one row of text or real"),
        (
            {"a": {"b": 1}},
            "cannot be read as MATLAB, version 5 .a cell of class 2, expected one row",
        ),
    ],
)
def test_a_bad_file_of_the_release(tmp_path, boxes, message):
    assert_refused(release(tmp_path / "x.mat", boxes), message)


def test_files_that_are_cut_or_of_another_kind(tmp_path):
    mat = release(tmp_path / "x.mat", {"a": np.ones((3, 4))}).read_bytes()
    one = file_of(tmp_path / "x.npz", a=UNIT).read_bytes()
    for name, content in (("x.mat", mat), ("x.npz", one)):
        for cut in (0, 100, len(content) // 2, len(content) - 9):
            (tmp_path / name).write_bytes(content[:cut])
            assert_refused(tmp_path / name, "cannot be read|no whole .npz|empty|no cells `boxes`")
    scipy.io.savemat(tmp_path / "x.mat", {"boxes": np.ones((3, 4)), "images": "a"})
    assert_refused(tmp_path / "x.mat", "no cells `images` in it; expected the cells `images`")
    scipy.io.savemat(tmp_path / "x.mat", {"boxes": np.ones((3, 4))}, format="4")
    assert_refused(tmp_path / "x.mat", "MATLAB, version 5 .of another kind or version.; expected")
    assert_refused(tmp_path / "missing.npz", "missing; expected `names`")
    assert_refused(tmp_path / "x.pkl", "no file of proposals; expected .npz or .mat")


NAMES = [f"{i:06}" for i in range(7)]
