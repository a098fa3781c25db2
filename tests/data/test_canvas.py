"""Canvases: pictures of a few pixels by hand, slow resampling, and what must move together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstruct.data import Affine, canvas_for, draw_affine, letter_box, move, move_boxes, padded

SIZES = st.tuples(st.integers(8, 40), st.integers(8, 40))
SEEDS = st.integers(0, 10_000)


def picture(size, channels=3, dtype=np.uint8, seed=0):
    image = np.random.default_rng(seed).random((*size, channels)).astype(np.float32)
    return np.round(image * 255).astype(np.uint8) if dtype == np.uint8 else image


def drawn(seed, size, canvas, scale=(0.4, 2.5)):
    return draw_affine(np.random.default_rng(seed), size, canvas, scale=scale)


def averaging(count, factor):
    """Row j: the shares that `count` pixels have in pixel j of an axis shrunk by a factor."""
    matrix = np.zeros((round(count * factor), count))
    for j, row in enumerate(matrix):
        for k in range(count):
            row[k] = max(0, min((j + 1) / factor, k + 1) - max(j / factor, k))
    return matrix / matrix.sum(1, keepdims=True)


def bilinear(image, x, y):
    """The value at continuous (x, y), the border repeated."""
    height, width = image.shape[:2]
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    j, i = min(int(x), width - 2), min(int(y), height - 2)
    (a, b), (c, d) = image[i : i + 2, j : j + 2]
    top, bottom = a + (x - j) * (b - a), c + (x - j) * (d - c)
    return top + (y - i) * (bottom - top)


# --- one image ---------------------------------------------------------------


def test_the_identity_changes_no_bit():
    for dtype in (np.uint8, np.float32):
        image = picture((7, 9), dtype=dtype)
        moved = move({"image": image}, Affine.identity(), (7, 9))["image"]
        assert moved.dtype == dtype
        np.testing.assert_array_equal(moved, image)


def test_a_flip_mirrors_two_by_two_pixels_and_a_second_flip_restores_them():
    image = np.array([[[10], [20]], [[30], [40]]], np.uint8)
    flipped = move({"image": image}, Affine.flip(2), (2, 2))["image"]
    np.testing.assert_array_equal(flipped[..., 0], [[20, 10], [40, 30]])
    again = move({"image": flipped}, Affine.flip(2), (2, 2))["image"]
    np.testing.assert_array_equal(again, image)


def test_a_shift_of_whole_pixels_moves_and_fills():
    image = np.array([[[1], [2]], [[3], [4]]], np.uint8)
    moved = move({"image": image}, Affine.shift(1, -1), (3, 4), fill=9)["image"]
    np.testing.assert_array_equal(moved[..., 0], [[9, 3, 4, 9], [9, 9, 9, 9], [9, 9, 9, 9]])


def test_enlarging_twice_interpolates_between_pixel_centres():
    image = np.array([[[0], [100]]], np.uint8)
    moved, scale, size = letter_box(image, (2, 4))
    assert (scale, size) == (2.0, (2, 4))
    np.testing.assert_array_equal(moved[..., 0], [[0, 25, 75, 100]] * 2)


def test_shrinking_averages_over_areas():
    image = np.array([[[0], [40], [80], [200]], [[20], [60], [80], [0]]], np.uint8)
    moved, scale, size = letter_box(image, (1, 3), fill=7)
    assert (scale, size) == (0.5, (1, 2))
    np.testing.assert_array_equal(moved[..., 0], [[30, 90, 7]])


def test_a_crop_takes_a_box_to_the_whole_canvas():
    image = picture((6, 8))
    moved = move({"image": image}, Affine.crop((2, 1, 6, 5), (4, 4)), (4, 4))["image"]
    np.testing.assert_array_equal(moved, image[1:5, 2:6])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("size", "canvas", "content"),
    [
        ((37, 53), (20, 30), (20, 29)),
        ((53, 37), (20, 30), (20, 14)),
        ((48, 64), (24, 32), (24, 32)),
    ],
)
def test_a_shrunk_letter_box_is_the_average_over_areas(size, canvas, content, dtype):
    image = picture(size, dtype=dtype)
    moved, scale, seen = letter_box(image, canvas, fill=(0, 1, 0.5) if dtype != np.uint8 else 7)
    assert scale == min(canvas[0] / size[0], canvas[1] / size[1])
    assert seen == content
    rows, columns = averaging(size[0], scale), averaging(size[1], scale)
    expected = np.einsum("ih,hwc,jw->ijc", rows, image.astype(float), columns)
    atol = 0.51 if dtype == np.uint8 else 1e-6
    np.testing.assert_allclose(moved[: seen[0], : seen[1]], expected, atol=atol)
    fill = [0, 1, 0.5] if dtype != np.uint8 else [7, 7, 7]
    outside = np.concatenate([moved[seen[0] :].reshape(-1, 3), moved[:, seen[1] :].reshape(-1, 3)])
    np.testing.assert_array_equal(outside, np.broadcast_to(np.array(fill, dtype), outside.shape))


def test_an_enlarged_image_is_bilinear_for_any_map():
    image = picture((9, 7), 4, np.float32)
    turn = Affine(np.array([[1.5, -0.8, 4.2], [0.8, 1.5, -3.1]]))
    for affine in (Affine.flip(7).then(Affine.scale(1.7)), Affine.shift(-0.3, 0.6), turn):
        moved = move({"image": image}, affine, (14, 15), fill=0.25)["image"]
        back = affine.inverse().matrix
        for i in range(14):
            for j in range(15):
                x, y = back @ (j + 0.5, i + 0.5, 1)
                inside = 0 <= x < 7 and 0 <= y < 9
                expected = bilinear(image, x, y) if inside else 0.25
                np.testing.assert_allclose(moved[i, j], expected, atol=1e-5)


def test_each_axis_shrinks_by_its_own_scale():
    image = picture((8, 12), dtype=np.float32)
    moved = move({"image": image}, Affine.crop((0, 0, 12, 8), (8, 4)), (8, 4))["image"]
    np.testing.assert_allclose(moved, image.reshape(8, 4, 3, 3).mean(2), atol=1e-6)


def test_a_turned_image_shrinks_along_its_own_axes():
    image = picture((3, 8), dtype=np.float32)
    turned = Affine(np.array([[0, 1, 0], [0.25, 0, 0]]))  # rows become columns, of four pixels one
    moved = move({"image": image}, turned, (2, 3))["image"]
    expected = image.reshape(3, 2, 4, 3).mean(2).transpose(1, 0, 2)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 0.64, 0.97, 0.995, 1, 1.004, 1.9])
@pytest.mark.parametrize("size", [(10, 90), (90, 10)])
def test_pixels_come_from_where_the_map_says(size, scale):
    rows, columns = np.indices(size, np.float32) + 0.5
    ramps = np.stack([columns, rows, rows], -1)  # of each pixel its own x and y
    canvas = int(size[0] * scale) + 4, int(size[1] * scale) + 4
    for mirror in (Affine.identity(), Affine.flip(size[1])):
        affine = mirror.then(Affine.scale(scale)).then(Affine.shift(2.3, 1.6))
        moved = move({"image": ramps}, affine, canvas, fill=-1)["image"]
        back = affine.inverse().matrix
        margin = 0.5 + 0.5 / scale  # at the border, where ramps end, averages and repeats differ
        seen = 0
        for i, j in np.ndindex(canvas):
            x, y = back @ (j + 0.5, i + 0.5, 1)
            if margin < x < size[1] - margin and margin < y < size[0] - margin:
                # An average of steps misses the ramp by 1/8 of a step at most.
                np.testing.assert_allclose(moved[i, j], (x, y, y), atol=0.13)
                seen += 1
        assert seen > 0


def test_an_image_may_vanish_between_the_pixels_of_the_canvas():
    example = {"image": picture((2, 40)), "masks": np.ones((2, 40), bool)}
    moved = move(example, Affine.scale(0.2).then(Affine.shift(0, 0.55)), (3, 8), fill=9)
    assert (moved["image"] == 9).all()
    assert not moved["masks"].any()


def test_a_fill_of_eight_bits_is_rounded():
    moved = move({"image": picture((2, 2))}, Affine.shift(5, 5), (1, 1), fill=(123.68, 116.4, 0.5))
    assert moved["image"].tolist() == [[[124, 116, 0]]]


@settings(deadline=None, max_examples=30)
@given(SEEDS, SIZES, SIZES)
def test_a_letter_box_is_the_move_by_its_map(seed, size, canvas):
    image = picture(size, seed=seed)
    boxed, scale, content = letter_box(image, canvas, fill=5)
    affine = Affine.letter_box(size, canvas)
    np.testing.assert_array_equal(boxed, move({"image": image}, affine, canvas, fill=5)["image"])
    assert scale == affine.matrix[0, 0]
    assert (np.abs(np.array(content) - np.array(size) * scale) <= 0.501).all()
    assert (content[0] == canvas[0]) or (content[1] == canvas[1])


@pytest.mark.parametrize("size", [(30, 64), (53, 37), (41, 43)])
def test_a_shrunk_letter_box_is_mirrored_to_the_bit(size):
    image, canvas = picture(size), (20, 31)
    boxed, _, (_, width) = letter_box(image, canvas, fill=5)
    affine = draw_affine(np.random.default_rng(0), size, canvas, flip=1, shift=0)
    mirrored = move({"image": image}, affine, canvas, fill=5)["image"]
    np.testing.assert_array_equal(mirrored[:, :width], boxed[:, :width][:, ::-1])
    np.testing.assert_array_equal(mirrored[:, width:], boxed[:, width:])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_move_together_as_each_alone(channels):
    image = picture((20, 30), channels)
    for seed in range(4):
        affine = drawn(seed, (20, 30), (16, 16))
        moved = move({"image": image}, affine, (16, 16), fill=range(channels))["image"]
        assert moved.shape == (16, 16, channels)
        for c in range(channels):
            alone = move({"image": image[..., c : c + 1]}, affine, (16, 16), fill=c)["image"]
            np.testing.assert_array_equal(moved[..., c : c + 1], alone)


def test_images_that_are_views_and_stacks_of_images_move():
    pair = np.stack([picture((10, 12), seed=0), picture((10, 12), seed=1)])[:, :, ::-1]
    affine = drawn(3, (10, 12), (9, 9))
    moved = move({"image": pair}, affine, (9, 9))["image"]
    for one, before in zip(moved, pair, strict=True):
        np.testing.assert_array_equal(one, move({"image": before}, affine, (9, 9))["image"])


def test_a_cropped_image_leaves_no_rest_of_the_canvas():
    image = np.full((30, 40, 1), 200, np.uint8)
    for seed in range(50):
        affine = drawn(seed, (30, 40), (24, 32), scale=(1, 3))
        assert (move({"image": image}, affine, (24, 32), fill=0)["image"] == 200).all()


# --- label maps, masks and boxes ---------------------------------------------


def test_everything_of_a_small_example_moves_as_by_hand():
    example = {
        "image": np.array([[[1], [2]], [[3], [4]]], np.uint8),
        "class_map": np.array([[0, 1], [2, 255]], np.int32),
        "mask": np.array([[True, False], [True, True]]),
        "masks": np.array([[[1, 0], [0, 0]], [[0, 0], [1, 1]]], np.uint8),
        "boxes": np.array([[0, 0, 1, 1], [0, 1, 2, 2]], np.float32),
        "classes": np.array([7, 8]),
        "label": 3,
        "name": "a.png",
    }
    moved = move(example, Affine.flip(2).then(Affine.shift(1, 0)), (2, 4), fill=9)
    assert list(moved) == list(example)
    np.testing.assert_array_equal(moved["image"][..., 0], [[9, 2, 1, 9], [9, 4, 3, 9]])
    np.testing.assert_array_equal(moved["class_map"], [[255, 1, 0, 255], [255, 255, 2, 255]])
    np.testing.assert_array_equal(moved["mask"], np.array([[0, 0, 1, 0], [0, 1, 1, 0]], bool))
    np.testing.assert_array_equal(
        moved["masks"], [[[0, 0, 1, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 1, 1, 0]]]
    )
    np.testing.assert_array_equal(moved["boxes"], [[2, 0, 3, 1], [1, 1, 3, 2]])
    np.testing.assert_array_equal(moved["classes"], [7, 8])
    assert (moved["label"], moved["name"]) == (3, "a.png")
    for key in ("class_map", "mask", "masks", "boxes", "classes"):
        assert moved[key].dtype == example[key].dtype
    assert example["boxes"][0, 0] == 0  # the example itself is as it was


def test_a_box_of_which_less_than_forty_per_cent_is_left_is_dropped():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [90, 2, 96, 4], [-3, 4, 3, 8]], np.float32)
    example = {"boxes": boxes, "classes": [1, 2, 3, 4], "difficult": np.array([0, 1, 0, 1], bool)}
    # Six pixels to the left: of the first box 4 of 10 columns are left, of the last none.
    moved = move(example, Affine.shift(-6, 0), (50, 88))
    np.testing.assert_array_equal(moved["boxes"], [[0, 0, 4, 10], [0, 0, 5, 10], [84, 2, 88, 4]])
    np.testing.assert_array_equal(moved["classes"], [1, 2, 3])
    np.testing.assert_array_equal(moved["difficult"], [False, True, False])
    assert move(example, Affine.shift(-6.01, 0), (50, 88))["classes"].tolist() == [2, 3]
    assert move(example, Affine.shift(-6, 0), (50, 88), keep=0.5)["classes"].tolist() == [2, 3]
    assert move(example, Affine.shift(-6, 0), (50, 87), keep=1)["classes"].tolist() == []
    assert move(example, Affine.shift(-8, 0), (50, 88), keep=0)["classes"].tolist() == [1, 2, 3]


def test_a_box_on_the_edge_of_the_canvas_stays_and_one_without_area_goes():
    boxes = np.array([[0, 0, 5, 6], [10, 0, 12, 6], [2, 3, 2, 5]], np.float32)
    moved = move({"boxes": boxes}, Affine.identity(), (6, 10), keep=0)
    np.testing.assert_array_equal(moved["boxes"], [[0, 0, 5, 6]])


def test_rows_belong_to_boxes_only_where_they_are_named():
    example = {
        "image": picture((4, 8)),
        "boxes": np.array([[0, 0, 4, 4], [4, 0, 8, 4]], np.float32),
        "proposals": np.array([[0, 0, 2, 2], [4, 0, 6, 2], [5, 0, 8, 4]], np.float32),
        "masks": np.ones((2, 4, 8), bool),
        "ids": np.array([5, 6]),
    }
    moved = move(example, Affine.shift(-4, 0), (4, 8), per_box=("masks",))
    assert moved["ids"].tolist() == [5, 6]
    assert moved["masks"].shape == (1, 4, 8)
    np.testing.assert_array_equal(moved["proposals"], [[0, 0, 2, 2], [1, 0, 4, 4]])
    assert move(example, Affine.shift(-4, 0), (4, 8), per_box=("ids",))["ids"].tolist() == [6]


def test_an_example_without_boxes_has_none_afterwards():
    example = {
        "image": picture((4, 8)),
        "boxes": np.zeros((0, 4), np.float32),
        "classes": np.zeros(0, np.int32),
        "masks": np.zeros((0, 4, 8), bool),
    }
    moved = move(example, Affine.flip(8), (6, 10))
    assert moved["boxes"].shape == (0, 4)
    assert moved["classes"].shape == (0,)
    assert moved["masks"].shape == (0, 6, 10)


def test_kinds_that_are_declared_decide():
    example = {"segments": np.zeros((2, 2), np.int32), "objects": np.array([[0, 0, 1, 1.0]])}
    moved = move(
        example, Affine.shift(1, 0), (2, 2), kinds={"segments": "class_map", "objects": "boxes"}
    )
    np.testing.assert_array_equal(moved["segments"], [[255, 0], [255, 0]])
    np.testing.assert_array_equal(moved["objects"], [[1, 0, 2, 1]])


@settings(deadline=None, max_examples=60)
@given(SEEDS, SIZES, SIZES)
def test_boxes_of_moved_masks_are_the_moved_boxes_within_a_pixel(seed, size, canvas):
    generator = np.random.default_rng(seed)
    masks, boxes = np.zeros((3, *size), bool), np.zeros((3, 4), np.float32)
    for mask, box in zip(masks, boxes, strict=True):
        y1, x1 = generator.integers(0, size)
        y2, x2 = generator.integers((y1, x1), size) + 1
        mask[y1:y2, x1:x2], box[:] = True, (x1, y1, x2, y2)
    affine = drawn(seed, size, canvas)
    moved = move({"masks": masks, "boxes": boxes}, affine, canvas, keep=0)
    for mask, (x1, y1, x2, y2) in zip(moved["masks"], moved["boxes"], strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):  # the box lies between the centres of pixels
            assert min(x2 - x1, y2 - y1) <= 1
            continue
        around = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        np.testing.assert_allclose(around, (x1, y1, x2, y2), atol=0.501)
        assert mask.sum() == len(rows) * len(columns)


@settings(deadline=None, max_examples=30)
@given(SEEDS, SIZES, SIZES)
def test_label_maps_and_masks_agree_after_a_move(seed, size, canvas):
    labels = np.random.default_rng(seed).integers(0, 3, size, np.uint8)
    masks = labels == np.arange(3)[:, None, None]
    moved = move({"class_map": labels, "masks": masks}, drawn(seed, size, canvas), canvas)
    inside = moved["class_map"] != 255
    np.testing.assert_array_equal(moved["masks"].any(0), inside)
    np.testing.assert_array_equal(moved["masks"].argmax(0)[inside], moved["class_map"][inside])


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES, SIZES)
def test_a_bright_rectangle_lies_where_its_moved_box_says(seed, size, canvas):
    generator = np.random.default_rng(seed)
    y1, x1 = generator.integers(0, np.array(size) - 4)
    y2, x2 = generator.integers((y1 + 4, x1 + 4), np.array(size) + 1)
    image = np.zeros((*size, 1), np.float32)
    image[y1:y2, x1:x2] = 1
    affine = drawn(seed, size, canvas)
    example = {"image": image, "boxes": np.array([[x1, y1, x2, y2]], np.float32)}
    moved = move(example, affine, canvas, keep=1)
    if not len(moved["boxes"]):
        return
    bright, (x1, y1, x2, y2) = moved["image"][..., 0].astype(float), moved["boxes"][0]
    # Sums along an axis are exact up to what is averaged at the border.
    assert abs(bright.sum() - (x2 - x1) * (y2 - y1)) <= x2 - x1 + y2 - y1 + 1
    if bright.sum() > 4:
        centre_x = (bright.sum(0) @ (np.arange(canvas[1]) + 0.5)) / bright.sum()
        centre_y = (bright.sum(1) @ (np.arange(canvas[0]) + 0.5)) / bright.sum()
        assert abs(centre_x - (x1 + x2) / 2) < 0.51
        assert abs(centre_y - (y1 + y2) / 2) < 0.51


def test_predictions_return_to_the_original_image():
    box = np.array([[3, 4, 12, 9]], np.float32)
    affine = Affine.letter_box((20, 30), (50, 45))
    on_canvas = move({"boxes": box}, affine, (50, 45))["boxes"]
    np.testing.assert_allclose(on_canvas, box * 1.5)
    np.testing.assert_allclose(move_boxes(on_canvas, affine.inverse()), box, rtol=1e-6)


def test_equal_generators_give_equal_examples():
    example = {"image": picture((20, 30)), "boxes": np.array([[1, 2, 20, 18]], np.float32)}
    first, second, other = (
        move(example, drawn(seed, (20, 30), (16, 16)), (16, 16)) for seed in (1, 1, 2)
    )
    for key in example:
        np.testing.assert_array_equal(first[key], second[key])
    assert (first["image"] != other["image"]).any()


# --- fixed sizes -------------------------------------------------------------


def test_ragged_values_are_filled_up_with_zeros():
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    rows, valid = padded(boxes, 3)
    assert (rows.dtype, valid.dtype) == (np.float32, np.bool_)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]])
    assert valid.tolist() == [True, True, False]
    assert padded(boxes, 2)[1].all()
    rows, valid = padded(np.zeros((0, 4)), 2)
    assert (rows.shape, valid.tolist()) == ((2, 4), [False, False])


def test_more_values_than_there_is_room_for_are_refused():
    with pytest.raises(ValueError, match="got 3 values, expected at most 2; allow more, or drop"):
        padded(np.zeros((3, 4)), 2)
    with pytest.raises(ValueError, match=r"a single number, expected values \[n, ...\]"):
        padded(3, 2)


def test_the_canvas_is_the_one_that_keeps_the_largest_scale():
    canvases = [(600, 1000), (1000, 600)]
    assert canvas_for((375, 500), canvases) == (600, 1000)
    assert canvas_for((500, 375), canvases) == (1000, 600)
    assert canvas_for((400, 400), canvases) == (600, 1000)  # a tie: the first
    assert canvas_for((400, 400), canvases[::-1]) == (1000, 600)
    assert canvas_for((240, 320), [(320, 320), (240, 320)]) == (240, 320)  # a tie: the smaller
    with pytest.raises(ValueError, match="no canvases were given"):
        canvas_for((3, 4), [])


# --- refusals ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "options", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, {}, r"shape \(4, 4\), expected \[..., H, W, C\]"),
        ({"class_map": np.zeros(4)}, {}, r"class_map of shape \(4,\), expected \[..., H, W\]"),
        (
            {"image": picture((4, 5)), "mask": np.zeros((5, 4))},
            {},
            r"heights and widths differ \(image 4x5, mask 5x4\)",
        ),
        ({"boxes": np.zeros((1, 2, 4))}, {}, r"boxes of shape \(1, 2, 4\), expected \[n, 4\]"),
        (
            {"boxes": np.zeros((2, 4)), "classes": np.zeros(3)},
            {},
            r"classes of shape \(3,\) and 2 boxes, expected one row for each box",
        ),
        ({"boxes": np.zeros((2, 4)), "classes": 3}, {}, r"classes of shape \(\) and 2 boxes"),
        ({"image": picture((4, 5))}, {"keep": 40}, "keep 40, expected a share from 0 to 1"),
        ({"image": picture((4, 5))}, {"fill": (1, 2)}, "expected one number, or 3, one for each"),
        ({"image": picture((4, 5))}, {"fill": 256}, "fill 256, expected 0 to 255"),
        ({"image": picture((4, 5), 2)}, {}, "expected 1, 3 or 4 channels"),
        ({"image": picture((4, 5))}, {"kinds": {"imag": "image"}}, "kind is declared for 'imag'"),
    ],
)
def test_what_does_not_fit_is_refused(example, options, message):
    with pytest.raises(ValueError, match=message):
        move(example, Affine.identity(), (4, 4), **options)


def test_images_that_cannot_be_letter_boxed_are_refused():
    with pytest.raises(TypeError, match="image of float64, expected uint8 or float32"):
        letter_box(np.zeros((4, 4, 3)), (4, 4))
    with pytest.raises(ValueError, match=r"image of shape \(4, 4\), expected \[H, W, C\]"):
        letter_box(np.zeros((4, 4), np.uint8), (4, 4))
    with pytest.raises(ValueError, match="image of 1x640 is no more than half a pixel high"):
        letter_box(np.zeros((1, 640, 3), np.uint8), (240, 320))
