"""Linear support vector machines on features that are too many for one matrix of float64.

What may be added: another loss of margins, if its line search stays exact.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_MEMORY = 20  # pairs of steps that L-BFGS remembers


class LinearSVM(NamedTuple):
    """K linear classifiers, of each class against the rest; the largest score is the class.

    kernel [D, K] and bias [K] (float32), and how nearly they are the minimum: residual [K], the
    norm of each one's gradient over the norm where kernel and bias are 0.
    """

    kernel: jax.Array
    bias: jax.Array
    residual: np.ndarray

    def scores(self, features: ArrayLike) -> jax.Array:
        """[..., K] of features [..., D]: above 0 for the class, below for the rest."""
        scores = jnp.dot(jnp.asarray(features), self.kernel, precision="highest")
        return scores + jnp.broadcast_to(self.bias, scores.shape)


def fit_linear_svm(
    features: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    classes: int,
    C: float = 1.0,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> LinearSVM:
    """Trains linear SVMs with the squared hinge loss, one for each class against the rest.

        minimize over w, b:  (|w|^2 + b^2) / 2 + C sum_i max(0, 1 - y_i (w . x_i + b))^2

    where y_i is 1 for the class and -1 for the rest, or 0 where an example takes no part. The bias
    is the weight of a feature that is 1 everywhere and is kept small with the others, as in
    LIBLINEAR, whose minimum this is (scikit-learn: `LinearSVC(loss="squared_hinge", dual=False)`
    with `intercept_scaling=1`).

    The features are read twice an iteration, for all classes together, and multiplied in float32;
    sums over examples of margins and all of the optimiser are float64 on the host.

    Args:
        features: chunks [n, D] of examples, floating. Those that are JAX's arrays stay where they
            are, others are copied once. Each size of chunk compiles once.
        labels: [N] integers in [0, classes), N over all chunks; or y itself, integers [N, classes]
            of 1, -1 and 0.
        classes: how many there are, K.
        C: the weight of the loss, a sum over examples.
        tolerance: of the residual of each classifier, at which it is done.
        iterations: at most so many; the residual says how far they came.

    Returns:
        the classifiers.

    Raises:
        ValueError: other shapes, labels outside their range, options out of theirs, or features
            with a NaN, an infinity, or a sum of squares that float32 does not hold.
        TypeError: features are no sequence or not floating, labels, classes or iterations no
            integers, or another option no number.

    Source: Fan et al. 2008, LIBLINEAR, section 2; Radford et al. 2016, section 5.1, for its use on
    DCGAN's features. Solved by L-BFGS (Nocedal & Wright 2006, algorithm 7.5) from the diagonal of
    the Hessian at 0; the line search is exact, since the loss is quadratic between the margins'
    zeros and margins are linear in the step.
    """
    for name, value in (("C", C), ("tolerance", tolerance), ("iterations", iterations)):
        if np.ndim(value) or not hasattr(value, "__float__"):
            raise TypeError(f"got {name} {_about(value)}, expected a number")
        if not 0 < value < np.inf:
            raise ValueError(f"got {name} {value}, expected a number above 0, and a finite one")
    for name, value in (("classes", classes), ("iterations", iterations)):
        if not isinstance(value, int | np.integer):
            raise TypeError(f"got {name} {_about(value)}, expected an integer")
    chunks, signs = _checked(features, labels, classes)
    ends = np.cumsum([len(x) for x in chunks])[:-1]

    def gradient(weights: np.ndarray, left: np.ndarray) -> np.ndarray:
        """[D + 1, K] at weights that leave `left` [N, K] of the margins of 1 unfilled."""
        pull = signs * np.maximum(left, 0)
        total = jnp.zeros((classes, chunks[0].shape[1]), jnp.float32)
        for x, part in zip(chunks, np.split(pull, ends), strict=True):
            total = _add_products(total, part.T.astype(np.float32), x)
        return weights - 2 * C * np.vstack([np.asarray(total, np.float64).T, pull.sum(0)])

    def change(step: np.ndarray) -> np.ndarray:
        """[N, K]: what a step [D + 1, K] adds to the margins."""
        kernel = step[:-1].astype(np.float32)
        return signs * (np.concatenate([_products(x, kernel) for x in chunks]) + step[-1])

    squares = np.sum([np.asarray(_squares(x), np.float64) for x in chunks], 0)
    if not np.all(np.isfinite(squares)):
        column = np.argmin(np.isfinite(squares))
        raise ValueError(
            f"got features whose squares add up to {squares[column]} in column {column}, expected "
            "finite features whose sum of squares float32 holds"
        )
    if not 2 * C * max(float(squares.max()), len(signs)) < np.inf:
        raise ValueError(
            f"got C {C} and features whose squares add up to {squares.max():.3g}, expected less"
        )
    inverse = 1 / (1 + 2 * C * np.append(squares, len(signs)))[:, None]
    weights, left = np.zeros((len(inverse), classes)), np.ones_like(signs)
    slope = gradient(weights, left)
    first = np.maximum(np.linalg.norm(slope, axis=0), np.finfo(np.float64).tiny)
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(iterations):
        if np.all(np.linalg.norm(slope, axis=0) <= tolerance * first):
            break
        step = _direction(slope, pairs, inverse)
        more = change(step)
        length = _line_search(weights, step, left, more, C)
        step, before = length * step, slope
        weights, left = weights + step, left - length * more
        slope = gradient(weights, left)
        pairs = [*pairs[1 - _MEMORY :], (step, slope - before)]
    return LinearSVM(
        jnp.asarray(weights[:-1], jnp.float32),
        jnp.asarray(weights[-1], jnp.float32),
        np.linalg.norm(slope, axis=0) / first,
    )


def _checked(
    features: Sequence[ArrayLike], labels: ArrayLike, classes: int
) -> tuple[list[jax.Array], np.ndarray]:
    if not isinstance(features, Sequence):
        raise TypeError(
            f"got features {_about(features)}, expected a sequence of chunks [n, D]: put an array "
            "into a list"
        )
    if not features:
        raise ValueError("got features [], expected chunks [n, D] with one D")
    first = np.shape(features[0])
    for i, chunk in enumerate(features):
        found = np.shape(chunk)
        if len(found) != 2 or 0 in found or found[1:] != first[1:]:
            raise ValueError(
                f"got features[{i}] {found} and features[0] {first}, expected chunks [n, D] with "
                "one D"
            )
    chunks, known = [jnp.asarray(x) for x in features], np.asarray(labels)
    for x in chunks:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"features have dtype {x.dtype}, expected a floating dtype")
    if not np.issubdtype(known.dtype, np.integer):
        raise TypeError(f"labels have dtype {known.dtype}, expected an integer dtype")
    number = sum(len(x) for x in chunks)
    if known.shape not in ((number,), (number, classes)):
        raise ValueError(
            f"got labels {known.shape}, expected one for each of {number} features, or {classes}"
        )
    least, low, high = (2, 0, classes - 1) if known.ndim == 1 else (1, -1, 1)
    if classes < least or known.min() < low or known.max() > high:
        raise ValueError(
            f"got labels from {known.min()} to {known.max()} and {classes} classes, expected "
            f"{least} classes at least, and labels from {low} to {high}"
        )
    if known.ndim == 2:
        return chunks, known.astype(np.float64)
    return chunks, np.where(known[:, None] == np.arange(classes), 1.0, -1.0)


def _about(value: object) -> str:
    """What an error says of a value, in one line: an array's shape, or the value."""
    shape = getattr(value, "shape", ())
    return f"of shape {shape}" if shape else f"{value!r}"[:80]


