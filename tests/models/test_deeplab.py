"""DeepLab: sizes, places, heads, and trunks that are dilated in place of a stride."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import models
from jaxstruct.models import ASPP, DeepLab, EfficientNetLite0, LargeFOV
from tests.models import weights
from tests.models.pixel_trunk import Means, inside, ramps

TRUNKS = {
    "vgg": lambda stride: models.VGG(11, output_stride=stride),
    "resnet": lambda stride: models.ResNet(18, output_stride=stride),
    "lite0": lambda stride: EfficientNetLite0(output_stride=stride),
}


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_logits_have_the_size_of_any_image(trunk, stride):
    model = DeepLab(TRUNKS[trunk](stride), LargeFOV(7, hidden=4))
    logits, variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), jnp.zeros((2, 97, 65, 3))
    )
    assert logits.shape == (2, 97, 65, 7)
    fc6 = variables["params"]["head"]["fc"]["fc6"]["kernel"]
    assert fc6.shape == (3, 3, 320 if trunk == "lite0" else 512, 4)


@pytest.mark.parametrize("head", [LargeFOV(3, hidden=None), ASPP(3, rates=(2, 5), hidden=None)])
def test_pixels_are_where_they_were(head):
    image = ramps(83, 93)
    model = DeepLab(Means(8), head)
    variables = jax.jit(model.init)(jax.random.key(0), image)
    # The tap in the middle of one rate copies the map.
    params = jax.tree.map(np.zeros_like, variables["params"])
    scores = params["head"] if isinstance(head, LargeFOV) else params["head"]["rate5"]
    assert scores["score"]["kernel"].shape == (3, 3, 3, 3)
    scores["score"]["kernel"][1, 1] = np.eye(3)
    found = jax.jit(model.apply)({"params": params}, image)
    assert inside(found, 12).max() < 1e-3


def test_without_padding_the_map_covers_the_image():
    image = ramps(83, 93)
    model = DeepLab(Means(8), LargeFOV(3, hidden=None, rate=1), padded=False)
    params = jax.tree.map(np.zeros_like, model.init(jax.random.key(0), image)["params"])
    params["head"]["score"]["kernel"][1, 1] = np.eye(3)
    found = jax.jit(model.apply)({"params": params}, image)
    # 10 cells of 8 pixels, over 83 pixels.
    centres = ((np.arange(83) + 0.5) / 83 * 10 - 0.5).clip(0, 9) * 8 + 4
    np.testing.assert_allclose(found[0, :, 40, 0], centres, rtol=1e-5)


@pytest.mark.parametrize("hidden", [5, None])
def test_the_pyramid_is_the_sum_of_its_rates_and_each_sees_so_far(hidden):
    x = np.random.default_rng(0).random((1, 9, 30, 4), np.float32)
    head = ASPP(3, rates=(4, 11), hidden=hidden)
    variables = jax.jit(head.init)(jax.random.key(0), x)
    scores = jax.jit(head.apply)(variables, x)
    expected = 0
    for rate in (4, 11):
        params = {"params": variables["params"][f"rate{rate}"]}
        alone = LargeFOV(3, rate=rate, hidden=hidden)
        see = jax.jit(alone.apply)
        expected = expected + see(params, x)
        moved = x.copy()
        moved[0, 4, 15] += 1
        changed = np.abs(see(params, moved) - see(params, x)).max((0, 1, 3)) > 1e-6
        assert set(np.flatnonzero(changed)) <= {15 - rate, 15, 15 + rate}
        assert changed.sum() > 1
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_the_auxiliary_head_reads_its_map():
    image = ramps(48, 64)
    head, other = LargeFOV(3, hidden=None), LargeFOV(3, hidden=None)
    model = DeepLab(Means(16), head, auxiliary=other, auxiliary_map="map8")
    params = jax.tree.map(np.zeros_like, model.init(jax.random.key(0), image)["params"])
    params["auxiliary"]["score"]["kernel"][1, 1] = np.eye(3)
    found = jax.jit(lambda p: model.apply({"params": p}, image, method="outputs"))(params)
    assert not np.any(found["out"])
    assert inside(found["aux"], 4).max() < 1e-3
    wrong = model.clone(auxiliary_map="conv4")
    with pytest.raises(ValueError, match="auxiliary_map 'conv4', expected one of map8, map16"):
        wrong.init(jax.random.key(0), image)


def test_a_dilated_lite0_makes_the_maps_of_stride_32_and_those_between():
    image = weights.images(64, 96)[:1]
    coarse, fine = (EfficientNetLite0(output_stride=stride) for stride in (32, 8))
    assert EfficientNetLite0() == coarse
    names = {"blocks_0": 2, "blocks_2": 4, "blocks_4": 8, "blocks_10": 8, "blocks_15": 8}
    assert fine.strides() == names
    shapes = jax.eval_shape(coarse.init, jax.random.key(0), image)
    assert jax.eval_shape(fine.init, jax.random.key(0), image) == shapes
    rng = np.random.default_rng(0)

    def drawn(path, like):
        if path[-1].key == "kernel":
            size = (2 / np.prod(like.shape[:-1])) ** 0.5
            return size * rng.normal(size=like.shape).astype(np.float32)
        return rng.uniform(0.5, 1, like.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(drawn, shapes)
    few, many = jax.jit(lambda v: (coarse.apply(v, image), fine.apply(v, image)))(variables)
    # A stride of 2 with padding "SAME" sees the second pixel of each two.
    for name, step in (("blocks_4", 1), ("blocks_10", 2), ("blocks_15", 4)):
        part = many[name][:, step - 1 :: step, step - 1 :: step]
        assert many[name].shape[1:3] == (8, 12)
        limit = 1e-4 * np.abs(few[name]).max()
        assert np.std(few[name]) > 100 * limit
        np.testing.assert_allclose(part, few[name], rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (EfficientNetLite0(output_stride=4), "output_stride 4, expected 8, 16 or 32"),
        (DeepLab(Means(8), ASPP(3, rates=())), "got no rates, expected one at least"),
    ],
)
def test_errors(model, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_images_that_are_no_batch():
    model = DeepLab(Means(8), LargeFOV(3))
    with pytest.raises(ValueError, match=r"got images \(8, 8, 3\), expected \[B, H, W, C\]"):
        model.init(jax.random.key(0), jnp.zeros((8, 8, 3)))
