"""Linear SVMs by hand, against scikit-learn's LinearSVC and the gradient of their equation."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.models import fit_linear_svm, linear_svm


def features(examples, dimensions, classes, seed=0):
    """Rectified and correlated like a network's, of scales from 1/5 to 5, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    hidden = rng.normal(size=(examples, 8)) + rng.normal(size=(classes, 8))[labels]
    x = np.maximum(hidden @ rng.normal(size=(8, dimensions)) + rng.normal(size=dimensions), 0)
    x += rng.normal(size=x.shape) / 2
    return (x * 5 ** rng.uniform(-1, 1, dimensions)).astype(np.float32), labels


def test_by_hand():
    # One example of each class at 1 and -1, so b = 0, and w = 4 C (1 - w).
    x = np.array([[1.0], [-1.0]], np.float32)
    svm = fit_linear_svm([x], np.array([1, 0]), classes=2, C=2.0)
    np.testing.assert_allclose(svm.kernel, [[-8 / 9, 8 / 9]], atol=1e-6)
    np.testing.assert_allclose(svm.bias, [0, 0], atol=1e-6)
    np.testing.assert_allclose(svm.scores(3 * x), [[-8 / 3, 8 / 3], [8 / 3, -8 / 3]], atol=1e-5)
    # Both of one class: w = 0 and b = 4 C (1 - b), so the bias is kept small, too.
    svm = fit_linear_svm([x], np.array([0, 0]), classes=2, C=2.0)
    np.testing.assert_allclose(svm.kernel, [[0, 0]], atol=1e-6)
    np.testing.assert_allclose(svm.bias, [8 / 9, -8 / 9], atol=1e-6)


@pytest.mark.parametrize(("C", "iterations"), [(1e-3, 80), (0.1, 120)])
def test_it_is_scikit_learns(C, iterations):
    linear_svc = pytest.importorskip("sklearn.svm").LinearSVC
    x, labels = features(2400, 80, 5)
    train, test = slice(2000), slice(2000, None)
    theirs = linear_svc(loss="squared_hinge", dual=False, C=C, tol=1e-9, max_iter=10_000)
    theirs.fit(x[train].astype(np.float64), labels[train])
    chunks = np.split(x[train], [700, 1400])
    # 62 and 102 iterations; without its memory more than twice as many.
    options = {"classes": 5, "C": C, "tolerance": 1e-6, "iterations": iterations}
    ours = fit_linear_svm(chunks, labels[train], **options)
    assert ours.residual.max() <= 1e-6
    largest = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.kernel, theirs.coef_.T, rtol=0, atol=1e-3 * largest)
    np.testing.assert_allclose(ours.bias, theirs.intercept_, rtol=0, atol=1e-3 * largest)
    for part in (train, test):
        found = np.argmax(ours.scores(x[part]), -1)
        assert 0.7 < np.mean(found == labels[part]) < 1
        assert np.mean(found == theirs.predict(x[part])) > 0.998


def test_examples_that_take_no_part():
    x, labels = features(301, 20, 3)
    rng = np.random.default_rng(1)
    signs = np.where(labels[:, None] == np.arange(3), 1, -1)
    whole = fit_linear_svm([x], labels, classes=3, tolerance=1e-7)
    same = fit_linear_svm([x], signs, classes=3, tolerance=1e-7)
    np.testing.assert_array_equal(same.kernel, whole.kernel)
    signs[rng.random(signs.shape) < 0.4] = 0
    found = fit_linear_svm([x[:100], x[100:]], signs, classes=3, tolerance=1e-7)
    for k in range(3):
        mine = signs[:, k] != 0
        alone = fit_linear_svm(
            [x[mine]], (signs[mine, k] > 0).astype(int), classes=2, tolerance=1e-7
        )
        largest = np.abs(alone.kernel).max()
        np.testing.assert_allclose(found.kernel[:, k], alone.kernel[:, 1], atol=1e-4 * largest)
        np.testing.assert_allclose(found.bias[k], alone.bias[1], atol=1e-4)
    one = fit_linear_svm([x], signs[:, :1], classes=1, tolerance=1e-7)
    np.testing.assert_allclose(one.kernel[:, 0], found.kernel[:, 0], atol=1e-4)


