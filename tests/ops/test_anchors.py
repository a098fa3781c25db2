"""The grid of anchors by hand and against torchvision's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import anchor_grid, box_area

RECORDED = np.load(Path(__file__).parents[1] / "recorded" / "ops_boxes.npz")


def test_by_hand():
    grid = anchor_grid(1, 2, stride=8, scales=[4, 6], ratios=[1.0, 4.0])
    first = [[-2, -2, 2, 2], [-3, -3, 3, 3], [-1, -4, 1, 4], [-2, -6, 2, 6]]
    # 6 / sqrt(4) / 2 = 1.5 is rounded to the even 2.
    np.testing.assert_array_equal(grid[:4], first)
    np.testing.assert_array_equal(grid[4:], np.add(first, [8, 0, 8, 0]))


def test_equals_torchvision():
    grid = anchor_grid(4, 5, stride=16, scales=(32, 90.5, 128), ratios=(0.5, 1.0, 2.0))
    np.testing.assert_array_equal(grid, RECORDED["anchors"])


def test_unrounded_anchors_have_their_area_and_ratio():
    options = {"scales": (30.0, 50.0), "ratios": (0.5, 3.0), "rounded": False}
    grid = anchor_grid(2, 3, stride=(4, 10), offset=0.5, **options).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(box_area(grid)[1, 2], [900, 2500, 900, 2500], rtol=1e-4)
    size = grid[..., 2:] - grid[..., :2]
    np.testing.assert_allclose((size[..., 1] / size[..., 0])[0, 1], [0.5, 0.5, 3, 3], rtol=1e-4)
    centre = (grid[..., 2:] + grid[..., :2]) / 2
    np.testing.assert_allclose(centre[1, 2, 0], [25, 6], rtol=1e-5)


def test_dtype_and_jit():
    options = {"stride": 16, "scales": (32,), "ratios": (1.0,)}
    assert anchor_grid(2, 2, dtype=jnp.bfloat16, **options).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        assert anchor_grid(2, 2, **options).dtype == jnp.float32
        assert anchor_grid(2, 2, dtype=jnp.float64, **options).dtype == jnp.float64
    inside = jax.jit(lambda: anchor_grid(2, 2, **options))()
    np.testing.assert_array_equal(inside, anchor_grid(2, 2, **options))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"height": 0}, ValueError, "height is 0, expected an integer of at least 1"),
        ({"stride": 1.5}, TypeError, "stride is 1.5"),
        ({"stride": (1, 2, 3)}, ValueError, r"stride is \(1, 2, 3\), expected"),
        ({"scales": ()}, ValueError, r"scales are \(\), expected at least one"),
        ({"ratios": (-1.0,)}, ValueError, r"ratios are \(-1.0,\)"),
        ({"dtype": jnp.int32}, TypeError, "expected a floating dtype"),
    ],
)
def test_errors(change, error, text):
    given = {"height": 2, "width": 2, "stride": 4, "scales": (8,), "ratios": (1.0,)} | change
    with pytest.raises(error, match=text):
        anchor_grid(given.pop("height"), given.pop("width"), **given)
