"""Trained weights in a tree of variables, and the line that says which they are."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct.models import (
    VGG,
    PlacedWeights,
    ResNet,
    from_torchvision,
    place_weights,
    torchvision_resnet_name,
    torchvision_vgg_name,
)

NAME = partial(torchvision_vgg_name, depth=11)


class Segmentation(nn.Module):
    """The first two layers of VGG, and a layer that torchvision's network has not."""

    @nn.compact
    def __call__(self, images):
        x = VGG(11, last="conv2_1", name="features")(images)["conv2_1"]
        return nn.Conv(5, (1, 1), name="score")(x)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(Segmentation().init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def given(*more):
    shapes = {
        "features.0.weight": (64, 3, 3, 3),
        "features.0.bias": (64,),
        "features.3.weight": (128, 64, 3, 3),
        "features.3.bias": (128,),
        **dict(more),
    }
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_variables_with_weights_are_filled_and_the_others_kept(variables):
    weights = given(("classifier.6.weight", (1000, 4096)), ("classifier.6.bias", (1000,)))
    placed = place_weights(variables, weights, NAME)
    features = placed.variables["params"]["features"]
    kernel = weights["features.3.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(features["conv2_1"]["kernel"], kernel)
    np.testing.assert_array_equal(features["conv1_1"]["bias"], weights["features.0.bias"])
    kept = placed.variables["params"]["score"]
    jax.tree.map(np.testing.assert_array_equal, kept, variables["params"]["score"])
    assert set(placed.loaded) == {*weights} - {"classifier.6.weight", "classifier.6.bias"}
    assert set(placed.initialised) == {("params", "score", kind) for kind in ("kernel", "bias")}
    assert placed.left_over == ("classifier.6.weight", "classifier.6.bias")
    assert str(placed) == "4 of 6 arrays loaded; initialised: score; left over: classifier.6"


def test_with_all_weights_it_is_from_torchvision():
    shapes = jax.eval_shape(
        ResNet(18, last="conv2").init, jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    )
    weights = {}
    for path, variable in jax.tree_util.tree_leaves_with_path(shapes):
        shape = (
            variable.shape[-1:-3:-1] + variable.shape[:2] if variable.ndim == 4 else variable.shape
        )
        name = torchvision_resnet_name([key.key for key in path])
        weights[name] = np.random.default_rng(len(weights)).normal(size=shape)
    # A counter of PyTorch's normalises nothing, so it is no weight that was left over.
    weights["bn1.num_batches_tracked"] = np.int64(7)
    placed = place_weights(shapes, weights, torchvision_resnet_name)
    expected = from_torchvision(shapes, weights, torchvision_resnet_name)
    jax.tree.map(np.testing.assert_array_equal, placed.variables, expected)
    n = len(weights) - 1
    assert str(placed) == f"{n} of {n} arrays loaded; initialised: none; left over: none"


def test_the_line_is_short_whatever_there_is():
    places = tuple(("params", "block", f"layer{i}", "kernel") for i in range(900))
    names = tuple(f"{'deep.' * 30}{i}.weight" for i in range(7))
    line = str(PlacedWeights({}, (), places, names))
    assert line.startswith("0 of 900 arrays loaded; initialised: block.layer0, block.layer1, ")
    assert "block.layer5 and 894 more; left over: ...deep.deep." in line
    assert line.endswith(".deep.5 and 1 more")
    assert len(line) < 500


def test_a_name_without_layers_is_written_whole():
    placed = PlacedWeights({}, ("w",), (("params", "score"),), ("fc",))
    assert str(placed) == "1 of 2 arrays loaded; initialised: score; left over: fc"


def test_another_shape_is_an_error_that_names_the_way_out(variables):
    weights = given(("score.weight", (21, 128, 1, 1)))
    message = (
        r"score\.weight has shape \(21, 128, 1, 1\), expected \(1, 1, 128, 5\) in linen's order; "
        r"place_weights, of weights without score\.weight, keeps the initial value"
    )
    with pytest.raises(ValueError, match=message):
        place_weights(variables, weights, NAME)


def test_what_has_neither_weights_nor_a_value_is_an_error(variables):
    shapes = jax.eval_shape(lambda: variables)
    message = r"params\.score\.bias is a shape and weights have no score\.bias, expected an initial"
    with pytest.raises(ValueError, match=message):
        place_weights(shapes, given(("score.weight", (5, 128, 1, 1))), NAME)
    with pytest.raises(ValueError, match=r"weights have no score\.bias, expected one for \(5,\)"):
        from_torchvision(variables, given(("score.weight", (5, 128, 1, 1))), NAME)
