"""The permutohedral lattice against a slow one, and against itself in other ways of running it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.ops import PermutohedralLattice, _lattice, permutohedral
from tests.ops import lattice_reference as reference
from tests.ops.conv_reference import quick

COUNT = 42  # one size for most tests, and no multiple of a window
# Up to 8 features the program has each by itself, and up to 8 words of two coordinates each word.
DEPTHS = (*range(1, 10), 17, 19)


def example(depth, seed=0, spread=1.0, count=COUNT):
    rng = np.random.default_rng(seed)
    features = (spread * rng.normal(size=(count, depth))).astype(np.float32)
    return features, rng.normal(size=(count, 2)).astype(np.float32)


def ways(features, values):
    """The lattice, and the values after each of its steps: NumPy's arrays."""
    return jax.tree.map(np.asarray, jitted(features, values))


@quick
def jitted(features, values):
    lattice = PermutohedralLattice.build(features)
    grid = lattice.splat(values)
    blurred = lattice.blur(grid)
    backwards = lattice.blur(grid, reverse=True)
    return lattice, grid, blurred, backwards, lattice.slice(blurred), lattice(values)


def rows(lattice, features):
    """{vertex of the slow lattice: its row}, which is one to one."""
    found = {}
    for n, (vertices, _) in enumerate(reference.simplices(features)):
        for k, vertex in enumerate(vertices):
            assert found.setdefault(vertex, row := int(lattice.vertices[k, n])) == row
    assert len(set(found.values())) == len(found)
    return found


def slow(features, values, axes=None):
    axes = range(features.shape[1] + 1) if axes is None else axes
    grid = reference.blur(reference.splat(features, values), axes)
    return reference.slice_(features, grid) * reference.scale(features.shape[1])


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("spread", [0.4, 3.0])
def test_each_step_is_the_slow_lattices(depth, spread):
    features, values = example(depth, spread=spread)
    lattice, grid, blurred, backwards, sliced, filtered = ways(features, values)
    row, axes = rows(lattice, features), range(depth + 1)
    true = reference.splat(features, values)
    counts = np.bincount([vertex[0] % (depth + 1) for vertex in row])
    assert int(lattice.used) == counts.max()
    for found, expected in (
        (grid, true),
        (blurred, reference.blur(true, axes)),
        (backwards, reference.blur(true, reversed(axes))),
    ):
        at = np.zeros(found.shape)
        at[list(row.values())] = [expected[vertex] for vertex in row]
        np.testing.assert_allclose(found, at, rtol=1e-5, atol=1e-5)
    expected = slow(features, values)
    assert np.abs(expected - values).max() > 0.1
    for found in (sliced, filtered):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", DEPTHS)
def test_weights_are_barycentric(depth):
    features, values = example(depth, seed=1, spread=2)
    features[0] = 0
    lattice, *_ = ways(features, values)
    assert lattice.weights.min() >= -1e-6
    np.testing.assert_allclose(lattice.weights.sum(0), 1, atol=1e-6)
    vertices = np.array([vertices for vertices, _ in reference.simplices(features)])
    assert not vertices.sum(-1).any()
    assert (vertices % (depth + 1) == np.arange(depth + 1)[:, None]).all()
    places = np.einsum("kn,nkd->nd", lattice.weights, vertices)
    np.testing.assert_allclose(places, reference.elevated(features), atol=1e-5 * (depth + 1))


@pytest.mark.optimized
def test_weights_do_not_depend_on_what_is_compiled_together():
    features, _ = example(5, spread=20, count=2000)
    features = features.round(1)  # some on borders of simplices
    together = jax.jit(_lattice._simplices)(features)
    operation_by_operation = _lattice._simplices(jnp.array(features))
    jax.tree.map(np.testing.assert_array_equal, together, operation_by_operation)


@pytest.mark.parametrize("depth", DEPTHS)
def test_neighbors_are_one_step_away_and_mutual(depth):
    features, values = example(depth)
    lattice, *_ = ways(features, values)
    row, empty = rows(lattice, features), lattice.neighbors.shape[2] - 1
    assert empty == (depth + 1) * COUNT
    expected = np.full(lattice.neighbors.shape, empty)
    for vertex, at in row.items():
        for axis, way in np.ndindex(depth + 1, 2):
            beside = reference.step(vertex, axis, 1 - 2 * way)
            expected[axis, way, at] = row.get(beside, empty)
    np.testing.assert_array_equal(lattice.neighbors, expected)
    assert (expected < empty).any()
    for axis, way in np.ndindex(depth + 1, 2):
        there = expected[axis, way] < empty
        back = expected[axis, 1 - way, expected[axis, way][there]]
        np.testing.assert_array_equal(back, np.flatnonzero(there))


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_sums_of_all_owners_share_each_points_weights(depth):
    lattice, *_ = ways(*example(depth))
    vertices = lattice.neighbors.shape[2]
    shared, there = np.zeros((vertices, COUNT)), np.asarray(lattice.owners) < vertices
    owners = np.broadcast_to(lattice.owners, lattice.points.shape)
    index = owners[:, there], lattice.points[:, there]
    np.add.at(shared, index, lattice.shares[:, there])
    expected = np.zeros_like(shared)
    expected[np.asarray(lattice.vertices), np.arange(COUNT)] = lattice.weights
    np.testing.assert_allclose(shared, expected, atol=1e-7)


