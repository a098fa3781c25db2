"""Dense CRFs against pydensecrf's recorded marginals, a slow reference, and themselves."""

from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import (
    PermutohedralLattice,
    crf,
    dense_crf,
    gaussian,
    mean_field,
)
from tests.ops import crf_reference as reference
from tests.ops.conv_reference import quick
from tests.ops.recording import recorded

STORED = np.load(Path(__file__).parents[1] / "recorded" / "ops_crf.npz")
ROOM = 900  # vertices of one remainder: enough for every scene, so that they share programs
WEIGHTS = {"bilateral_weight": 10.0, "gaussian_weight": 3.0}
SIGMAS = {"sigma_xy": 80.0, "sigma_rgb": 13.0, "sigma_gaussian": 3.0}
COSTS = {
    "potts": None,
    "vector": np.array([-1.0, -0.8, -1.2, -0.9, 0.1], np.float32),
    "matrix": np.random.default_rng(5).normal(size=(5, 5)).astype(np.float32) - 2 * np.eye(5),
}


def scene(name):
    return STORED[f"{name}_image"], STORED[f"{name}_unary"]


def example(seed=0, size=(5, 6), labels=3):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return rng.normal(size=(*size, labels)).astype(np.float32), image


def slow_kernels(image, costs=None, *, bilateral_weight, gaussian_weight, **sigmas):
    """Those of `reference` that `dense_crf` has."""
    kernels = reference.pixel_kernels(image, **sigmas)
    weights = bilateral_weight, gaussian_weight
    return [(f, w if costs is None else w * costs) for f, w in zip(kernels, weights, strict=True)]


@quick
def built(features):
    return gaussian.normalized(
        PermutohedralLattice.build(features, capacity=ROOM), features.shape[:1]
    )


@cache
def lattice(name, sigma_xy, sigma_rgb=None):
    """As pydensecrf has it, which takes a lattice for the kernel of places, too."""
    image, _ = scene(name)
    features = crf.pixel_features(image, sigma_xy, sigma_rgb or 1)
    return built(features.reshape(-1, 5)[:, : 5 if sigma_rgb else 2])


SEEN = []


@quick
def inferred(unary, kernels):
    """The free energies, and that of the last marginals; all of these are in SEEN."""
    look = lambda q: jax.debug.callback(SEEN.append, q, ordered=True) or q
    last, energies = mean_field(unary, [*kernels, crf.Kernel(look, 0.0)], trace=True)
    return energies, crf.free_energy(last, unary, kernels)


def of_a_case(options):
    """unary and kernels, of which all scenes of one size have as many labels, and two kernels."""
    _, unary = scene(options["scene"])
    labels = 3 if len(unary) == 40 else 5
    more = labels - unary.shape[2]
    unary = np.pad(unary, ((0, 0), (0, 0), (0, more)), constant_values=np.inf)
    nothing = (
        {"sigma_xy": 80, "sigma_rgb": 13, "compatibility": 0},
        {"sigma_xy": 3, "compatibility": 0},
    )
    kernels = []
    for kernel in nothing:
        alike = [k for k in options["kernels"] if k.keys() == kernel.keys()]
        kernel = dict(alike[0] if alike else kernel)
        costs = np.asarray(kernel.pop("compatibility"), np.float32)
        if costs.ndim < 2:
            costs = np.diag(np.broadcast_to(costs if costs.ndim else -costs, labels))
        kernels.append(crf.Kernel(lattice(options["scene"], **kernel), costs))
    return unary, kernels


RECORDED = recorded("ops_crf.npz", "mean_field")


