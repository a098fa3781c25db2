"""ResNet's norms: frozen batch norm and group norm, against NumPy and torchvision's answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.models import ResNet, ResNetClassifier, from_torchvision, torchvision_resnet_name
from tests.models import weights

IMAGES = weights.images(64, 96)


@pytest.fixture(scope="module")
def recorded():
    answer, drawn = weights.recorded("resnet18")
    return answer["conv3"], drawn


def loaded(model, drawn):
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    return from_torchvision(shapes, drawn, torchvision_resnet_name, left_out=None)


def test_frozen_is_batch_norm_in_evaluation(recorded):
    expected, drawn = recorded
    batch, frozen = (ResNet(18, last="conv3", norm=norm) for norm in ("batch", "frozen"))
    variables = loaded(frozen, drawn)
    maps = jax.jit(frozen.apply)(variables, IMAGES)
    evaluated = jax.jit(batch.apply)(loaded(batch, drawn), IMAGES)
    for name in ("conv1", "conv2", "conv3"):
        limit = 1e-5 * np.abs(evaluated[name]).max()
        np.testing.assert_allclose(maps[name], evaluated[name], atol=limit)
    found = maps["conv3"][..., :: weights.EVERY]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    # In training, too, and nothing is counted.
    train = jax.jit(lambda v: frozen.apply(v, IMAGES, train=True, mutable=["batch_stats"]))
    trained, state = train(variables)
    np.testing.assert_allclose(trained["conv3"], maps["conv3"], atol=limit)
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])


def test_no_parameter_and_no_gradient_is_frozen_norm_s(recorded):
    model = ResNet(18, last="conv2", norm="frozen")
    variables = loaded(model, recorded[1])
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])]
    assert len(paths) == 5
    assert {path[-1].key for path in paths} == {"kernel"}
    norm = variables["batch_stats"]["layer1_0"]["bn1"]
    for name, theirs in {"scale": "weight", "bias": "bias", "mean": "running_mean"}.items():
        np.testing.assert_array_equal(norm[name], recorded[1][f"layer1.0.bn1.{theirs}"])
    gradient = jax.jit(jax.grad(lambda v: model.apply(v, IMAGES)["conv2"].sum()))(variables)
    assert not any(np.any(g) for g in jax.tree.leaves(gradient["batch_stats"]))
    assert all(np.any(g) for g in jax.tree.leaves(gradient["params"]))


def captured(model, variables):
    """What each layer returns, by its path of names."""
    see = jax.jit(lambda v: model.apply(v, IMAGES, capture_intermediates=True))
    _, state = see(variables)
    leaves = jax.tree_util.tree_leaves_with_path(state["intermediates"])
    return {tuple(k.key for k in path if hasattr(k, "key"))[:-1]: leaf for path, leaf in leaves}


def normed_layers(model, variables, collection):
    """What a norm is given, its variables and what it returns, by its path."""
    outputs = captured(model, variables)
    for path, output in outputs.items():
        *block, layer = path
        given = layer.replace("bn", "conv").replace("downsample_1", "downsample_0")
        if given != layer:
            norm = variables[collection]
            for key in path:
                norm = norm[key]
            yield np.asarray(outputs[(*block, given)], np.float64), jax.device_get(norm), output


def drawn_like(shapes):
    rng = np.random.default_rng(0)
    draw = lambda s: (
        rng.uniform(-1, 1, s.shape).astype(np.float32) / max(1, np.prod(s.shape[:3])) ** 0.5
    )
    return jax.tree.map(draw, shapes)


def test_group_norm_by_hand():
    model = ResNet(18, last="conv3", norm="group")
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert set(shapes) == {"params"}
    variables = drawn_like(shapes)
    layers = list(normed_layers(model, variables, "params"))
    assert len(layers) == 10
    for x, norm, output in layers:
        batch, height, width, channels = x.shape
        groups = x.reshape(batch, height, width, 32, channels // 32)
        mean, var = (f(groups, (1, 2, 4), keepdims=True) for f in (np.mean, np.var))
        normed = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
        np.testing.assert_allclose(output, normed * norm["scale"] + norm["bias"], atol=2e-4)


def test_frozen_norm_by_hand(recorded):
    model = ResNet(18, last="conv3", norm="frozen")
    variables = loaded(model, recorded[1])
    small = {"mean": 0.1, "var": 1e-5}  # variances at which epsilon counts
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: x * small.get(path[-1].key, 1), variables["batch_stats"]
    )
    variables = variables | {"batch_stats": stats}
    layers = list(normed_layers(model, variables, "batch_stats"))
    assert len(layers) == 10
    for x, norm, output in layers:
        expected = (x - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
        np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())


def test_the_classifier_has_the_norm_and_the_dtype():
    for norm, kinds in {
        "frozen": {"scale", "bias", "mean", "var"},
        "batch": {"mean", "var"},
    }.items():
        model = ResNetClassifier(10, 18, norm=norm, dtype=jnp.bfloat16)
        shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
        assert set(shapes["batch_stats"]["features"]["bn1"]) == kinds
        maps = jax.eval_shape(
            ResNet(18, norm=norm, dtype=jnp.bfloat16).init_with_output, jax.random.key(0), IMAGES
        )[0]
        assert {m.dtype for m in maps.values()} == {jnp.dtype(jnp.bfloat16)}
    shapes = jax.eval_shape(ResNetClassifier(10, 18, norm="group").init, jax.random.key(0), IMAGES)
    assert set(shapes) == {"params"}
