"""FCN: sizes, places, streams, and finer networks from coarser ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstruct import losses, models, ops
from jaxstruct.metrics import Confusion
from jaxstruct.models import FCN, VGGHead, vgg
from tests.models.pixel_trunk import Means, inside, ramps, with_identity

TRUNKS = {
    "vgg": lambda: models.VGG(11),
    "resnet": lambda: models.ResNet(18),
    "lite0": models.EfficientNetLite0,
}
VGG_STREAMS = {"vgg": {"score8": 256, "score16": 512, "score32": 12}}
STREAMS = VGG_STREAMS | {
    "resnet": {"score8": 128, "score16": 256, "score32": 512},
    "lite0": {"score8": 40, "score16": 112, "score32": 320},
}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_logits_have_the_size_of_any_image(trunk):
    head = VGGHead(12, padding="SAME") if trunk == "vgg" else None
    model = FCN(TRUNKS[trunk](), 7, finest=8, head=head)
    see = lambda method, *size: jax.eval_shape(
        partial(model.init_with_output, method=method), jax.random.key(0), jnp.zeros((2, *size, 3))
    )
    logits, variables = see(None, 360, 33)
    assert logits.shape == (2, 360, 33, 7)
    # Each stream sees the map that the paper says: of VGG behind the pooling.
    scores = {
        name: layer["kernel"].shape
        for name, layer in variables["params"].items()
        if name.startswith("score")
    }
    assert scores == {name: (1, 1, channels, 7) for name, channels in STREAMS[trunk].items()}
    streams, _ = see("streams", 360, 33)
    cells = {"32": (12, 2), "16": (24, 4), "8": (48, 8)}
    assert {name: x.shape for name, x in streams.items()} == {
        f"{kind}{stride}": (2, *size, 7)
        for stride, size in cells.items()
        for kind in ("s", "score")
    }


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 32)])
@pytest.mark.parametrize("finest", [32, 16, 8])
def test_a_coarser_network_has_the_first_parts_of_a_finer_one(finest, size):
    model = FCN(Means(), 7, finest=finest)
    images = jnp.zeros((1, *size, 3))
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.shape == (1, *size, 7)
    parts = ["score32", "up16", "score16", "up8", "score8"]
    parts = parts[: {32: 1, 16: 3, 8: 5}[finest]]
    assert set(variables["params"]) == set(parts)
    assert all(set(variables["params"][name]) == {"kernel"} for name in parts if "up" in name)


def test_pixels_are_where_they_were_and_finer_networks_start_where_coarser_ended():
    size = 203, 165  # to be padded to 224 x 192
    image = ramps(*size)
    coarse = FCN(Means(), 3)
    before = with_identity(coarse.init(jax.random.key(0), image), "score32")
    expected = jax.jit(coarse.apply)(before, image)
    assert expected.shape == (1, *size, 3)
    assert inside(expected, 48).max() < 1e-3
    for finest in (16, 8):
        model = FCN(Means(), 3, finest=finest)
        fresh = jax.jit(model.init)(jax.random.key(0), image)["params"]
        params = {**fresh, **before["params"]}
        assert set(fresh) - set(before["params"]) <= {"up16", "score16", "up8", "score8"}
        # Bilinear again, but for the zeros around the map, half a cell of stride 32 further in.
        found = jax.jit(model.apply)({"params": params}, image)
        assert inside(found, 64).max() < 1e-3
        before = {"params": params}
    # A finer stream alone is at its places, too.
    alone = with_identity({"params": fresh}, "score8")
    assert inside(jax.jit(model.apply)(alone, image), 12).max() < 1e-3
    alone = with_identity({"params": fresh}, "score16")
    assert inside(jax.jit(model.apply)(alone, image), 48).max() < 1e-3


def test_streams_add_up_and_begin_at_zero():
    image = np.random.default_rng(0).random((2, 70, 40, 3), np.float32)
    model = FCN(Means(), 4, finest=8)
    variables = jax.jit(model.init)(jax.random.key(0), image)
    assert not np.any(jax.jit(model.apply)(variables, image))
    for name in ("up16", "up8"):
        kernel = variables["params"][name]["kernel"]
        np.testing.assert_array_equal(kernel, ops.bilinear_kernel(2, 4))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), variables)
    see = jax.jit(lambda v: (model.apply(v, image), model.apply(v, image, method="streams")))
    logits, found = see(variables)
    total = found["score32"]
    np.testing.assert_array_equal(found["s32"], total)
    for stride in (16, 8):
        up = variables["params"][f"up{stride}"]["kernel"]
        total = ops.upconv(total, up, stride=2) + found[f"score{stride}"]
        np.testing.assert_allclose(found[f"s{stride}"], total, rtol=1e-4, atol=1e-4)
    whole = ops.resize_bilinear(total, (96, 64))
    np.testing.assert_allclose(logits, whole[:, :70, :40], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_eight_images_are_learnt(monkeypatch):
    monkeypatch.setattr(vgg, "_WIDTHS", (8, 8, 16, 16, 16))
    monkeypatch.setitem(vgg._LAYERS, 11, (1, 1, 1, 1, 1))
    rng, size = np.random.default_rng(0), 48
    rows, columns = np.mgrid[:size, :size]
    colors = np.array([[-0.3, -0.3, -0.3], [0.6, -0.2, -0.2], [-0.2, 0.6, -0.2], [-0.2, -0.2, 0.6]])
    labels = np.zeros((8, size, size), np.uint8)
    for i in range(8):
        y, x, radius = rng.uniform((12, 12, 10), (36, 36, 15))
        labels[i][(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1 + i % 3
    images = (colors[labels] + 0.1 * rng.normal(size=(*labels.shape, 3))).astype(np.float32)
    labels[:, :2] = 255
    head = VGGHead(16, size=3, padding="SAME", dropout=0.0)
    model = FCN(models.VGG(11), 4, finest=8, head=head)
    optimizer = optax.adam(1e-2)

    def loss(params):
        loss, weight = losses.segmentation_loss(model.apply({"params": params}, images), labels)
        return loss.sum() / weight.sum()

    def step(state, _):
        params, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return (optax.apply_updates(params, updates), moments), None

    @jax.jit
    def learn(params):
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=90)
        return model.apply({"params": params}, images).argmax(-1)

    found = learn(jax.jit(model.init)(jax.random.key(0), images)["params"])
    confusion = Confusion.of(labels, found, 4)
    assert confusion.occurs().all()
    assert confusion.mean_iou() >= 0.95


def test_units_of_the_head_are_dropped_in_training_alone():
    image = np.random.default_rng(0).random((1, 32, 64, 3), np.float32)
    model = FCN(Means(), 3, head=VGGHead(8, size=1, padding="SAME"))
    with_head = jax.jit(model.init)(jax.random.key(0), image)
    kernel = np.ones((1, 1, 8, 3), np.float32)
    params = with_head["params"] | {"score32": {**with_head["params"]["score32"], "kernel": kernel}}
    variables = {"params": params}
    train = jax.jit(lambda key: model.apply(variables, image, train=True, rngs={"dropout": key}))
    one, other = (train(jax.random.key(i)) for i in (1, 2))
    assert np.any(one != other)
    np.testing.assert_array_equal(one, train(jax.random.key(1)))
    assert np.any(one != jax.jit(model.apply)(variables, image))


def test_logits_of_a_narrow_dtype_are_wide():
    model = FCN(models.VGG(11, dtype=jnp.bfloat16), 3, finest=8, dtype=jnp.bfloat16)
    image = jnp.zeros((1, 40, 40, 3), jnp.bfloat16)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    streams = partial(model.init_with_output, method="streams")
    found, _ = jax.eval_shape(streams, jax.random.key(0), image)
    assert {x.dtype for x in found.values()} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (FCN(Means(), 3, finest=4), (1, 32, 32, 3), "got finest 4, expected 32, 16 or 8"),
        (FCN(Means(), 3), (32, 32, 3), r"got images \(32, 32, 3\), expected \[B, H, W, C\]"),
        (
            FCN(Means(16), 3, finest=16),
            (1, 32, 32, 3),
            "a trunk with maps of strides 8, 16, the last of 16, expected 16, 32, the last of 32",
        ),
        (
            FCN(models.ResNet(18, output_stride=8), 3, finest=8),
            (1, 32, 32, 3),
            "strides 2, 4, 8, the last of 8, expected 8, 16, 32, the last of 32",
        ),
    ],
)
def test_errors(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
