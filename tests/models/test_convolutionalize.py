"""Dense layers as convolutions: the same logits of a window, and those of all windows at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxstruct import models, ops
from jaxstruct.models import VGGHead, convolutionalize, slid_windows, vgg
from jaxstruct.models._maps import mean_of
from tests.models import weights

SIZE, STRIDE = 227, 32


class AlexNet(nn.Module):
    """Krizhevsky et al. 2012 with the poolings of their successors' code, which round upwards.

    `padding` is that of conv2 to conv5, and `side` that of the map in front of fc6.
    """

    convolutional: bool
    padding: tuple[int, ...] = (2, 1, 1, 1)
    side: int = 6
    width: int = 4

    @nn.compact
    def __call__(self, x):
        w = self.width
        x = nn.relu(models.Conv(w, (11, 11), 4, "VALID", name="conv1")(x))
        layers = zip((5, 3, 3, 3), self.padding, strict=True)
        for i, (size, padding) in enumerate(layers, 2):
            x = pooled(x) if i < 4 else x
            x = nn.relu(models.Conv(w, (size, size), padding=padding, name=f"conv{i}")(x))
        x = pooled(x)
        if not self.convolutional:
            assert x.shape[1:3] == (self.side, self.side)
            x = x.reshape(len(x), -1)
        dense = lambda features, size, name: (
            models.Conv(features, (size, size), padding="VALID", name=name)
            if self.convolutional
            else nn.Dense(features, name=name)
        )
        x = nn.relu(dense(3 * w, self.side, "fc6")(x))
        x = nn.relu(dense(2 * w, 1, "fc7")(x))
        return dense(5, 1, "fc8")(x)


def pooled(x):
    """The maximum of 3x3 with stride 2, of the last window what there is of it."""
    down, across = ((n - 3) % 2 for n in x.shape[1:3])
    # Zeros behind a ReLU change no maximum.
    return ops.max_pool(jnp.pad(x, ((0, 0), (0, down), (0, across), (0, 0))), 3, stride=2)


def photographs(*size):
    return np.random.default_rng(5).random(size, np.float32)


def variables_of(model, images):
    """Drawn from their names: biases, too."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)

    def drawn(path, like):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        shape = like.shape if len(like.shape) < 2 else (like.shape[-1], *like.shape[:-1])
        return np.moveaxis(weights.draw(name, shape), 0, -1)

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def test_alexnet_of_227_pixels_is_one_answer_and_of_500_ten_by_ten():
    dense, slid = AlexNet(convolutional=False), AlexNet(convolutional=True)
    crop = photographs(2, SIZE, SIZE, 3)
    variables = variables_of(dense, crop)
    became = convolutionalize(variables, {"fc6": 6})
    kernels = {name: layer["kernel"].shape for name, layer in became["params"].items()}
    assert (kernels["fc6"], kernels["fc7"], kernels["fc8"]) == (
        (6, 6, 4, 12),
        (1, 1, 12, 8),
        (1, 1, 8, 5),
    )
    apply = jax.jit(slid.apply)
    logits, expected = apply(became, crop), jax.jit(dense.apply)(variables, crop)
    assert logits.shape == (2, 1, 1, 5)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(logits[:, 0, 0], expected, rtol=1e-5, atol=1e-5)
    assert jax.eval_shape(slid.apply, became, photographs(1, 500, 500, 3)).shape == (1, 10, 10, 5)


def test_without_padding_all_windows_of_an_image_come_from_one_pass():
    dense, slid = (AlexNet(c, padding=(0,) * 4, side=2) for c in (False, True))
    image = photographs(1, SIZE + 2 * STRIDE, SIZE + STRIDE, 3)
    windows = slid_windows(*image.shape[1:3], size=SIZE, stride=STRIDE)
    crops = np.concatenate(
        [image[:, int(y) :, int(x) :][:, :SIZE, :SIZE] for x, y, *_ in windows.reshape(-1, 4)]
    )
    variables = variables_of(dense, crops)
    expected = jax.jit(dense.apply)(variables, crops)
    found = jax.jit(slid.apply)(convolutionalize(variables, {"fc6": (2, 2)}), image)
    assert found.shape == (1, 3, 2, 5)
    assert np.std(expected, axis=0).min() > 1e-3
    np.testing.assert_allclose(found.reshape(-1, 5), expected, rtol=1e-4, atol=1e-5)


