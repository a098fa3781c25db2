"""Sliding windows: one pass over an image is all its windows; a budget is spread evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct import ops
from jaxstruct.models import Conv, VGGHead, slid_windows, sliding_windows


class Classifier(nn.Module):
    """OverFeat in small: convolutions and poolings, then dense layers as convolutions."""

    padding: int = 0

    @nn.compact
    def __call__(self, images):
        x = images
        for width in (4, 6):
            x = nn.relu(Conv(width, (3, 3), padding=self.padding)(x))
            x = ops.max_pool(x, 2, stride=2)
        x = VGGHead(8, size=4, dropout=0.0)(x)
        return Conv(5, (1, 1))(x)


SIZE, STRIDE = 22, 4  # 22 -> 20 -> 10 -> 8 -> 4 -> 1


def scores(padding, image_size, size=SIZE):
    rng = np.random.default_rng(0)
    image = jnp.array(rng.random((*image_size, 3)), jnp.float32)
    model = Classifier(padding)
    variables = jax.jit(model.init)(jax.random.key(0), image[None, :size, :size])
    apply = jax.jit(model.apply)
    dense = np.asarray(apply(variables, image[None]))[0]
    windows = slid_windows(*image_size, size=size, stride=STRIDE)
    crops = jnp.stack(
        [image[int(y) :, int(x) :][:size, :size] for x, y, *_ in windows.reshape(-1, 4)]
    )
    one_by_one = np.asarray(apply(variables, crops))[:, 0, 0]
    return dense, one_by_one.reshape(*windows.shape[:2], -1), windows


def test_scores_of_all_windows_come_from_one_map():
    dense, one_by_one, windows = scores(0, (38, 50))
    assert dense.shape == one_by_one.shape == (5, 8, 5)
    np.testing.assert_allclose(dense, one_by_one, rtol=1e-5, atol=1e-5)
    assert np.std(one_by_one, axis=(0, 1)).min() > 1e-3
    assert windows[2, 3].tolist() == [12, 8, 34, 30]


def test_padding_makes_them_unequal():
    dense, one_by_one, _ = scores(1, (36, 48), size=16)  # 16 -> 16 -> 8 -> 8 -> 4 -> 1
    assert dense.shape == one_by_one.shape
    largest = np.abs(one_by_one).max()
    assert np.abs(dense - one_by_one).max() > 0.05 * largest


def test_a_rest_that_a_pooling_drops_shifts_nothing():
    dense, one_by_one, windows = scores(0, (41, 51))
    assert windows.shape[:2] == (5, 8)
    np.testing.assert_allclose(dense, one_by_one, rtol=1e-5, atol=1e-5)


def test_slid_windows_refuse():
    with pytest.raises(ValueError, match="got an image of 10x50, windows of 22 and stride 4, expe"):
        slid_windows(10, 50, size=22, stride=4)
    with pytest.raises(ValueError, match="stride 0, expected"):
        slid_windows(30, 50, size=22, stride=0)


@pytest.mark.parametrize("most", [1, 7, 24, 25, 100, 1000, 10_000])
def test_a_budget_is_used_and_kept(most):
    windows = sliding_windows(375, 500, most)
    assert windows.dtype == np.float32
    assert 0.85 * most <= len(windows) <= most
    assert (windows >= 0).all()
    assert (windows[:, 2:] <= [500, 375]).all()
    assert (windows[:, 2:] > windows[:, :2]).all()
    assert len(np.unique(windows, axis=0)) == len(windows)


def test_windows_reach_from_border_to_border_and_are_even():
    windows = sliding_windows(100, 200, 60, scales=(0.5,), ratios=(1.0,))
    np.testing.assert_allclose(windows[:, 2:] - windows[:, :2], 50, rtol=1e-5)
    x, y = np.unique(windows[:, 0]), np.unique(windows[:, 1])
    assert (x[0], x[-1], y[0], y[-1]) == (0, 150, 0, 50)
    np.testing.assert_allclose(np.diff(x), 150 / (len(x) - 1), rtol=1e-5)
    # As far apart along both axes, as nearly as whole numbers allow.
    assert len(x) * len(y) == len(windows)
    assert abs(np.diff(x)[0] - np.diff(y)[0]) < 5


def test_shapes_of_windows():
    windows = sliding_windows(100, 200, 4, scales=(0.5, 1.0), ratios=(0.25, 4.0))
    sides = windows[:, 2:] - windows[:, :2]
    np.testing.assert_allclose(sides, [[200, 50], [50, 100], [100, 25], [25, 100]])
    np.testing.assert_allclose(windows.reshape(4, 2, 2).mean(1), [[100, 50]] * 4)


def test_more_windows_find_more():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 250, (300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(40, 120, (300, 2))], 1).astype(np.float32)
    recalls = []
    for most in (10, 100, 1000, 10_000):
        windows = sliding_windows(375, 500, most)
        best = np.asarray(ops.box_iou(jnp.array(boxes), jnp.array(windows))).max(1)
        recalls.append(np.mean(best >= 0.5))
    assert recalls == sorted(recalls)
    assert recalls[-1] > 0.99
    assert recalls[0] < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most": 0}, "got 0 windows of 30x40, expected numbers from 1 on"),
        ({"scales": ()}, "got scales"),
        ({"ratios": (1.0, -1.0)}, "expected numbers above 0"),
    ],
)
def test_sliding_windows_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        sliding_windows(30, 40, **{"most": 10, **options})