@jax.jit
def _products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.dot(x.astype(jnp.float32), kernel, precision="highest")


@jax.jit
def _add_products(total: jax.Array, pull: jax.Array, x: jax.Array) -> jax.Array:
    # Four times as fast on a CPU as the product of x's transpose.
    return total + jnp.dot(pull, x.astype(jnp.float32), precision="highest")


@jax.jit
def _squares(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x.astype(jnp.float32)), 0)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[K] of [n, K] and [n, K]."""
    return np.einsum("nk,nk->k", a, b)


def _direction(
    slope: np.ndarray, pairs: Sequence[tuple[np.ndarray, np.ndarray]], inverse: np.ndarray
) -> np.ndarray:
    """Minus the inverse Hessian that the pairs of step and change of slope tell of, times slope.

    Where rounding has left a pair without curvature, it tells nothing.
    """
    wanted, scale = -slope, np.ones(slope.shape[1])
    used: list[tuple[np.ndarray, ...]] = []
    for step, change in reversed(pairs):
        curvature = _dot(step, change)
        told = curvature > 1e-10 * np.sqrt(_dot(step, step) * _dot(change, change))
        weight = np.where(told, 1 / np.where(told, curvature, 1), 0)
        if not used:
            stretch = _dot(change, inverse * change)
            scale = np.where(told, curvature / np.where(told, stretch, 1), 1)
        part = weight * _dot(step, wanted)
        wanted = wanted - part * change
        used.append((step, change, weight, part))
    wanted = scale * inverse * wanted
    for step, change, weight, part in reversed(used):
        wanted = wanted + step * (part - weight * _dot(change, wanted))
    return wanted


def _line_search(
    weights: np.ndarray, step: np.ndarray, left: np.ndarray, more: np.ndarray, C: float
) -> np.ndarray:
    """[K]: how many steps lead to the minimum along each, within a hundredth of the slope.

    Newton's method on the slope. It needs no bounds: curvature falls where margins are filled along
    the step and rises where they are emptied, so what one step overshoots the next takes back.
    """
    linear, quadratic = _dot(weights, step), _dot(step, step)
    length, enough = np.zeros_like(linear), None
    for _ in range(50):
        rest = np.maximum(left - length * more, 0)
        slope = linear + length * quadratic - 2 * C * _dot(rest, more)
        enough = np.abs(slope) / 100 if enough is None else enough
        if np.all(np.abs(slope) <= enough):
            break
        curvature = quadratic + 2 * C * _dot(np.where(rest > 0, more, 0), more)
        length = length - slope / np.where(curvature > 0, curvature, 1)
    return length