@pytest.mark.parametrize(("options", "answer"), RECORDED)
def test_pydensecrfs_marginals(options, answer):
    unary, kernels = of_a_case(options)
    SEEN.clear()
    energies, last = inferred(unary, kernels)
    jax.effects_barrier()
    marginals, labels = np.array(SEEN), answer["marginals"].shape[-1]
    assert marginals.shape == (11, *unary.shape)
    assert not marginals[..., labels:].any()
    found = marginals[np.array(options["iterations"]), ..., :labels]
    np.testing.assert_allclose(found, answer["marginals"], atol=1e-4)
    np.testing.assert_allclose(energies[-1], last, rtol=1e-5)
    if "divergences" in answer:
        own = [
            reference.free_energy(q, unary.reshape(-1, 3), []) for q in marginals.reshape(11, -1, 3)
        ]
        np.testing.assert_allclose(2 * energies - np.array(own), answer["divergences"], rtol=1e-5)


def test_normalized_lattices_keep_constants_about():
    ones = np.ones((2000, 1), np.float32)
    filter = quick(lambda lattice, values: lattice(values))
    away = np.abs(filter(lattice("coffee", 80, 13), ones) - 1)
    assert away.mean() < 0.1
    assert away.max() < 0.7


@quick
def exact(unary, image, costs):
    """The marginals, their free energies, and those again."""
    numbers = WEIGHTS | SIGMAS
    q = dense_crf(unary, image, compatibility=costs, filter="exact", **numbers)
    numbers |= {n: w if costs is None else w * costs for n, w in WEIGHTS.items()}
    kernels = crf.pixel_kernels(image, filter="exact", **numbers)
    return q, *mean_field(unary, kernels, trace=True), crf.free_energy(q, unary, kernels)


@pytest.mark.parametrize("costs", COSTS)
def test_exact_marginals_and_free_energies(costs):
    image, unary = scene("chelsea")
    q, again, energies, last = exact(unary, image, COSTS[costs])
    kernels = slow_kernels(image, COSTS[costs], **WEIGHTS, **SIGMAS)
    true = reference.mean_field(unary.reshape(-1, 5), kernels, 10)
    np.testing.assert_allclose(q, true[-1].reshape(unary.shape), atol=1e-5)
    np.testing.assert_array_equal(q, again)
    for n in (0, 1, 5, 10):
        free = reference.free_energy(true[n], unary.reshape(-1, 5), kernels, itself=True)
        np.testing.assert_allclose(energies[n], free + reference.potts_constant(kernels), atol=2e-2)
    np.testing.assert_allclose(last, energies[-1], atol=2e-2)
    if costs != "matrix":
        assert (np.diff(energies) < 1e-2).all()
        assert energies[0] - energies[1] > 10


@cache
def alone(flipped=False):
    """The defaults, outside of jit."""
    image, unary = scene("chelsea")
    return np.asarray(dense_crf(unary, image[::-1] if flipped else image))


def test_defaults_are_near_pydensecrfs():
    (expected,) = [
        answer["marginals"][-1]
        for options, answer in RECORDED
        if options["scene"] == "chelsea" and options["iterations"] == (1, 5, 10)
    ]
    # Of this crop a tenth is within 3 standard deviations of a corner. Of all of it 5e-4.
    assert np.abs(alone() - expected).mean() < 1e-3


def test_a_second_image_compiles_nothing(caplog):
    alone()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        second = alone(flipped=True)
    assert np.abs(second - alone()).max() > 0.1
    assert not [r for r in caplog.messages if "ompil" in r]


def several():
    """Four unaries, and their images: of chelsea, upside down, of one color and of noise."""
    image, unary = scene("chelsea")
    noise = np.random.default_rng(1).integers(100, 160, image.shape).astype(np.uint8)
    images = np.stack([image, image[::-1], np.full_like(image, 130), noise])
    return np.stack([unary, unary, unary[::-1], unary]), images


def batch(unary, images, w1, w2, sigma_xy, sigma_rgb):
    return dense_crf(
        unary,
        images,
        bilateral_weight=w1,
        gaussian_weight=w2,
        sigma_xy=sigma_xy,
        sigma_rgb=sigma_rgb,
        capacity=ROOM,
    )


def numbers(w1=10.0, w2=3.0, sigma_xy=80.0, sigma_rgb=13.0):
    return w1, w2, sigma_xy, sigma_rgb


jitted = quick(batch)