def test_outside_of_jit():
    features, values = example(1, spread=2)
    # What bfloat16 has, too, which is widened.
    features = np.asarray(jnp.asarray(features, jnp.bfloat16), np.float32)
    expected = ways(features, values)[-1]
    for given in (features, features.astype(jnp.bfloat16)):
        lattice = PermutohedralLattice.build(given)
        assert lattice.neighbors.shape[2] == 2 * int(lattice.used) + 1
        np.testing.assert_allclose(lattice(values), expected, atol=1e-6)
    factors = np.linspace(-1, 2, COUNT, dtype=np.float32)

    @quick
    def others(lattice, factors, values):
        scaled = factors[:, None] * lattice(factors[:, None] * values)
        reshaped = lattice(values.reshape(6, 7, 2)).reshape(COUNT, 2)
        return reshaped, lattice.weighted(factors)(values), scaled

    reshaped, weighted, scaled = others(lattice, factors, values)
    np.testing.assert_allclose(reshaped, expected, atol=1e-6)
    np.testing.assert_allclose(weighted, scaled, atol=1e-5)
    used = int(lattice.used)
    with pytest.raises(ValueError, match=f"capacity is {used - 1}, expected {used} at least"):
        PermutohedralLattice.build(features, capacity=used - 1)


def test_mapped_and_short_of_room():
    pairs = [example(1, seed, spread) for seed, spread in ((2, 2), (3, 3))]
    features, values = (np.stack(v) for v in zip(*pairs, strict=True))
    few, many = (int(ways(*pair)[0].used) for pair in pairs)
    assert few < many
    apply = lambda f, v: PermutohedralLattice.build(f, capacity=many - 1)(v)
    enough, short = quick(jax.vmap(apply))(features, values)
    np.testing.assert_allclose(enough, ways(*pairs[0])[-1], atol=1e-6)
    assert np.isnan(short).all()


def test_by_default_there_is_room_for_an_eighth_more_at_most():
    rounded = [permutohedral.rounded(n) for n in range(1, 5000)]
    assert all(n <= r <= n + n / 8 for n, r in enumerate(rounded, 1))
    assert rounded == sorted(rounded)
    assert len(set(rounded)) < 90


def test_vertices_of_one_hash_and_a_point_each(monkeypatch):
    cached = _lattice.find, permutohedral._connect
    for function in cached:
        function.clear_cache()
    hashed = []
    alike = lambda keys: hashed.append(1) or jnp.zeros(keys.shape[1:], jnp.uint32)
    monkeypatch.setattr(_lattice, "_hashed", alike)
    # A power of two of them: without an empty slot a search for a neighbour would never end.
    features = np.arange(16, dtype=np.float32)[:, None] * 1.8 + np.float32(0.3)
    values = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    lattice, *_, out = quick(lambda *given: jitted.__wrapped__(*given))(features, values)
    assert len(hashed) == 2
    assert int(lattice.used) == 16
    np.testing.assert_allclose(out, slow(features, values), rtol=1e-5, atol=1e-5)
    for function in cached:
        function.clear_cache()


def test_points_in_more_than_one_chunk():
    # 20 bits of a word are the vertex's: 2^12 points are sorted at once.
    features, values = example(1, spread=30, count=4500)
    apply = lambda f, v: PermutohedralLattice.build(f, capacity=2**19)(v)
    out = quick(apply)(features, values)
    np.testing.assert_allclose(out, slow(features, values), rtol=1e-5, atol=1e-3)