def test_a_map_that_is_no_square_keeps_its_rows():
    x = np.random.default_rng(0).random((2, 2, 3, 4), np.float32)
    variables = {"params": {"head": {"fc": {"kernel": photographs(24, 5), "bias": np.ones(5)}}}}
    kernel = convolutionalize(variables, {"fc": (2, 3)})["params"]["head"]["fc"]["kernel"]
    found = ops.conv(x, kernel, padding="VALID")[:, 0, 0]
    expected = x.reshape(2, -1) @ variables["params"]["head"]["fc"]["kernel"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_vgg_slides_with_the_same_variables(monkeypatch):
    monkeypatch.setattr(vgg, "_WIDTHS", (4, 4, 4, 4, 4))
    monkeypatch.setitem(vgg._LAYERS, 11, (1, 1, 1, 1, 1))
    crop, image = photographs(1, 224, 224, 3), photographs(1, 257, 300, 3)
    plain = models.VGGClassifier(5, 11, hidden=8)
    slid = models.VGGClassifier(5, 11, hidden=8, convolutional=True)
    variables = variables_of(plain, crop)
    apply = jax.jit(slid.apply)
    logits = apply(variables, crop)
    assert logits.shape == (1, 1, 1, 5)
    expected = jax.jit(plain.apply)(variables, crop)
    np.testing.assert_allclose(logits[:, 0, 0], expected, rtol=1e-4, atol=1e-5)
    assert jax.eval_shape(slid.apply, variables, image).shape == (1, 2, 3, 5)
    # Where it is slid, fc6 to fc8 see each 7x7 cells of the last map.
    features = {"params": variables["params"]["features"]}
    cells = jax.jit(models.VGG(11).apply)(features, image)["pool5"][:, 1:, 2:][:, :7, :7]
    head = jax.jit(VGGHead(8).apply)({"params": variables["params"]["head"]}, cells)[:, 0, 0]
    last, head = variables["params"]["fc8"], np.asarray(head)
    found = apply(variables, image)[:, 1, 2]
    np.testing.assert_allclose(found, head @ last["kernel"] + last["bias"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="nothing is left of the result, expected a larger image"):
        jax.eval_shape(slid.apply, variables, crop[:, :200])


@pytest.mark.parametrize("kind", [models.ResNetClassifier, models.EfficientNetLite0Classifier])
def test_a_mean_slides_with_the_same_variables(kind):
    options = {"depth": 18} if kind is models.ResNetClassifier else {}
    plain, slid = kind(5, **options), kind(5, convolutional=True, **options)
    shape = lambda model, *size: jax.eval_shape(
        model.init_with_output, jax.random.key(0), jnp.zeros((1, *size, 3))
    )
    _, variables = shape(plain, 224, 224)
    found, same = shape(slid, 300, 257)
    assert same == variables
    assert jax.tree.leaves(found)[0].shape == (1, 4, 3, 5)
    with pytest.raises(ValueError, match="last map of 6x7 cells to slide over, expected 7x7 at le"):
        shape(slid, 190, 224)


def test_the_mean_of_each_seven_cells():
    x = photographs(2, 8, 9, 3)
    found = mean_of(x, convolutional=True)
    assert found.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(found[:, 1, 2], x[:, 1:8, 2:9].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(mean_of(x, convolutional=False), x.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"fc6": 5}, "a window of 5x5 for fc6, which sees 24 numbers, expected the sides of the m"),
        ({"fc6": (0, 2)}, "a window of 0x2 for fc6"),
        ({"fc9": 1, "fc6": 1}, "windows of fc9, expected names of dense layers: fc6, fc7$"),
    ],
)
def test_windows_that_do_not_fit(windows, message):
    layer = lambda *shape: {"kernel": np.zeros(shape), "bias": np.zeros(shape[-1])}
    with pytest.raises(ValueError, match=message):
        convolutionalize({"fc6": layer(24, 3), "fc7": layer(3, 2)}, windows)


def test_without_a_dense_layer_there_is_no_window():
    with pytest.raises(ValueError, match="expected names of dense layers: there is none"):
        convolutionalize({"conv1": {"kernel": np.zeros((3, 3, 1, 1))}}, {"fc6": 2})