def test_a_batch_is_the_loop():
    unary, images = several()
    out = jitted(unary, images, *numbers())
    np.testing.assert_allclose(out[0], alone(), atol=1e-5)
    np.testing.assert_allclose(out[1], alone(flipped=True), atol=1e-5)
    np.testing.assert_allclose(out.sum(-1), 1, atol=1e-6)
    eager = dense_crf(np.stack([unary[0], -unary[0]]), np.stack([images[0]] * 2))
    np.testing.assert_array_equal(eager[0], alone())
    np.testing.assert_array_equal(eager[1], dense_crf(-unary[0], images[0]))


def test_weights_and_standard_deviations_at_their_ends():
    unary, images = several()
    nothing = jitted(unary, images, *numbers(w1=0.0, w2=0.0))
    np.testing.assert_allclose(nothing, jax.nn.softmax(-unary), atol=1e-6)
    assert np.isfinite(jitted(unary, images, *numbers(sigma_xy=1e6, sigma_rgb=1e6))).all()
    assert np.isnan(jitted(unary, images, *numbers(sigma_xy=1e-4))).all()
    with pytest.raises(ValueError, match="take a larger standard deviation"):
        dense_crf(unary[0], images[0], sigma_xy=1e-4)


def test_forbidden_labels_and_nan():
    unary, images = several()
    plain = jitted(unary, images, *numbers())
    unary[0, 3, 4, 1:3] = np.inf
    unary[0, 20, 7, 1:] = np.inf
    unary[1, 5, 5] = np.inf
    unary[2, 6, 6, 2] = np.nan
    out = jitted(unary, images, *numbers())
    assert np.isfinite(out[0]).all()
    assert not out[0, 3, 4, 1:3].any()
    assert out[0, 20, 7].tolist() == [1, 0, 0, 0, 0]
    assert np.isnan(out[1:3]).all()
    np.testing.assert_array_equal(out[3], plain[3])


twice = quick(partial(dense_crf, filter="exact", iterations=2))


@pytest.mark.parametrize(
    ("dtype", "pixel", "atol"),
    [
        (jnp.bfloat16, np.uint8, 1e-2),
        (np.float32, np.int32, 1e-5),
        (np.float64, np.float64, 1e-12),
    ],
)
def test_dtypes(dtype, pixel, atol):
    unary, image = example()
    kernels = slow_kernels(image, **WEIGHTS, **SIGMAS)
    with jax.enable_x64(True):
        unary = unary.astype(dtype)
        out = np.asarray(twice(unary, image.astype(pixel)))
        assert out.dtype == dtype
        true = reference.mean_field(np.asarray(unary, np.float64).reshape(-1, 3), kernels, 2)[-1]
        np.testing.assert_allclose(np.asarray(out, np.float64).reshape(-1, 3), true, atol=atol)


def test_no_iterations():
    unary, image = example()
    out = quick(partial(dense_crf, iterations=0, filter="exact"))(unary, image)
    np.testing.assert_allclose(out, jax.nn.softmax(-unary), atol=1e-6)


@pytest.mark.parametrize(("size", "labels"), [((1, 7), 3), ((7, 1), 1)])
def test_one_label_row_column_or_pixel(size, labels):
    unary, image = example(size=size, labels=labels)
    out = twice(unary, image)
    kernels = slow_kernels(image, **WEIGHTS, **SIGMAS)
    true = reference.mean_field(unary.reshape(-1, labels), kernels, 2)[-1]
    np.testing.assert_allclose(out, true.reshape(out.shape), atol=1e-5)
    if labels == 1:
        np.testing.assert_array_equal(out, 1)


@pytest.mark.optimized  # without, LLVM rounds otherwise in each program, on some processors
def test_exact_in_a_batch_and_mapped(on_accelerator):
    unary, images = (np.stack(v) for v in zip(*(example(seed) for seed in (1, 2)), strict=True))
    call = partial(dense_crf, filter="exact", iterations=3)
    each = np.stack([call(u, i) for u, i in zip(unary, images, strict=True)])
    np.testing.assert_array_equal(call(unary, images), each)
    for form in (jax.jit(jax.vmap(call)), jax.jit(lambda unary, _: call(unary, images))):
        np.testing.assert_allclose(form(unary, images), each, atol=1e-5)
    on_accelerator()
    np.testing.assert_allclose(jax.jit(lambda *v: call(*v))(unary, images), each, atol=1e-5)


