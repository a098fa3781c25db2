"""Counts of which class was taken for which, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Confusion

LABELS = jnp.array([[[0, 0], [1, 255]], [[2, 2], [2, 0]]])
GUESS = jnp.array([[[0, 1], [1, 1]], [[2, 0], [2, 0]]])


def test_by_hand():
    found = Confusion.of(LABELS, GUESS, 4)
    expected = [[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found.counts, expected)
    # Class 0: 2 of 3 labels right, one more taken for it. Class 3 does not occur: no number.
    np.testing.assert_array_equal(found.iou()[:3], [2 / 4, 1 / 2, 2 / 3])
    assert np.isnan(found.iou()[3])
    assert found.occurs().tolist() == [True, True, True, False]
    assert found.mean_iou() == pytest.approx((2 / 4 + 1 / 2 + 2 / 3) / 3)
    assert found.accuracy() == 5 / 7
    assert found.class_accuracy()[:3].tolist() == [2 / 3, 1, 2 / 3]
    assert np.isnan(found.class_accuracy()[3])
    assert found.mean_accuracy() == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert found.frequency_weighted_iou() == pytest.approx((3 * 2 / 4 + 1 / 2 + 3 * 2 / 3) / 7)
    assert found.absent() == 1


def test_scores_are_scikit_learn_s():
    from sklearn import metrics

    generator = np.random.default_rng(0)
    # Void is 255, class 6 occurs nowhere, and class 5 is taken for others only.
    labels = generator.choice([0, 1, 2, 3, 4, 255], (2, 40, 50), p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    guess = np.where(
        generator.random(labels.shape) < 0.7, labels, generator.integers(0, 6, (2, 40, 50))
    )
    guess = np.where(guess == 255, 0, guess)
    found = Confusion.of(jnp.asarray(labels), jnp.asarray(guess), 7)
    known = labels != 255
    truth, said, occurring = labels[known], guess[known], range(5)
    np.testing.assert_array_equal(
        found.counts, metrics.confusion_matrix(truth, said, labels=range(7))
    )
    assert found.absent() == 2
    score = lambda average: metrics.jaccard_score(truth, said, labels=occurring, average=average)
    np.testing.assert_allclose(found.iou()[:5], score(None), rtol=1e-12)
    assert found.mean_iou() == pytest.approx(score("macro"), rel=1e-12)
    assert found.frequency_weighted_iou() == pytest.approx(score("weighted"), rel=1e-12)
    assert found.accuracy() == pytest.approx(metrics.accuracy_score(truth, said), rel=1e-12)
    recall = metrics.recall_score(truth, said, labels=occurring, average="macro")
    assert found.mean_accuracy() == pytest.approx(recall, rel=1e-12)


def test_labels_of_eight_bits_do_not_overflow():
    # 13 * 21 + 20 is beyond uint8.
    labels, guess = jnp.array([[13, 255, 20]], jnp.uint8), jnp.array([[20, 0, 13]], jnp.uint8)
    counts = np.asarray(Confusion.of(labels, guess, 21).counts)
    assert np.argwhere(counts).tolist() == [[13, 20], [20, 13]]


def test_a_class_that_is_only_guessed_does_not_occur():
    found = Confusion.of(jnp.zeros((1, 4), int), jnp.array([[0, 0, 1, 1]]), 2)
    assert found.mean_iou() == 0.5
    assert np.isnan(found.iou()[1])


def test_padding_does_not_count():
    found = Confusion.of(LABELS, GUESS, 3, jnp.array([True, False]))
    np.testing.assert_array_equal(found.counts, [[1, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"labels \(2, 2, 2\) and predictions \(2, 2\)"):
        Confusion.of(LABELS, GUESS[0], 3)
    with pytest.raises(ValueError, match=r"valid \(2, 2, 2\), expected \(2,\)"):
        Confusion.of(LABELS, GUESS, 3, LABELS > 0)
    nothing = Confusion.of(jnp.full((1, 2), 255), jnp.zeros((1, 2), int), 2)
    assert nothing.absent() == 2
    for number in (
        nothing.mean_iou,
        nothing.accuracy,
        nothing.mean_accuracy,
        nothing.frequency_weighted_iou,
    ):
        with pytest.raises(ValueError, match="no pixel"):
            number()
    for name, maps in (("labels", (LABELS / 1, GUESS)), ("predictions", (LABELS, GUESS / 1))):
        with pytest.raises(TypeError, match=f"{name} have dtype float32, expected an integer"):
            Confusion.of(*maps, 3)


@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_a_prediction_that_is_no_class_is_not_counted_for_another(wrong):
    guess = GUESS.at[1, 0, 1].set(wrong)
    with pytest.raises(ValueError, match=rf"predictions reach .*{wrong}.*, expected 0 to 2 where"):
        Confusion.of(LABELS, guess, 3)
    found = jax.jit(Confusion.of, static_argnums=2)(LABELS, guess, 3)
    for number in (found.iou, found.mean_iou, found.accuracy, found.class_accuracy, found.occurs):
        with pytest.raises(
            ValueError, match="counts are NaN: a prediction was none of the classes"
        ):
            number()
    # Where there is no label, or no example, any prediction will do.
    whatever = Confusion.of(LABELS.at[1, 0, 1].set(255), guess, 3)
    assert float(whatever.counts.sum()) == 6
    assert float(Confusion.of(LABELS, guess, 3, jnp.array([True, False])).counts.sum()) == 3


def test_more_classes_than_eight_bits_hold():
    labels = jnp.array([[200, 7]], jnp.uint8)
    counts = np.asarray(Confusion.of(labels, labels, 300).counts)
    assert np.argwhere(counts).tolist() == [[7, 7], [200, 200]]
