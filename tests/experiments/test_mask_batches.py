"""Batches of images with class maps: both move by one map, and void adds nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _mask_batches
from experiments._canvases import GREY
from experiments._mask_batches import Placing, place
from jaxstruct import data
from jaxstruct.metrics import Mean, boundary_distance

CANVAS, CROP = (60, 80), (32, 40)
TRAINED = Placing(CANVAS, CROP, scale=(0.5, 2.0), flip=0.5)


def photograph(size=(90, 120), values=None):
    """An image that shows its pixels' coordinates, and a class map of columns or `values`."""
    rows, columns = np.indices(size).astype(np.uint8)
    image = np.stack([columns, rows, np.full(size, 200, np.uint8)], -1)
    return {"image": image, "class_map": columns if values is None else values}


@pytest.mark.parametrize("axis", ["columns", "rows"])
@pytest.mark.parametrize("size", [(90, 120), (120, 90), (40, 200)])
def test_coordinates_painted_into_image_and_class_map_agree(size, axis):
    channel = 0 if axis == "columns" else 1
    example = photograph(size)
    example["class_map"] = example["image"][..., channel]
    example["image"] = example["image"] / np.float32(256)
    turned = CROP if size[1] > size[0] else CROP[::-1]
    scales, mirrored, seen = [], 0, 0
    for seed in range(12):
        moved = place(TRAINED, turned, np.random.default_rng(seed), example)
        assert moved["image"].shape == (*turned, 3)
        inside = moved["class_map"] != 255
        assert (moved["image"][~inside] == GREY).all()
        # OpenCV interpolates at places rounded to 1/32 of a pixel of the averaged image.
        apart = 256 * moved["image"][inside][:, channel] - moved["class_map"][inside]
        assert np.abs(apart).max(initial=0) <= 0.5 + 1 / (64 * min(moved["scale"], 1))
        np.testing.assert_allclose(256 * moved["image"][inside][:, 2], 200, rtol=1e-3)
        scales.append(float(moved["scale"]))
        columns = moved["image"][..., 0][inside.all(1)]
        mirrored += len(columns) > 0 and columns[0, 0] > columns[0, -1]
        seen += inside.sum()
    fit = min(CANVAS[0] / min(size), CANVAS[1] / max(size))
    assert fit * 0.5 <= min(scales) < fit < max(scales) <= fit * 2
    assert seen > 0
    assert 2 <= mirrored <= 10


@pytest.mark.parametrize(
    ("size", "enlarge", "seen", "scale"),
    [
        ((90, 120), True, (60, 80), 2 / 3),
        ((30, 80), True, (30, 80), 1),
        ((30, 40), True, (60, 80), 2),
        ((30, 40), False, (30, 40), 1),
        ((90, 120), False, (60, 80), 2 / 3),
        ((120, 90), False, (80, 60), 2 / 3),
    ],
)
def test_an_evaluation_places_images_at_the_top_left(size, enlarge, seen, scale):
    placing = Placing(CANVAS, CROP, enlarge)
    placed = place(placing, (80, 80), None, photograph(size))
    assert placed["size"].tolist() == list(seen)
    assert placed["original_size"].tolist() == list(size)
    assert placed["scale"] == pytest.approx(scale)
    covered = np.zeros((80, 80), bool)
    covered[: seen[0], : seen[1]] = True
    np.testing.assert_array_equal(placed["class_map"] != 255, covered)
    assert (placed["image"][~covered] == GREY).all()
    # Predictions go back by the scale: the pixel in the middle of a canvas's pixel, of the image.
    columns = (np.arange(seen[1]) + 0.5) / placed["scale"]
    np.testing.assert_array_equal(placed["class_map"][0, : seen[1]], columns.astype(int))


def test_the_edge_of_an_image_is_no_boundary():
    values = np.zeros((20, 40), np.uint8)  # the canvas has rows below it
    values[:, 30:] = 1
    placing = Placing(CANVAS, CROP, boundaries=True)
    placed = place(placing, (80, 80), None, photograph((20, 40), values))
    expected = boundary_distance(np.kron(values, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(placed["boundary_distance"][:40, :80], expected)
    assert (placed["boundary_distance"][40:] == np.inf).all()
    assert placed["boundary_distance"].dtype == np.float32
    assert "boundary_distance" not in place(
        placing, CROP, np.random.default_rng(0), photograph((20, 40), values)
    )


@pytest.fixture(scope="module")
def readers():
    with data.looking(imitations=True):
        yield {name: data.open_reader(name, "val") for name in ("camvid", "voc2012_segmentation")}


def batch_of(batches, step, seed=0):
    indices = batches.indices(step)
    draws = [np.random.default_rng((seed, i)) for i in range(len(indices))]
    return batches.finished(batches.augment(draws, batches.read(indices)))


def test_batches_of_a_set_have_the_spec_s_shapes(readers):
    placing = TRAINED._replace(color=0.2)
    batches = _mask_batches.batches_of(readers["camvid"], 4, placing, train=True, seed=0)
    batch = batch_of(batches, 0)
    assert {key: x.shape for key, x in batch.items()} == {
        "image": (4, *CROP, 3),
        "class_map": (4, *CROP),
        "size": (4, 2),
        "original_size": (4, 2),
        "scale": (4,),
    }
    assert (batch["image"].dtype, batch["class_map"].dtype) == (np.float32, np.int32)
    assert set(np.unique(batch["class_map"])) <= {*range(11), 255}
    assert len(np.unique(batch["class_map"])) > 3


def test_images_of_both_orientations_share_a_square(readers):
    placing = Placing(CANVAS, CROP, boundaries=True)
    batches = _mask_batches.batches_of(
        readers["voc2012_segmentation"], 4, placing, train=False, seed=0
    )
    batch = batch_of(batches, 0)  # of four images the last is high
    assert batch["class_map"].shape == batch["boundary_distance"].shape == (4, 80, 80)
    assert batch["original_size"].tolist() == [[96, 128]] * 3 + [[128, 96]]
    assert batch["size"].tolist() == [[60, 80]] * 3 + [[80, 60]]
    assert [batches.indices(step).tolist() for step in (2, 3)] == [[8, 9, 10, 11], []]


def test_a_crop_without_a_labelled_pixel_counts_nothing():
    """The term of the module's docstring, over a batch of a labelled and a void crop."""
    void = np.full((90, 120), 255, np.uint8)
    crops = [
        place(TRAINED, CROP, np.random.default_rng(5), photograph(values=values))
        for values in (void, void * 0)
    ]
    class_map = jnp.stack([crop["class_map"] for crop in crops]).astype(jnp.int32)
    losses = jnp.full(class_map.shape, 2.0)
    alone = Mean.of(losses[:1], class_map[:1] != 255)
    both = Mean.of(losses, class_map != 255)
    assert (float(alone.total), float(alone.count), float(alone.value)) == (0, 0, 0)
    labelled = int((class_map[1] != 255).sum())
    assert (float(both.total), float(both.count)) == (2 * labelled, labelled)
    slope = jax.grad(lambda x: Mean.of(x, class_map[:1] != 255).value)(losses[:1])
    assert not slope.any()
