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
RESNET = torchvision_resnet_name


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


@pytest.fixture(scope="module")
def shapes():
    model = ResNet(18, last="conv2")
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def drawn(variables, name):
    """Arrays for all variables, by PyTorch's names and in its order of axes."""
    found = {}
    for path, variable in jax.tree_util.tree_leaves_with_path(variables):
        shape = variable.shape
        shape = shape[:1:-1] + shape[:2] if len(shape) == 4 else shape[::-1]
        found[name([key.key for key in path])] = np.zeros(shape, np.float32)
    return found


def test_a_deeper_network_s_layers_are_refused(shapes):
    weights = drawn(shapes, torchvision_resnet_name)
    more = {"layer1.2.conv1.weight": 0, "layer1.2.bn1.bias": 0, "layer1.2.bn1.weight": 0}
    message = (
        r"the variables lack: layer1\.2\.conv1, layer1\.2\.bn1; expected those of the same "
        r"network, or these layers in left_out \(None: all of them\)"
    )
    with pytest.raises(ValueError, match=message):
        from_torchvision(shapes, weights | more, torchvision_resnet_name)
    placed = place_weights(shapes, weights | more, torchvision_resnet_name)
    assert str(placed).endswith("left over: layer1.2.conv1, layer1.2.bn1")


def test_layers_behind_the_last_map_are_left_out_by_name(shapes):
    weights = drawn(shapes, torchvision_resnet_name)
    expected = from_torchvision(shapes, weights, torchvision_resnet_name)
    weights |= {"fc.weight": 0, "fc.bias": 0, "bn1.num_batches_tracked": 0}
    assert jax.tree.all(
        jax.tree.map(np.array_equal, from_torchvision(shapes, weights, RESNET), expected)
    )
    weights |= {"layer2.0.conv1.weight": 0, "layer20.weight": 0}
    with pytest.raises(ValueError, match=r"lack: fc, layer20; expected"):
        from_torchvision(shapes, weights, RESNET, left_out=["layer2"])
    from_torchvision(
        shapes, weights, RESNET, left_out=("layer2", "layer20", "fc.weight", "fc.bias")
    )
    from_torchvision(shapes, weights, RESNET, left_out=None)
    with pytest.raises(TypeError, match="left_out 'fc', expected a sequence of names"):
        from_torchvision(shapes, weights, RESNET, left_out="fc")


@pytest.mark.parametrize("place", [from_torchvision, place_weights])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: {f"module.{n}": a for n, a in weights.items()},
            r"names with 'module\.', of torch\.nn\.DataParallel, expected them without: "
            r"{n\.replace\('module\.', ''\): a for n, a in weights\.items\(\)}",
        ),
        (
            lambda weights: {f"encoder.module.{n}": a for n, a in weights.items()},
            r"begin with 'encoder\.module\.', .*: {n\.removeprefix\('encoder\.module\.'\): a for",
        ),
        (
            lambda weights: {"epoch": 1, "state_dict": weights},
            r"hold a dictionary: pass weights\['state_dict'\]",
        ),
        (
            lambda weights: {"stem.conv.weight": 0},
            r"have (no \w+\.[\w.]+, exp|stem\.conv, of which)",
        ),
    ],
)
def test_weights_under_other_names_say_how_to_rename_them(shapes, place, change, message):
    weights = change(drawn(shapes, RESNET))
    variables = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), shapes)
    for tree in (variables, shapes) if place is from_torchvision else (variables,):
        with pytest.raises(ValueError, match=message) as error:
            place(tree, weights, RESNET)
        assert "\n" not in str(error.value)


def test_one_lacking_layer_is_not_taken_for_names_with_a_prefix(shapes):
    weights = drawn(shapes, RESNET)
    del weights["bn1.weight"]  # but there is layer1.0.bn1.weight
    with pytest.raises(ValueError, match=r"weights have no bn1\.weight, expected one for \(64,\)"):
        from_torchvision(shapes, weights, RESNET)


def test_a_kernel_of_another_order_is_no_linear_layer(shapes):
    weights = drawn(shapes, RESNET)
    weights["conv1.weight"] = weights["conv1.weight"].transpose(2, 3, 1, 0)
    with pytest.raises(
        ValueError, match=r"conv1\.weight has shape \(7, 7, 3, 64\), expected \(7, 7"
    ):
        from_torchvision(shapes, weights, RESNET)


def test_a_convolution_that_this_depth_lacks_is_an_error():
    place = ("params", "features", "conv3_4", "kernel")
    assert torchvision_vgg_name(place, depth=19) == "features.16.weight"
    message = r"VGG of depth 16 has no conv3_4, .*partial\(torchvision_vgg_name, depth=19\)"
    with pytest.raises(ValueError, match=message):
        torchvision_vgg_name(place)
    with pytest.raises(ValueError, match=r"depth 17, expected one of \[11, 13, 16, 19\]"):
        torchvision_vgg_name(place, depth=17)
    assert torchvision_vgg_name(("params", "conv6_1", "bias")) == "conv6_1.bias"
