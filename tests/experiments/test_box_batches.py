"""Batches of images with boxes: boxes follow their images, canvases turn, limits are named."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import _box_batches, _canvases, _detector_sets, faster_rcnn_bccd
from jaxstruct import data

SMALL = dataclasses.replace(
    faster_rcnn_bccd.SMOKE, train="train[:8]", validation="train[:8]", test="train[:8]",
    height=96, width=128, most=8, flip=0.0, resize=0.0, color=0.0,
)  # fmt: skip
CANVAS = SMALL.height, SMALL.width
PLACING = _box_batches.Placing(CANVAS, SMALL.most)


def photograph():
    """An image with a bright square, and the square's box."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[12:36, 20:50] = 255
    return {
        "image": image,
        "boxes": np.array([[20, 12, 50, 36]], np.float32),
        "classes": np.array([1]),
        "difficult": np.array([True]),
    }


@pytest.mark.parametrize("seed", range(6))
def test_boxes_follow_their_images(seed):
    placing = _box_batches.Placing(CANVAS, 8, flip=0.5, resize=0.4)
    moved = _box_batches.place(placing, CANVAS, np.random.default_rng(seed), photograph())
    assert moved["image"].shape == (96, 128, 3)
    assert moved["size"].tolist() == [96, 128]
    assert moved["classes"].tolist() == [2, *[0] * 7]
    assert moved["difficult"].tolist() == [True, *[False] * 7]
    if moved["boxes_valid"][0]:
        bright = moved["image"].mean(-1) > 190
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(moved["boxes"][0], around, atol=1.01)


def test_an_evaluation_places_images_at_the_top_left():
    placed = _box_batches.place(PLACING, CANVAS, None, photograph())
    assert placed["size"].tolist() == [96, 128]
    np.testing.assert_allclose(placed["boxes"][0] / placed["scale"], [20, 12, 50, 36], atol=1e-4)
    wide = photograph() | {"image": np.zeros((30, 80, 3), np.uint8)}
    assert _box_batches.place(PLACING, CANVAS, None, wide)["size"].tolist() == [48, 128]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(60, 80), (30, 90)], (96, 128)),
        ([(80, 60)], (128, 96)),
        ([(80, 60), (60, 80)], (128, 128)),
        ([(70, 70)], (96, 128)),
    ],
)
def test_the_canvas_turns_with_the_images_of_a_batch(monkeypatch, sizes, expected):
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    assert _canvases.shared_canvas(images, CANVAS) == expected
    assert _canvases.shared_canvas(images, CANVAS[::-1]) == (
        (128, 96) if sizes == [(70, 70)] else expected
    )
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert _canvases.shared_canvas(images, CANVAS) == (128, 128)


class Upright:
    """A reader of photographs of 80x60 pixels, and of 60x80 at odd places."""

    size = 4
    source = None

    def __call__(self, indices):
        wide = photograph()
        tall = wide | {
            "image": wide["image"].transpose(1, 0, 2),
            "boxes": wide["boxes"][:, [1, 0, 3, 2]],
        }
        examples = [wide if i % 2 else tall for i in indices]
        return {key: [one[key] for one in examples] for key in wide}


@pytest.mark.parametrize("train", [True, False])
def test_upright_images_have_an_upright_canvas(train):
    batches = _detector_sets.batches_of(
        dataclasses.replace(SMALL, batch_size=1), Upright(), train=train
    )
    for index, shape in enumerate([(128, 96), (96, 128)]):
        draws = [np.random.default_rng(0)]
        batch = batches.augment(draws, batches.read(np.array([index])))
        (image,), (boxes,), (scale,) = batch["image"], batch["boxes"], batch["scale"]
        assert image.shape[:2] == shape
        if not train:
            assert scale == pytest.approx(1.6)
            expected = [12, 20, 36, 50] if index == 0 else [20, 12, 50, 36]
            np.testing.assert_allclose(boxes[0] / scale, expected, atol=1e-4)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("size", [(70, 72), (80, 60), (60, 80)])
def test_an_image_is_the_same_in_any_batch(seed, size):
    placing = PLACING if seed is None else PLACING._replace(flip=0.5, resize=0.4, color=0.2)
    example = photograph() | {"image": np.full((*size, 3), 200, np.uint8)}
    draw = lambda: None if seed is None else np.random.default_rng(seed)
    alone = _canvases.turned(CANVAS, size)
    one = _box_batches.place(placing, alone, draw(), example)
    other = _box_batches.place(placing, (128, 128), draw(), example)
    assert other["image"].shape == (128, 128, 3)
    np.testing.assert_array_equal(other["image"][: alone[0], : alone[1]], one["image"])
    assert not other["image"][alone[0] :].any()
    assert not other["image"][:, alone[1] :].any()
    for name in one.keys() - {"image"}:
        np.testing.assert_array_equal(one[name], other[name])


def test_more_boxes_than_configured_are_named():
    example = photograph()
    example["boxes"] = np.repeat(example["boxes"], 9, 0)
    example["classes"] = np.repeat(example["classes"], 9)
    example["difficult"] = np.repeat(example["difficult"], 9)
    with pytest.raises(ValueError, match="got 9 values, expected at most 8"):
        _box_batches.place(PLACING, CANVAS, None, example)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_stored_proposals_follow_their_images(seed):
    placing = PLACING._replace(proposals=3, flip=0.5, resize=0.4)
    box = photograph()["boxes"]
    far = np.array([[0, 0, 5, 5]], np.float32)
    example = photograph() | {"proposals": np.concatenate([box, far, box, far])}
    draw = None if seed is None else np.random.default_rng(seed)
    placed = _box_batches.place(placing, CANVAS, draw, example)
    assert placed["proposals"].shape == (3, 4)
    kept = placed["proposals"][placed["proposals_valid"]]
    first = [row for row in kept if (row == placed["boxes"][0]).all()]
    assert len(first) == (2 if placed["boxes_valid"][0] else 0)
    if seed is None:
        np.testing.assert_allclose(kept / placed["scale"], [*box, *far, *box], atol=1e-4)


def test_too_many_boxes_are_found_before_a_run():
    with data.looking(imitations=True):
        boxes = data.open_reader("bccd", "train[:8]", without=("image",))(np.arange(8))["boxes"]
        counts = [len(found) for found in boxes]
        few = dataclasses.replace(SMALL, most=max(counts) - 1)
        expected = (
            rf"^bccd, train\[:8\]: image {counts.index(max(counts))} has {max(counts)} boxes, "
            rf"expected at most --most {few.most}; give --most {max(counts)}$"
        )
        with pytest.raises(data.DataError, match=expected):
            faster_rcnn_bccd.experiment(few)
        _box_batches.check_most("bccd", "train[:8]", max(counts))
