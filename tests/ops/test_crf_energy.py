"""Mean fields of any filters, and energies of labels, against the slow reference and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstruct.ops import crf, mean_field
from tests.ops import crf_reference as reference
from tests.ops.conv_reference import quick


def points(seed=0, shape=(3, 4), labels=3):
    """unary, and two kernels of whatever is linear and symmetric, of ours and of the reference."""
    rng = np.random.default_rng(seed)
    unary = rng.normal(size=(*shape, labels)).astype(np.float32)
    features = [rng.normal(size=(unary[..., 0].size, n)).astype(np.float32) for n in (2, 4)]
    matrices = [jnp.asarray(reference.normalized_kernel(f), jnp.float32) for f in features]
    costs = 1.5, rng.normal(size=(labels, labels)).astype(np.float32)
    apply = lambda matrix, v: (matrix @ v.reshape(-1, v.shape[-1])).reshape(v.shape)
    kernels = [
        crf.Kernel(partial(apply, matrix), c) for matrix, c in zip(matrices, costs, strict=True)
    ]
    return unary, kernels, list(zip(features, costs, strict=True))


@pytest.mark.parametrize("shape", [(12,), (2, 3, 2)])
def test_any_filters_of_any_points(shape):
    unary, kernels, slow = points(shape=shape)
    flat = unary.reshape(-1, 3)
    start = jax.nn.softmax(-unary)

    @quick
    def ways(unary):
        q, energies = mean_field(unary, kernels, iterations=4, trace=True)
        return q, energies, [crf.free_energy(p, unary, kernels) for p in (start, q)]

    q, energies, ends = ways(unary)
    true = reference.mean_field(flat, slow, 4)
    np.testing.assert_allclose(q.reshape(-1, 3), true[-1], atol=1e-5)
    free = [reference.free_energy(q, flat, slow, itself=True) for q in true]
    np.testing.assert_allclose(energies, np.array(free) + reference.potts_constant(slow), atol=1e-4)
    np.testing.assert_allclose(ends, energies[np.array([0, -1])], atol=1e-5)


def test_without_kernels():
    unary, *_ = points()
    q, energies = mean_field(unary, [], iterations=2, trace=True)
    np.testing.assert_allclose(q, jax.nn.softmax(-unary), atol=1e-6)
    # Then F is -log Z.
    expected = -np.log(np.exp(-unary.astype(np.float64)).sum(-1)).sum()
    np.testing.assert_allclose(energies, np.full(3, expected), atol=1e-5)


def test_energies_with_a_forbidden_label_have_gradients():
    unary, kernels, _ = points()

    @quick
    def both(unary):
        energies = lambda unary: mean_field(unary, kernels, iterations=2, trace=True)[1]
        return energies(unary), jax.grad(lambda unary: energies(unary).sum())(unary)

    # At 1000 exp(-U) is 0, too.
    (true, gradient), (found, forbidden) = (
        both(np.where(np.arange(36).reshape(3, 4, 3) == 16, cost, unary).astype(np.float32))
        for cost in (1000, np.inf)
    )
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(found, true)
    np.testing.assert_array_equal(forbidden, gradient)


LABELINGS = st.lists(st.integers(0, 2), min_size=12, max_size=12)


@settings(max_examples=20, deadline=None)
@given(LABELINGS)
def test_energy(labels):
    unary, kernels, slow = points()
    index = np.array(labels).reshape(unary.shape[:-1])
    found = crf.energy(index, unary, kernels)
    own = [reference.normalized_kernel(f).trace() for f, _ in slow]
    # The reference has no j = i, and counts equal labels where Potts counts different ones.
    matrix = (slow[1][1] + slow[1][1].T) / 2
    itself = np.diag(reference.normalized_kernel(slow[1][0])) @ np.diag(matrix)[labels] / 2
    expected = reference.energy(np.array(labels), unary.reshape(-1, 3), slow)
    expected += reference.potts_constant(slow[:1]) - 0.5 * slow[0][1] * own[0] + itself
    np.testing.assert_allclose(found, expected, atol=1e-4)
    hard = np.eye(3, dtype=np.float32)[index]
    np.testing.assert_array_equal(found, crf.free_energy(hard, unary, kernels))


def test_potts_energy_by_hand():
    matrix = jnp.array([[1.0, 0.5, 0.1], [0.5, 1, 0.2], [0.1, 0.2, 1]])
    kernels = [crf.Kernel(lambda v: matrix @ v, 10.0)]
    unary = np.array([[1.0, 2], [3, 4], [np.inf, 6]], np.float32)
    assert float(crf.energy(np.array([0, 0, 1]), unary, kernels)) == pytest.approx(10 + 3)
    assert float(crf.energy(np.array([0, 1, 1]), unary, kernels)) == pytest.approx(11 + 6)
    assert float(crf.energy(np.array([0, 1, 0]), unary, kernels)) == np.inf


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [(-1, np.int32), (3, np.int32), (255, np.uint8), (2**32, np.int64), (2**31, np.uint32)],
)
def test_a_label_out_of_range_has_no_energy(wrong, kind):
    unary, kernels, _ = points()
    labels = np.zeros(unary.shape[:-1], kind)
    right = crf.energy(labels, unary, kernels)
    traced = jax.jit(lambda labels: crf.energy(labels, unary, kernels))
    np.testing.assert_allclose(traced(labels), right, rtol=1e-6)
    labels[1, 2] = wrong
    message = f"labels reach from {min(0, wrong)} to {max(0, wrong)}, expected 0 to 2; void points"
    with pytest.raises(ValueError, match=message):
        crf.energy(labels, unary, kernels)
    if abs(wrong) < 2**32:  # jit itself cuts NumPy's 64 bits
        with pytest.raises(ValueError, match="void points need a label"):
            crf.energy(jnp.asarray(labels), unary, kernels)
        assert np.isnan(traced(labels))


def test_labels_of_eight_bits_and_more_classes_than_these_hold():
    unary = np.arange(300, dtype=np.float32).reshape(1, 300)
    assert float(crf.energy(np.array([200], np.uint8), unary, [])) == 200


@pytest.mark.parametrize("cost", [np.nan, np.inf, np.array([0, -np.inf, 0])])
def test_costs_that_are_not_finite(cost):
    unary, kernels, _ = points()
    bad = [kernels[0]._replace(compatibility=cost)]
    with pytest.raises(ValueError, match="are NaN or infinite, expected finite costs"):
        mean_field(unary, bad)
    with pytest.raises(ValueError, match="are NaN or infinite"):
        jax.jit(lambda unary: mean_field(unary, bad))(unary)


def test_energy_errors():
    unary, kernels, _ = points()
    with pytest.raises(ValueError, match=r"labels \(3, 3\), unary \(3, 4\), expected as many la"):
        crf.energy(np.zeros((3, 3), int), unary, kernels)
    with pytest.raises(TypeError, match="labels has dtype float32, expected an integer dtype"):
        crf.energy(np.zeros((3, 4), np.float32), unary, kernels)
    with pytest.raises(ValueError, match=r"marginals \(3, 4, 2\), unary \(3, 4, 3\), expected two"):
        crf.free_energy(unary[..., :2], unary, kernels)
    with pytest.raises(ValueError, match=r"compatibility has shape \(2,\), expected \(\), \(3,\)"):
        mean_field(unary, [crf.Kernel(lambda v: v, np.ones(2))])