def test_the_gradient_of_its_equation_is_zero():
    x, labels = features(500, 30, 3)
    svm = fit_linear_svm([x], labels, classes=3, C=0.5, tolerance=1e-5)
    wide = np.c_[x, np.ones(len(x))].astype(np.float64)
    weights = np.vstack([svm.kernel, svm.bias]).astype(np.float64)
    signs = np.where(labels[:, None] == np.arange(3), 1, -1)

    def gradient(weights):
        hinge = np.maximum(0, 1 - signs * (wide @ weights))
        return weights - 2 * 0.5 * wide.T @ (signs * hinge)

    size = np.linalg.norm(gradient(weights), axis=0)
    first = np.linalg.norm(gradient(np.zeros_like(weights)), axis=0)
    np.testing.assert_array_less(size, 2e-5 * first)


def test_while_no_margin_is_filled_it_ends_within_the_dimensions():
    # The problem is then quadratic, on which L-BFGS with exact searches is conjugate gradients.
    x, labels = features(400, 6, 2)
    svm = fit_linear_svm([x], labels, classes=2, C=1e-7, tolerance=1e-5, iterations=8)
    assert svm.residual.max() <= 1e-5


def test_a_line_search_ends_at_the_minimum():
    rng = np.random.default_rng(0)
    weights, left, more = (
        rng.normal(size=(7, 4)),
        rng.normal(size=(50, 4)),
        rng.normal(size=(50, 4)),
    )
    more *= [1, 1e-3, 1e3, 0]
    # Downhill at 0; the last one is at its minimum along a step that changes no margin: none.
    slope = -2 * 0.3 * np.sum(np.maximum(left, 0) * more, 0)
    more *= np.where(slope > 0, -1, 1)
    step = -1e-3 * weights * [1, 1, 1, 0]

    def after(length):
        rest = np.maximum(left - length * more, 0)
        return np.sum((weights + length * step) * step, 0) - 0.6 * np.sum(rest * more, 0)

    length = linear_svm._line_search(weights, step, left, more, 0.3)
    assert np.all(length[:3] > 0)
    assert np.all(np.isfinite(length))
    assert np.all(np.abs(after(length)) <= np.abs(after(0)) / 100)


def test_the_residual_says_how_far_it_came():
    x, labels = features(300, 20, 3)
    residuals = [
        fit_linear_svm([x], labels, classes=3, tolerance=1e-6, iterations=n).residual
        for n in (1, 10, 200)
    ]
    assert residuals[0].min() > 1e-3
    assert residuals[1].max() < residuals[0].min()
    assert residuals[2].max() <= 1e-6


def test_chunks_are_one_matrix():
    x, labels = features(301, 20, 3)
    whole = fit_linear_svm([x], labels, classes=3, tolerance=1e-7)
    parts = [jnp.asarray(x[:100]), x[100:101], x[101:]]
    other = fit_linear_svm(parts, labels, classes=3, tolerance=1e-7)
    largest = np.abs(whole.kernel).max()
    np.testing.assert_allclose(other.kernel, whole.kernel, rtol=0, atol=1e-4 * largest)
    # Features in half of the memory: the products are float32 all the same.
    half = fit_linear_svm([x.astype(jnp.bfloat16)], labels, classes=3, tolerance=1e-7)
    rounded = x.astype(jnp.bfloat16).astype(np.float32)
    same = fit_linear_svm([rounded], labels, classes=3, tolerance=1e-7)
    assert half.kernel.dtype == np.float32
    np.testing.assert_allclose(half.kernel, same.kernel, rtol=0, atol=1e-4 * largest)


PLAIN = np.zeros((4, 2), np.float32)


