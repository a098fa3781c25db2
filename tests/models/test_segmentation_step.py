"""One training step of FCN-8s and of LargeFOV equals a slow reference: logits, loss, gradients."""

from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import losses, models
from jaxstruct.models import vgg
from tests.models import segmentation_reference as reference

CLASSES, BLOCKS = 3, (1, 1, 1, 1, 2)
CLASS_WEIGHTS = np.array([0.5, 1, 2], np.float32)
CASES = {
    # 2 x 2 cells of stride 32; 14 x 3 cells of stride 8, where taps 12 apart see something.
    "fcn8": (
        reference.fcn8,
        lambda: models.FCN(models.VGG(), CLASSES, finest=8, head=models.VGGHead(5, padding="SAME")),
        (37, 51),
    ),
    "large_fov": (
        reference.large_fov,
        lambda: models.DeepLab(models.VGG(output_stride=8), models.LargeFOV(CLASSES, hidden=5)),
        (109, 19),
    ),
}


def drawn(shapes):
    """Weights from their names, of sizes that leave no value about 0 everywhere."""

    def each(path, like):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng([5, crc32(name.encode())])
        deviation = np.sqrt(2 / np.prod(like.shape[:-1])) if like.ndim > 1 else 0.1
        return (deviation * rng.standard_normal(like.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(each, shapes)


def labels_of(rng, *shape):
    """Classes of blocks of pixels, of which a part and a whole corner are void."""
    labels = rng.integers(0, CLASSES, shape).astype(np.uint8)
    labels[rng.random(shape) < 0.1] = reference.VOID
    labels[0, 10:] = reference.VOID
    return labels


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_the_papers(case, monkeypatch):
    monkeypatch.setattr(vgg, "_WIDTHS", (3, 4, 4, 5, 5))
    monkeypatch.setitem(vgg._LAYERS, 16, BLOCKS)
    slow, make, size = CASES[case]
    model, rng = make(), np.random.default_rng(1)
    images = rng.standard_normal((2, *size, 3)).astype(np.float32)
    labels = labels_of(rng, 2, *size)
    weights = drawn(jax.eval_shape(model.init, jax.random.key(0), images)["params"])

    @jax.jit
    def step(weights):
        def loss(weights):
            logits = model.apply({"params": weights}, images)
            loss, weight = losses.segmentation_loss(logits, labels, class_weights=CLASS_WEIGHTS)
            return jnp.sum(loss) / jnp.sum(weight), logits

        return jax.value_and_grad(loss, has_aux=True)(weights)

    (loss, logits), gradients = step(weights)
    expected, expected_logits, expected_gradients = reference.step(
        slow, weights, images, labels, BLOCKS, CLASS_WEIGHTS
    )
    np.testing.assert_allclose(logits, np.stack(expected_logits), rtol=1e-5, atol=1e-5)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert jax.tree.structure(gradients) == jax.tree.structure(expected_gradients)
    for (path, found), true in zip(
        jax.tree_util.tree_leaves_with_path(gradients),
        jax.tree.leaves(expected_gradients),
        strict=True,
    ):
        largest = np.abs(true).max()
        assert largest > 1e-5, path
        error = np.abs(found - true).max() / largest
        assert error < 1e-5, (path, error)
