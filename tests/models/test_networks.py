"""VGG, ResNet and DCGAN against torchvision's and PyTorch's recorded answers, and parts of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.models import dcgan, efficientnet, resnet, torchvision, vgg
from tests.models import weights


def close(ours, theirs, tolerance=1e-4):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def loaded(model, name, drawn, *given):
    shapes = jax.eval_shape(model.init, jax.random.key(0), *given)
    return torchvision.from_torchvision(shapes, drawn, name)


def test_vgg16_is_torchvisions():
    answer, drawn = weights.recorded("vgg16")
    images, model = weights.images(64, 96), vgg.VGGClassifier()
    variables = loaded(model, vgg.torchvision_vgg_name, drawn, images)
    close(jax.jit(model.apply)(variables, images), answer["out"])
    # The maps at stride 8 have the same weights under the same names.
    answer = weights.answer("vgg16/8")
    dilated = vgg.VGG(16, output_stride=8)
    maps = jax.jit(dilated.apply)({"params": variables["params"]["features"]}, images)
    close(maps["pool5"][..., :: weights.EVERY], answer["pool5"])
    assert maps["conv4_3"].shape[1:3] == maps["conv5_3"].shape[1:3] == (8, 12)


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_is_torchvisions(depth):
    answer, drawn = weights.recorded(f"resnet{depth}")
    images, model = weights.images(64, 96), resnet.ResNetClassifier(depth=depth)
    variables = loaded(model, resnet.torchvision_resnet_name, drawn, images)
    close(jax.jit(model.apply)(variables, images), answer["out"])
    for stride in (32, 8) if depth == 50 else (32,):
        part = resnet.ResNet(depth, output_stride=stride)
        maps = jax.jit(part.apply)(_features(variables), images)
        answer = weights.answer(f"resnet{depth}" if stride == 32 else f"resnet{depth}/8")
        for name in ("conv2", "conv3", "conv4", "conv5"):
            if name in answer:
                close(maps[name][..., :: weights.EVERY], answer[name])
        for name, map_ in maps.items():
            assert map_.shape[1] * part.strides()[name] == images.shape[1]


def _features(variables):
    return {kind: tree["features"] for kind, tree in variables.items()}


VGG11 = {"conv1_1": 1, "pool1": 2, "conv2_1": 2, "pool2": 4, "conv3_2": 4, "pool3": 8}
VGG11 |= {"conv4_2": 8, "pool4": 16, "conv5_2": 16, "pool5": 32}
RESNET = {"conv1": 2, "conv2": 4, "conv3": 8, "conv4": 16, "conv5": 32}
LITE0 = {"blocks_0": 2, "blocks_2": 4, "blocks_4": 8, "blocks_10": 16, "blocks_15": 32}
BLOCKS = {"layer1_0", "layer1_1"}


@pytest.mark.parametrize(
    ("network", "options", "last", "strides", "layers"),
    [
        (vgg.VGG, {"depth": 11}, "pool1", VGG11, {"conv1_1"}),
        (vgg.VGG, {"depth": 11}, "conv3_2", VGG11, {"conv1_1", "conv2_1", "conv3_1", "conv3_2"}),
        (resnet.ResNet, {"depth": 18}, "conv1", RESNET, {"conv1", "bn1"}),
        (resnet.ResNet, {"depth": 18}, "conv2", RESNET, {"conv1", "bn1", *BLOCKS}),
        (
            efficientnet.EfficientNetLite0,
            {},
            "blocks_2",
            LITE0,
            {"conv_stem", "bn0", "blocks_0", "blocks_1", "blocks_2"},
        ),
    ],
)
def test_a_network_that_ends_early_has_the_first_layers_and_maps(
    network, options, last, strides, layers
):
    images, key = weights.images(32, 64)[:1], jax.random.key(0)
    whole, early = network(**options), network(**options, last=last)
    assert whole.strides() == strides
    names = list(strides)[: list(strides).index(last) + 1]
    assert early.strides() == {name: strides[name] for name in names}
    shapes, part = (jax.eval_shape(model.init, key, images) for model in (whole, early))
    assert set(part["params"]) == layers
    rng = np.random.default_rng(0)
    filled = jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes)
    # The same variables serve, without those that are not reached.
    cut = {kind: {layer: filled[kind][layer] for layer in tree} for kind, tree in part.items()}
    assert jax.tree.map(np.shape, cut) == jax.tree.map(np.shape, part)
    maps = jax.jit(early.apply)(cut, images)
    assert set(maps) == set(names)
    expected = jax.jit(lambda v: {name: whole.apply(v, images)[name] for name in names})(filled)
    for name in names:
        assert maps[name].shape[1:3] == (32 // strides[name], 64 // strides[name])
        np.testing.assert_allclose(maps[name], expected[name], rtol=1e-4)


def test_generator_is_pytorchs():
    answer, drawn = weights.recorded("generator")
    z = weights.noise(2, 100)
    model = dcgan.DCGANGenerator(32, 8, kernel_size=4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), z)
    params, stats = {}, {}
    project = drawn["1.weight"].transpose(0, 2, 3, 1).reshape(100, -1)
    params["project"] = {"kernel": project}
    for i, name in enumerate(["project_norm", "norm1", "norm2"]):
        params[name], stats[name] = _norm(drawn, 2 + 3 * i)
    for i in (1, 2, 3):
        kernel = drawn[f"{1 + 3 * i}.weight"].transpose(2, 3, 0, 1)[::-1, ::-1]
        params[f"upconv{i}"] = {"kernel": kernel}
    params["upconv3"]["bias"] = drawn["10.bias"]
    variables = {"params": params, "batch_stats": stats}
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)
    close(jax.jit(model.apply)(variables, z), answer["out"])


def test_discriminator_is_pytorchs():
    answer, drawn = weights.recorded("discriminator")
    images = weights.images(32, 32)
    model = dcgan.DCGANDiscriminator(8, kernel_size=4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    params, stats = {}, {}
    for i, place in enumerate((0, 2, 5), 1):
        params[f"conv{i}"] = {"kernel": drawn[f"{place}.weight"].transpose(2, 3, 1, 0)}
        if i > 1:
            params[f"norm{i}"], stats[f"norm{i}"] = _norm(drawn, place + 1)
    params["conv1"]["bias"] = drawn["0.bias"]
    kernel = drawn["8.weight"].transpose(2, 3, 1, 0).reshape(-1, 1)
    params["logits"] = {"kernel": kernel, "bias": drawn["8.bias"]}
    variables = {"params": params, "batch_stats": stats}
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)
    logits, maps = jax.jit(model.apply)(variables, images)
    close(logits, answer["out"][:, 0])
    assert [m.shape for m in maps] == [(2, 16, 16, 8), (2, 8, 8, 16), (2, 4, 4, 32)]


def _norm(drawn, place):
    params = {"scale": drawn[f"{place}.weight"], "bias": drawn[f"{place}.bias"]}
    stats = {"mean": drawn[f"{place}.running_mean"], "var": drawn[f"{place}.running_var"]}
    return params, stats


def test_training_changes_statistics_and_drops_units():
    images = weights.images(32, 32)
    model = resnet.ResNet(18)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    maps, changed = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(
        variables
    )
    mean = changed["batch_stats"]["bn1"]["mean"]
    assert np.abs(mean).max() > 0
    # He's initial values keep the size of what passes.
    assert 0.1 < np.std(maps["conv5"]) < 10
    head = vgg.VGGHead(16, dropout=0.5)
    x = jnp.ones((4, 7, 7, 8))
    variables = jax.jit(head.init)(jax.random.key(0), x)
    dropped = partial(head.apply, train=True, rngs={"dropout": jax.random.key(1)})
    out = jax.jit(dropped)(variables, x)
    assert out.shape == (4, 1, 1, 16)
    assert np.any(out != jax.jit(head.apply)(variables, x))
    same = vgg.VGGHead(16, padding="SAME")
    shape = jax.eval_shape(same.init_with_output, jax.random.key(0), x)[0].shape
    assert shape == (4, 7, 7, 16)


def test_dcgan_begins_and_ends_where_the_paper_does():
    z = weights.noise(4, 100)
    variables = jax.jit(dcgan.DCGANGenerator(64, 4).init)(jax.random.key(0), z)
    kernel = variables["params"]["upconv2"]["kernel"]
    assert kernel.shape == (5, 5, 16, 8)
    assert abs(np.std(kernel) - 0.02) < 0.002
    scale = dcgan.dcgan_scale_initializer(jax.random.key(0), (4000,), jnp.float32)
    assert abs(np.mean(scale) - 1) < 0.002
    assert abs(np.std(scale) - 0.02) < 0.002
    norm = variables["params"]["project_norm"]
    assert 0 < np.std(norm["scale"]) < 0.1


def test_spectral_norm_divides_kernels_by_their_largest_singular_values():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(5, 16, 16, 3)), jnp.float32)
    model = dcgan.DCGANDiscriminator(3, normalization="spectral")
    plain = dcgan.DCGANDiscriminator(3, normalization="none")
    variables = jax.jit(model.init)(jax.random.key(0), images)
    params = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.3), variables["params"])  # biases
    plainly = jax.eval_shape(plain.init, jax.random.key(0), images)
    assert list(plainly) == ["params"]
    assert jax.tree.structure(params) == jax.tree.structure(plainly["params"])
    assert all(set(layer) == {"kernel", "bias"} for layer in params.values())
    train = jax.jit(
        lambda stats: model.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
    )
    stats = variables["batch_stats"]
    for _ in range(50):
        (logits, maps), moved = train(stats)
        stats = moved["batch_stats"]
    divided = {}
    for name, layer in params.items():
        matrix = np.asarray(layer["kernel"], np.float64).reshape(-1, layer["kernel"].shape[-1])
        largest = np.linalg.svd(matrix, compute_uv=False)[0]
        np.testing.assert_allclose(
            stats[f"{name}_norm"][f"{name}/kernel/sigma"], largest, rtol=1e-4
        )
        divided[name] = {**layer, "kernel": layer["kernel"] / largest}
    expected, of_plain = jax.jit(plain.apply)({"params": divided}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-3)
    for found, wanted in zip(maps, of_plain, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    evaluated, _ = jax.jit(model.apply)({"params": params, "batch_stats": stats}, images)
    np.testing.assert_allclose(evaluated, logits, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (vgg.VGG(15), (1, 32, 32, 3), r"depth 15, expected one of \[11, 13, 16, 19\]"),
        (vgg.VGG(output_stride=4), (1, 32, 32, 3), "output_stride 4, expected 8, 16 or 32"),
        (vgg.VGG(), (32, 32, 3), r"images \(32, 32, 3\), expected \[B, H, W, C\]"),
        (resnet.ResNet(51), (1, 32, 32, 3), "depth 51, expected one of"),
        (resnet.ResNet(output_stride=64), (1, 32, 32, 3), "output_stride 64, expected"),
        (resnet.ResNet(), (32, 32, 3), r"images \(32, 32, 3\), expected"),
        (vgg.VGG(last="conv4_2"), (1, 32, 32, 3), "last 'conv4_2', expected one of conv1_2, pool1"),
        (resnet.ResNet(last="fc"), (1, 32, 32, 3), "last 'fc', expected one of conv1, .*, conv5\n"),
        (
            resnet.ResNet(norm="layer"),
            (1, 32, 32, 3),
            "norm 'layer', expected one of batch, frozen, group\n",
        ),
        (
            efficientnet.EfficientNetLite0(last="blocks_3"),
            (1, 32, 32, 3),
            "last 'blocks_3', expected one of blocks_0, blocks_2, blocks_4, blocks_10, blocks_15\n",
        ),
        (dcgan.DCGANGenerator(48), (1, 100), "48 pixels, expected a power of two from 8"),
        (dcgan.DCGANGenerator(), (1, 1, 1, 100), r"z \(1, 1, 1, 100\), expected \[B, latent\]"),
        (dcgan.DCGANDiscriminator(), (1, 64, 32, 3), r"images \(1, 64, 32, 3\), expected"),
        (
            dcgan.DCGANDiscriminator(normalization="layer"),
            (1, 8, 8, 3),
            "normalization='layer', expected one of batch, spectral, none",
        ),
        (dcgan.DCGANDiscriminator(), (1, 4, 4, 3), "4 pixels, expected a power of two from 8"),
    ],
)
def test_errors(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.zeros(shape))


def test_weights_that_do_not_fit():
    model, image = resnet.ResNetClassifier(10, 18), jnp.zeros((1, 32, 32, 3))
    _, drawn = weights.recorded("resnet18")
    with pytest.raises(ValueError, match=r"fc.bias has shape \(1000,\), expected \(10,\)"):
        loaded(model, resnet.torchvision_resnet_name, drawn, image)
    del drawn["layer3.1.bn2.running_var"]
    with pytest.raises(ValueError, match=r"weights have no layer3\.1\.bn2\.running_var"):
        loaded(model, resnet.torchvision_resnet_name, drawn, image)