def wrong(value):
    features = PLAIN.copy()
    features[2, 1] = value
    return features


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": []}, ValueError, r"features \[\], expected chunks \[n, D\]"),
        (
            {"features": [np.zeros((4, 2)), np.zeros((4, 3))]},
            ValueError,
            r"features\[1\] \(4, 3\) and features\[0\] \(4, 2\), expected chunks \[n, D\] with",
        ),
        ({"features": [np.zeros(8)]}, ValueError, r"features\[0\] \(8,\) .*, expected chunks"),
        ({"features": [PLAIN, np.zeros((0, 2))]}, ValueError, r"features\[1\] \(0, 2\) and"),
        (
            {"features": np.zeros((1500, 2))},
            TypeError,
            r"features of shape \(1500, 2\), expected a",
        ),
        ({"features": jnp.zeros((8, 2))}, TypeError, "expected a sequence .*: put an array into a"),
        ({"features": None}, TypeError, r"features None, expected a sequence of chunks \[n, D\]"),
        ({"features": list(np.zeros((1500, 2)))}, ValueError, r"features\[0\] \(2,\) and"),
        ({"classes": 2.5}, TypeError, r"got classes 2\.5, expected an integer"),
        ({"classes": np.zeros((1500, 2))}, TypeError, r"classes of shape \(1500, 2\), expected an"),
        ({"C": np.ones(1500)}, TypeError, r"got C of shape \(1500,\), expected a number"),
        ({"tolerance": "small"}, TypeError, "got tolerance 'small', expected a number"),
        ({"iterations": [5]}, TypeError, r"got iterations \[5\], expected a number"),
        ({"features": [np.zeros((8, 2), int)]}, TypeError, "int32, expected a floating dtype"),
        ({"labels": np.zeros(8)}, TypeError, "labels have dtype float64, expected an integer"),
        ({"labels": np.zeros(7, int)}, ValueError, r"labels \(7,\), expected one for each of 8"),
        (
            {"labels": np.zeros((8, 3), int)},
            ValueError,
            r"labels \(8, 3\), expected one for each of",
        ),
        ({"labels": np.full((8, 2), 2)}, ValueError, "labels from 2 to 2 .* labels from -1 to 1"),
        ({"labels": np.full(8, 2)}, ValueError, "labels from 2 to 2 and 2 classes, expected"),
        ({"labels": np.full(8, -1)}, ValueError, "labels from -1 to -1 and 2 classes, expected"),
        ({"classes": 1}, ValueError, "1 classes, expected 2 classes"),
        ({"C": 0}, ValueError, "C 0, expected a number above 0"),
        ({"tolerance": -1.0}, ValueError, "tolerance -1.0, expected"),
        ({"iterations": 0}, ValueError, "iterations 0, expected"),
        ({"iterations": 1.5}, TypeError, "iterations 1.5, expected an integer"),
        ({"C": np.inf}, ValueError, "C inf, expected a number above 0, and a finite one"),
        ({"C": np.nan}, ValueError, "C nan, expected"),
        ({"C": 1e308}, ValueError, r"C 1e\+308 and features whose squares add up to 0, expected"),
        ({"tolerance": np.inf}, ValueError, "tolerance inf, expected"),
        ({"features": [PLAIN, wrong(np.nan)]}, ValueError, "add up to nan in column 1, expected"),
        ({"features": [PLAIN, wrong(-np.inf)]}, ValueError, "add up to inf in column 1, expected"),
        ({"features": [PLAIN, wrong(1e30)]}, ValueError, "expected finite features whose sum"),
    ],
)
def test_errors(changes, error, message):
    given = {"features": [np.zeros((8, 2))], "labels": np.zeros(8, int), "classes": 2} | changes
    with pytest.raises(error, match=message) as caught:
        fit_linear_svm(given.pop("features"), given.pop("labels"), **given)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_an_argument_is_refused_before_any_features_are_copied(monkeypatch):
    monkeypatch.setattr(linear_svm.jnp, "asarray", lambda x: pytest.fail("copies"))
    for features, options, error in (
        (np.zeros((8, 2)), {}, TypeError),
        ([PLAIN, np.zeros(2)], {}, ValueError),
        ([PLAIN], {"C": "1"}, TypeError),
        ([PLAIN], {"iterations": 1.5}, TypeError),
    ):
        with pytest.raises(error, match="expected"):
            fit_linear_svm(features, np.zeros(4, int), classes=2, **options)
