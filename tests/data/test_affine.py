"""Affine maps: points by hand, composition, inverse, and what is drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstruct.data import Affine, draw_affine, move_boxes

SIZES = st.tuples(st.integers(2, 60), st.integers(2, 60))


def point(affine, x, y):
    return (affine.matrix @ (x, y, 1)).tolist()


def random_affine(generator):
    return Affine(generator.normal(size=(2, 3)) + np.eye(2, 3))


def test_the_named_maps_move_a_point_as_by_hand():
    assert point(Affine.identity(), 3, 5) == [3, 5]
    assert point(Affine.flip(10), 3, 5) == [7, 5]
    assert point(Affine.scale(2), 3, 5) == [6, 10]
    assert point(Affine.shift(-1, 4), 3, 5) == [2, 9]
    # 4 wide and 2 high onto 8 wide and 6 high: twice as wide, three times as high.
    assert point(Affine.crop((2, 4, 6, 6), (6, 8)), 3, 5) == [2, 3]
    assert point(Affine.letter_box((100, 50), (20, 40)), 10, 50) == [2, 10]
    assert point(Affine.letter_box((10, 50), (20, 100)), 10, 5) == [20, 10]


def test_composition_is_one_after_the_other():
    shifted_then_scaled = Affine.shift(1, 2).then(Affine.scale(3))
    assert point(shifted_then_scaled, 1, 1) == [6, 9]
    assert point(Affine.scale(3).then(Affine.shift(1, 2)), 1, 1) == [4, 5]
    generator = np.random.default_rng(0)
    for _ in range(5):
        first, second = random_affine(generator), random_affine(generator)
        np.testing.assert_allclose(
            point(first.then(second), 2, -3), point(second, *point(first, 2, -3)), rtol=1e-12
        )


def test_the_inverse_takes_back():
    generator = np.random.default_rng(1)
    for _ in range(5):
        affine = random_affine(generator)
        for identity in (affine.then(affine.inverse()), affine.inverse().then(affine)):
            np.testing.assert_allclose(identity.matrix, np.eye(2, 3), atol=1e-12)


def test_a_flip_twice_is_the_identity():
    twice = Affine.flip(37).then(Affine.flip(37))
    np.testing.assert_array_equal(twice.matrix, np.eye(2, 3))


def test_a_box_of_a_flipped_image_has_its_corners_in_order():
    boxes = np.array([[1, 2, 4, 8], [0, 0, 10, 10]], np.float32)
    moved = move_boxes(boxes, Affine.flip(10))
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, [[6, 2, 9, 8], [0, 0, 10, 10]])


def test_a_turned_box_becomes_the_upright_box_around_it():
    turned = Affine(np.array([[1, -1, 0], [1, 1, 0]]) * 0.5)  # by 45 degrees, and smaller
    np.testing.assert_array_equal(move_boxes(np.array([0, 0, 2, 4]), turned), [-2, 0, 1, 3])


def test_boxes_go_to_a_canvas_and_back():
    generator = np.random.default_rng(2)
    corners = generator.uniform(0, 300, (5, 3, 2, 2))
    boxes = np.concatenate([corners.min(-2), corners.max(-2)], -1).astype(np.float32)
    affine = draw_affine(generator, (300, 300), (200, 320), flip=1, scale=(0.5, 2))
    np.testing.assert_allclose(
        move_boxes(move_boxes(boxes, affine), affine.inverse()), boxes, atol=1e-3
    )


def test_no_boxes_stay_no_boxes():
    assert move_boxes(np.zeros((0, 4)), Affine.flip(3)).shape == (0, 4)


def test_without_jitter_the_letter_box_is_drawn_mirrored_or_not():
    size, canvas = (30, 50), (60, 80)
    draws = [draw_affine(np.random.default_rng(i), size, canvas, shift=0) for i in range(200)]
    plain = Affine.letter_box(size, canvas)
    mirrored = plain.then(Affine.flip(80))
    of_plain = [np.allclose(draw.matrix, plain.matrix) for draw in draws]
    of_mirrored = [np.allclose(draw.matrix, mirrored.matrix) for draw in draws]
    assert all(a != b for a, b in zip(of_plain, of_mirrored, strict=True))
    assert 70 < sum(of_mirrored) < 130
    for flip, matrix in ((0, plain.matrix), (1, mirrored.matrix)):
        affine = draw_affine(np.random.default_rng(0), size, canvas, flip=flip, shift=0)
        np.testing.assert_allclose(affine.matrix, matrix)


def test_scales_and_places_are_uniform_over_what_is_sensible():
    generator = np.random.default_rng(3)
    draws = [
        draw_affine(generator, (10, 40), (100, 200), flip=0, scale=(0.5, 2)).matrix
        for _ in range(2000)
    ]
    scales = np.array([draw[0, 0] for draw in draws]) / 5  # 5: the letter box's
    assert abs(scales.mean() - 1.25) < 0.03
    assert abs(scales.std() - 1.5 / 12**0.5) < 0.02
    assert 0.5 <= scales.min() < 0.51
    assert 1.99 < scales.max() <= 2
    room = 200 - 200 * scales
    share = np.array([draw[0, 2] for draw in draws]) / room
    share = share[abs(room) > 20]  # where rounding matters little
    assert abs(share.mean() - 0.5) < 0.03
    assert abs(share.std() - 1 / 12**0.5) < 0.02


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), SIZES, SIZES, st.sampled_from([0.0, 0.3, 1.0]))
def test_a_small_image_lies_on_the_canvas_and_a_large_one_covers_it(seed, size, canvas, shift):
    affine = draw_affine(
        np.random.default_rng(seed), size, canvas, flip=0.5, scale=(0.3, 3), shift=shift
    )
    whole = move_boxes(np.array([0, 0, size[1], size[0]]), affine)
    for low, high, room in ((whole[0], whole[2], canvas[1]), (whole[1], whole[3], canvas[0])):
        # Rounding to whole pixels moves by half a pixel at most.
        if high - low <= room:
            assert low >= -0.501
            assert high <= room + 0.501
        else:
            assert low <= 0.501
            assert high >= room - 0.501


def test_shifts_are_of_whole_pixels_of_the_canvas():
    generator = np.random.default_rng(4)
    for _ in range(20):
        affine = draw_affine(generator, (33, 47), (20, 30), scale=(0.5, 2))
        np.testing.assert_array_equal(affine.matrix[:, 2] % 1, 0)


def test_a_share_of_the_room_bounds_the_shift():
    generator = np.random.default_rng(5)
    shifts = [
        draw_affine(generator, (10, 10), (10, 110), flip=0, shift=0.2).matrix[0, 2]
        for _ in range(100)
    ]
    assert min(shifts) < 3
    assert 17 < max(shifts) <= 20


def test_equal_generators_draw_equal_maps_and_options_change_only_their_own():
    def draw(**options):
        return draw_affine(np.random.default_rng(7), (33, 47), (20, 80), **options).matrix

    np.testing.assert_array_equal(draw(scale=(0.5, 2)), draw(scale=(0.5, 2)))
    assert draw(flip=1)[0, 0] == -draw(flip=0)[0, 0]
    assert draw(flip=0, shift=0.5)[0, 2] == np.round(draw(flip=0)[0, 2] / 2)


def test_a_wrong_map_is_refused():
    with pytest.raises(ValueError, match=r"matrix of shape \(3, 3\), expected \(2, 3\)"):
        Affine(np.eye(3))
    with pytest.raises(ValueError, match="an inverse"):
        Affine.scale(0)
    with pytest.raises(ValueError, match="finite"):
        Affine.shift(np.nan, 0)
    with pytest.raises(ValueError, match="expected x1 < x2 and y1 < y2"):
        Affine.crop((4, 0, 4, 2), (10, 10))
    with pytest.raises(ValueError, match="image of 0x5 and canvas of 3x3 pixels"):
        Affine.letter_box((0, 5), (3, 3))
    with pytest.raises(ValueError, match=r"boxes of shape \(0,\), expected \[..., 4\]"):
        move_boxes([], Affine.identity())


def test_a_map_cannot_be_changed():
    matrix = np.eye(2, 3)
    affine = Affine(matrix)
    matrix[0, 0] = 9
    assert affine.matrix[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (2, 1)}, r"scale \(2, 1\), expected two factors above 0, the smaller one first"),
        ({"scale": (0, 1)}, "above 0"),
        ({"flip": 1.5}, "flip 1.5, expected a number from 0 to 1"),
        ({"shift": -0.1}, "shift -0.1, expected a number from 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        draw_affine(np.random.default_rng(0), (5, 5), (5, 5), **options)