def test_a_point_by_itself_and_many_at_one_place():
    for features in (np.zeros((COUNT, 2), np.float32), np.full((COUNT, 2), 7.3, np.float32)):
        _, values = example(2)
        out = ways(features, values)[-1]
        np.testing.assert_allclose(out, slow(features, values), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(out, np.broadcast_to(out[:1], out.shape), atol=1e-6)


def test_a_density_of_one_gives_the_gaussians_integral():
    # What the docstring says of the scale; the points are jittered, since a grid is a special case.
    rng = np.random.default_rng(0)
    for depth, side, reach in ((1, 400, 6), (2, 80, 4)):
        axes = np.meshgrid(*[np.arange(side) + 0.5] * depth)
        places = np.stack(axes, -1).reshape(-1, depth) + rng.uniform(
            -0.5, 0.5, (side**depth, depth)
        )
        features = (places / side - 0.5) * 2 * reach
        grid = reference.blur(
            reference.splat(features, np.ones((side**depth, 1))), range(depth + 1)
        )
        near = features[(np.abs(features) < 1).all(1)]
        total = reference.slice_(near, grid) * permutohedral._scale(depth)
        expected = (2 * np.pi) ** (depth / 2) * (side / (2 * reach)) ** depth
        np.testing.assert_allclose(total.mean(), expected, rtol=0.01)


def test_a_gradient_by_the_values_is_the_transposed_filter():
    @quick
    def derivatives(features, values, other):
        apply = lambda features, values: PermutohedralLattice.build(features)(values)
        out, back = jax.vjp(apply, features, values)
        cube = lambda values: (apply(features, values) ** 3).sum()
        twice = jax.grad(lambda values: (jax.grad(cube)(values) * other).sum())(values)
        return out, *back(other), twice

    with jax.enable_x64(True):
        features, values = (v.astype(np.float64) for v in example(3, seed=2))
        other = np.random.default_rng(9).normal(size=values.shape)
        out, nothing, back, twice = map(np.asarray, derivatives(features, values, other))
    assert not nothing.any()
    np.testing.assert_allclose((out * other).sum(), (values * back).sum(), rtol=1e-12)
    np.testing.assert_allclose(out, slow(features, values), rtol=1e-10)
    # K^T has the axes in reverse, and K is not symmetric.
    transposed = partial(slow, features, axes=[3, 2, 1, 0])
    np.testing.assert_allclose(back, transposed(other), rtol=1e-10)
    assert np.abs(back - slow(features, other)).max() > 1e-4
    # Of sum (K v)^3 the second derivative along w is K^T (6 (K v) (K w)).
    expected = transposed(6 * out * slow(features, other))
    np.testing.assert_allclose(twice, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e5, -1e5, 3e9, -1e20, 3e38])
def test_features_out_of_range(wrong):
    text = "expected finite numbers of at most about 16384: take a larger standard deviation"
    for depth in (3, 1, 9, 17):
        features, values = example(depth)
        features[5, -1] = wrong
        assert np.isnan(ways(features, values)[-1]).all()
        if depth in (1, 9):
            with pytest.raises(ValueError, match=text):
                PermutohedralLattice.build(features)


@pytest.mark.parametrize("depth", [3, 9, 17])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_last_vertices_in_range(depth, sign):
    features, values = (v.astype(np.float64) for v in example(depth, seed=3))
    # A step of the lattice: 1 more in the first coordinate over D + 1, 1 less in the second.
    step = np.array([sign, -sign, *[0] * (depth - 1)])
    corners = [np.array(v[0]) // (depth + 1) for v, _ in reference.simplices(features)]
    # So many of them lead to the last corner that keys and their neighbours have room for.
    steps = _lattice.RANGE - 3 - np.max(np.array(corners)[:, :2] * step[:2])
    by_step = step @ reference.basis(depth) * np.sqrt(3 / 2)
    with jax.enable_x64(True):
        inside, outside = (ways(features + n * by_step, values)[-1] for n in (steps, steps + 1))
    np.testing.assert_allclose(inside, slow(features, values), rtol=1e-8, atol=1e-8)
    assert np.isnan(outside).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_features_far_from_zero(sign):
    features, values = example(3, seed=2)
    # Multiples of this are far corners, and what float32 has of features there is exact.
    features = np.round(features * 256) / 256 + np.float32(sign * 8192)
    assert (features.astype(np.float64) % (1 / 256) == 0).all()
    found = ways(features, values)[-1]
    assert np.abs(found - slow(features, values)).max() < 0.1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4,), r"expected \[N, D\]"),
        ((2, 3, 4), r"\[N, D\]"),
        ((0, 3), "N, D above 0"),
        ((3, 0), "N, D above 0"),
    ],
)
def test_shape_errors(shape, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        PermutohedralLattice.build(np.zeros(shape, np.float32))
    assert f"features has shape {shape}" in str(caught.value)


def test_other_errors():
    features, _ = example(1)
    with pytest.raises(TypeError, match="features has dtype int32, expected a floating dtype"):
        PermutohedralLattice.build(features.astype(np.int32))
    with pytest.raises(ValueError, match="capacity is 0, expected an integer of at least 1"):
        PermutohedralLattice.build(features, capacity=0)
    for build in (
        PermutohedralLattice.build,
        jax.jit(PermutohedralLattice.build, static_argnames="capacity"),
    ):
        with pytest.raises(TypeError, match=r"capacity is 9\.5, expected an integer"):
            build(features, capacity=9.5)