NAMES = ("bilateral_weight", "sigma_xy", "sigma_rgb", "gaussian_weight", "sigma_gaussian")


def test_exact_gradients_are_finite_differences():
    rng = np.random.default_rng(0)
    unary, image = example()
    with jax.enable_x64(True):
        given = [unary.astype(float), image.astype(float), 2.0, 2.5, 70.0, 1.5, 1.2]
        given = [np.asarray(v) for v in given]
        pulled = rng.normal(size=unary.shape)

        def total(unary, image, *numbers):
            options = dict(zip(NAMES, numbers, strict=True)) | {"filter": "exact"}
            return (dense_crf(unary, image, **options, iterations=4) * pulled).sum()

        values = quick(jax.value_and_grad(total, range(7)))
        gradients = values(*given)[1]
        for i, gradient in enumerate(gradients):
            way = rng.normal(size=gradient.shape)
            step = 1e-5 * (100 if i == 1 else 1)
            low, high = (
                values(*given[:i], given[i] + sign * step * way, *given[i + 1 :])[0]
                for sign in (-1, 1)
            )
            assert abs((gradient * way).sum()) > 1e-6
            np.testing.assert_allclose((gradient * way).sum(), (high - low) / (2 * step), rtol=1e-5)


def test_gradients_with_a_lattice():
    image, unary = (v[:33, :21] for v in scene("coffee"))
    rng = np.random.default_rng(0)
    truth = np.digitize(image.mean(-1), np.quantile(image.mean(-1), [1 / 3, 2 / 3]))[..., None]

    def loss(filter, unary, image, *numbers):
        options = dict(zip(NAMES, numbers, strict=True)) | {"filter": filter, "capacity": ROOM}
        q = dense_crf(unary, image, **options, iterations=3)
        return -jnp.log(jnp.take_along_axis(q, truth, -1) + 1e-6).mean()

    given = unary, image.astype(np.float32), 3.0, 80.0, 13.0, 3.0, 3.0
    values = quick(jax.value_and_grad(partial(loss, "lattice"), range(7)))
    gradients = values(*given)[1]
    exact = quick(jax.grad(partial(loss, "exact")))(*given)
    assert (gradients[0] * exact).sum() > 0.98 * np.linalg.norm(gradients[0]) * np.linalg.norm(
        exact
    )
    for nothing in (gradients[1], gradients[3], gradients[4]):
        assert not nothing.any()
    way = rng.normal(size=unary.shape).astype(np.float32)
    for i, step in ((0, 0.05 * way), (2, 0.2), (5, 0.2), (6, 0.1)):
        low, high = (values(*given[:i], given[i] + s * step, *given[i + 1 :])[0] for s in (-1, 1))
        np.testing.assert_allclose((gradients[i] * step).sum(), (high - low) / 2, rtol=0.05)


@pytest.mark.real_data("crf_demo")
def test_real_photograph(real_data):
    image_module = pytest.importorskip("PIL.Image")
    image = np.asarray(image_module.open(real_data / "crf_demo" / "im1.png").convert("RGB"))
    high, wide = (n // 4 for n in image.shape[:2])
    image = image[: high * 4, : wide * 4].reshape(high, 4, wide, 4, 3).mean((1, 3))
    grey = image.mean(-1)
    rng = np.random.default_rng(0)
    unary = rng.normal(size=(high, wide, 3)) - 2 * np.eye(3)[np.digitize(grey, [85, 170])]
    unary, image = unary.astype(np.float32), image.astype(np.float32)
    away = np.abs(dense_crf(unary, image) - dense_crf(unary, image, filter="exact"))
    assert away.mean() < 0.01
