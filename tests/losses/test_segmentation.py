"""The loss of class maps: by hand, void pixels, weights, and the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.losses import segmentation_loss
from jaxstruct.metrics import Mean

VOID = 255


def test_by_hand():
    logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]])
    labels = np.array([[0, 2], [1, VOID]], np.uint8)
    loss, weight = segmentation_loss(logits + 7, labels)
    expected = -np.log([[0.5, 0.8], [0.2, 1]])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(weight, [[1, 1], [1, 0]])
    loss, weight = segmentation_loss(logits, labels, class_weights=np.array([2, 0.5, 3.0]))
    np.testing.assert_allclose(loss, expected * [[2, 3], [0.5, 0]], rtol=1e-5)
    np.testing.assert_allclose(weight, [[2, 3], [0.5, 0]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint16])
def test_what_is_no_class_counts_for_nothing(dtype):
    labels = np.array([0, 1, 3, 100, 127, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)
    logits = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    loss, weight = segmentation_loss(logits, labels)
    known = [0 <= label < 3 for label in labels.tolist()]
    np.testing.assert_array_equal(weight, known)
    np.testing.assert_array_equal(loss > 0, known)


def test_more_classes_than_the_labels_can_say():
    labels = np.array([0, 254, 255], np.uint8)
    loss, weight = jax.jit(segmentation_loss)(jnp.zeros((3, 300)), labels)
    np.testing.assert_allclose(loss, np.full(3, np.log(300)), rtol=1e-5)
    np.testing.assert_array_equal(weight, 1)


def test_a_batch_without_a_label_is_zero_and_passes_no_gradient():
    labels = np.full((1, 4, 4), VOID, np.uint8)

    def mean(logits, labels):
        loss, weight = segmentation_loss(logits, labels)
        return Mean(loss.sum(), weight.sum()).value

    value, gradient = jax.value_and_grad(mean)(jnp.ones((1, 4, 4, 3)), labels)
    assert value == 0
    assert not np.any(gradient)


def test_the_gradient_is_probabilities_less_the_label():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 3)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 5)).astype(np.int32)
    labels[labels == 3] = VOID
    each = np.array([1, 2, 0.5], np.float32)

    total = jax.jit(lambda logits: segmentation_loss(logits, labels, class_weights=each)[0].sum())
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    known = labels != VOID
    index = np.where(known, labels, 0)
    expected = (p - np.eye(3)[index]) * np.where(known, each[index], 0)[..., None]
    np.testing.assert_allclose(jax.grad(total)(logits), expected, rtol=1e-4, atol=1e-6)


def test_sums_are_wide():
    loss, weight = segmentation_loss(jnp.zeros((2, 3), jnp.bfloat16), jnp.zeros(2, jnp.uint8))
    assert loss.dtype == weight.dtype == jnp.float32


@pytest.mark.parametrize(
    ("logits", "labels", "options", "error", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3, int), {}, ValueError, r"logits \(2, 3\) and labels \(3,\)"),
        (np.zeros(()), np.zeros((), int), {}, ValueError, r"expected \[\.\.\., C\] and \[\.\.\.\]"),
        (np.zeros((2, 0)), np.zeros(2, int), {}, ValueError, r"got logits \(2, 0\)"),
        (np.zeros((2, 3), int), np.zeros(2, int), {}, TypeError, "logits have dtype int"),
        (np.zeros((2, 3)), np.zeros(2), {}, TypeError, "labels have dtype float"),
        (
            np.zeros((2, 3)),
            np.zeros(2, int),
            {"class_weights": np.ones(2)},
            ValueError,
            r"class_weights \(2,\), expected \(3,\)",
        ),
        (
            np.zeros((2, 3)),
            np.zeros(2, int),
            {"class_weights": np.ones(3, int)},
            TypeError,
            "class_weights have dtype int",
        ),
    ],
)
def test_refused(logits, labels, options, error, message):
    with pytest.raises(error, match=message):
        segmentation_loss(logits, labels, **options)
