"""Steps against hand-written references, and the same result however the batch is divided."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    AXIS,
    State,
    add_up,
    example_keys,
    make_step,
    objective,
    parallel,
    reduce_gradients,
    split_keys,
)
from tests.training.stepping import ALL, close, run


def regression(size, seed=0):
    """Masks whose counts differ by device: the first half has few valid labels."""
    rng = np.random.default_rng(seed)
    chance = np.where(np.arange(size) < size // 2, 0.2, 0.9)
    return {
        "x": rng.normal(size=(size, 3)).astype(np.float32),
        "y": rng.normal(size=size).astype(np.float32),
        "has_y": rng.random(size) < chance,
        "has_z": rng.random(size) < 0.5,
    }


def two_terms(params, model_state, batch, keys):
    """A squared error of some examples, and three times an absolute value of others."""
    out = batch["x"] @ params["w"] + params["b"][0]
    return {
        "square": Mean.of((out - batch["y"]) ** 2, batch["has_y"]),
        "size": Mean.of(3.0 * jnp.abs(out), batch["has_z"]),
    }, model_state


def by_hand(w, b, batch):
    """Gradients and terms of the whole batch, example after example, in float64."""
    w, b, grad_w, grad_b = w.astype(np.float64), float(b[0]), np.zeros(3), 0.0
    totals = {"square": 0.0, "size": 0.0}
    counts = {"square": batch["has_y"].sum(), "size": batch["has_z"].sum()}
    for x, y, has_y, has_z in zip(*batch.values(), strict=True):
        out = float(x @ w + b)
        if has_y:
            totals["square"] += (out - y) ** 2
            grad_w, grad_b = (
                grad_w + 2 * (out - y) * x / counts["square"],
                grad_b + 2 * (out - y) / counts["square"],
            )
        if has_z:
            totals["size"] += 3 * abs(out)
            grad_w, grad_b = (
                grad_w + 3 * np.sign(out) * x / counts["size"],
                grad_b + 3 * np.sign(out) / counts["size"],
            )
    return grad_w, grad_b, {k: (totals[k], float(counts[k])) for k in totals}


def start(optimizer, params=None, model_state=None):
    if params is None:
        params = {"w": jnp.array([0.3, -0.2, 0.9]), "b": jnp.array([0.1])}
    return State.create(jax.random.key(0), params, optimizer.init(params), model_state)


@pytest.mark.parametrize("n", ALL)
def test_two_masked_terms_by_hand(devices, n):
    optimizer, batches = optax.sgd(0.05), [regression(16, seed) for seed in range(3)]
    state, told = run(make_step(two_terms, optimizer), start(optimizer), batches, devices(n))
    w, b = np.array([0.3, -0.2, 0.9]), np.array([0.1])
    for batch, terms in zip(batches, told, strict=True):
        grad_w, grad_b, expected = by_hand(w, b, batch)
        w, b = w - 0.05 * grad_w, b - 0.05 * grad_b
        close(terms, expected, rtol=1e-5)
    close(state.params, {"w": w, "b": b}, rtol=1e-5)
    assert int(state.step) == 3


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_term_that_nothing_counts_for_contributes_nothing(devices, n, accumulate):
    batch, optimizer = regression(16), optax.sgd(0.05)
    batch["has_z"][:] = False
    update = make_step(two_terms, optimizer, accumulate=accumulate)
    state, (terms,) = run(update, start(optimizer), [batch], devices(n))
    assert terms["size"] == (0, 0)
    grad_w, grad_b, _ = by_hand(np.array([0.3, -0.2, 0.9]), [0.1], batch)
    close(
        state.params,
        {"w": [0.3, -0.2, 0.9] - 0.05 * grad_w, "b": np.array([0.1 - 0.05 * grad_b])},
        rtol=1e-5,
    )
    # Nothing at all: the parameters stay.
    batch["has_y"][:] = False
    state, _ = run(update, start(optimizer), [batch], devices(n))
    np.testing.assert_array_equal(state.params["w"], np.float32([0.3, -0.2, 0.9]))


def test_objective_of_a_term_without_a_count_is_0_whatever_its_total(devices):
    def f(w):
        return objective({"a": Mean(2 * w, w), "b": Mean(5 * w, 0 * w)})

    value, gradient = parallel.Call(jax.value_and_grad(f), devices(2), donate=False)(
        np.array([1, 3], np.float32)
    )
    # 2 w over the count 1 + 3; counts are numbers, not functions of the parameters.
    np.testing.assert_allclose(value, [0.5, 1.5])
    np.testing.assert_allclose(gradient, [0.5, 0.5])


@pytest.mark.parametrize("n", ALL)
def test_a_device_without_any_valid_example(devices, n):
    batch, optimizer = regression(16), optax.sgd(0.05)
    batch["has_y"][:] = np.arange(16) == 11
    state, _ = run(make_step(two_terms, optimizer), start(optimizer), [batch], devices(n))
    grad_w, grad_b, _ = by_hand(np.array([0.3, -0.2, 0.9]), [0.1], batch)
    close(
        state.params,
        {"w": [0.3, -0.2, 0.9] - 0.05 * grad_w, "b": np.array([0.1 - 0.05 * grad_b])},
        rtol=1e-5,
    )


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_equal_the_undivided_batch(devices, n, accumulate):
    # A loss that draws, too: an example keeps its key whichever part it is in.
    def loss(params, model_state, batch, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        return two_terms(params, model_state, {**batch, "x": batch["x"] + noise}, keys)

    optimizer, batches = optax.adam(0.01), [regression(32, seed) for seed in range(4)]
    whole, told = run(make_step(loss, optimizer), start(optimizer), batches, devices(1))
    update = make_step(loss, optimizer, accumulate=accumulate)
    parts, told_in_parts = run(update, start(optimizer), batches, devices(n))
    close(parts.params, whole.params, atol=1e-6)
    close(told_in_parts, told, rtol=1e-5)


def test_accumulation_differentiates_one_part_at_a_time(devices):
    sizes = []

    def loss(params, model_state, batch, keys):
        sizes.append(len(batch["x"]))
        assert keys.shape == batch["y"].shape
        return two_terms(params, model_state, batch, keys)

    optimizer = optax.sgd(0.1)
    run(make_step(loss, optimizer, accumulate=4), start(optimizer), [regression(16)], devices(2))
    assert set(sizes) == {2}


def test_model_state_passes_through_the_parts_of_a_batch_in_order(devices):
    def loss(params, model_state, batch, keys):
        seen = jax.lax.psum(batch["y"].sum(), AXIS)
        after = {"log": 10 * model_state["log"] + seen}
        return {"a": Mean.of(params["w"][0] * batch["y"])}, after

    batch = {"y": np.array([1, 2, 3, 1, 2, 3], np.float32)}
    optimizer = optax.sgd(0.0)
    first = start(optimizer, {"w": jnp.ones(1)}, {"log": jnp.zeros(())})
    state, _ = run(make_step(loss, optimizer, accumulate=3), first, [batch] * 2, devices(2))
    # The parts hold 1 + 1, 2 + 2 and 3 + 3, and the second step goes on where the first ended.
    assert float(state.model_state["log"]) == 246_246


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("clip_norm", [0.05, 100.0])
def test_clipping_is_optax_on_the_gradient_of_the_whole_batch(devices, n, accumulate, clip_norm):
    batch, params = regression(16), start(optax.sgd(1.0)).params
    grad_w, grad_b, _ = by_hand(*map(np.asarray, params.values()), batch)
    clip = optax.clip_by_global_norm(clip_norm)
    gradient = {"w": jnp.asarray(grad_w), "b": jnp.asarray([grad_b])}
    clipped = clip.update(gradient, clip.init(params))[0]
    norm = float(optax.tree.norm(clipped))
    assert norm == pytest.approx(min(clip_norm, float(optax.tree.norm(gradient))), rel=1e-5)
    update = make_step(two_terms, optax.sgd(1.0), accumulate=accumulate, clip_norm=clip_norm)
    state, _ = run(update, start(optax.sgd(1.0)), [batch], devices(n))
    close(jax.tree.map(lambda a, b: a - b, params, state.params), clipped, atol=1e-6)


def test_parts_of_a_hand_written_update_are_those_of_make_step(devices):
    optimizer = optax.adam(0.01)

    def update(state, batch):
        def scalar(params):
            terms, _ = two_terms(params, {}, batch, example_keys(state, batch))
            return objective(terms), terms

        gradients, terms = jax.grad(scalar, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(reduce_gradients(gradients), state.opt_state)
        params = optax.apply_updates(state.params, updates)
        after = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        return after, add_up(terms)

    batches = [regression(16, seed) for seed in range(3)]
    made = run(make_step(two_terms, optimizer), start(optimizer), batches, devices(4))
    written = run(update, start(optimizer), batches, devices(4))
    close(made, written, rtol=1e-6)


@pytest.mark.parametrize("purpose", [0, 1])
def test_the_same_numbers_are_drawn_on_any_number_of_devices(devices, purpose):
    def f(state, batch):
        keys = example_keys(state, batch, purpose)
        bits = jax.vmap(lambda key: jax.random.bits(key, (5,)))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)
        return jax.random.key_data(keys), bits, noise

    drawn = {}
    for n in ALL:
        state = start(optax.sgd(0.1)).replace(step=jnp.int32(41))
        call = parallel.Call(f, devices(n), donate=False)
        batch = {"x": np.zeros((n, 16 // n, 2), np.float32)}
        told = call(parallel.stack(state, devices(n)), batch)
        drawn[n] = [np.asarray(x).reshape(16, -1) for x in told]
    for n in (2, 8):
        for one, several in zip(drawn[1][:2], drawn[n][:2], strict=True):
            np.testing.assert_array_equal(one, several)
        # Of equal bits: how the normal's inverse is vectorised depends on how many there are.
        np.testing.assert_array_max_ulp(drawn[1][2], drawn[n][2], maxulp=2)
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), purpose), 41)
    np.testing.assert_array_equal(drawn[1][0], jax.random.key_data(jax.random.split(expected, 16)))


def test_no_key_twice(devices):
    def f(state, batch):
        purposes = [example_keys(state, batch, p) for p in (0, 1, 2, 1 << 16)]
        return jnp.stack([jax.random.key_data(keys) for keys in purposes])

    call, found = parallel.Call(f, devices(2), donate=False), []
    for seed in (0, 1):
        for step in range(4):
            state = State.create(jax.random.key(seed), {}, {}).replace(step=jnp.int32(step))
            batch = np.zeros((2, 3), np.float32)
            found.append(np.asarray(call(parallel.stack(state, devices(2)), batch)).reshape(-1, 2))
    found = np.concatenate(found)
    assert len(found) == 2 * 4 * 4 * 6
    assert len(np.unique(found, axis=0)) == len(found)


def test_an_examples_keys_are_its_own():
    keys = jax.random.split(jax.random.key(3), 5)
    found = jax.random.key_data(split_keys(keys, 2))
    assert found.shape == (2, 5, 2)
    assert len(np.unique(found.reshape(-1, 2), axis=0)) == 10
    alone = jax.random.key_data(split_keys(keys[3:4], 2))
    np.testing.assert_array_equal(found[:, 3:4], alone)


class Normalized(nn.Module):
    axis_name: str | None = AXIS

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=False, momentum=0.8, axis_name=self.axis_name)(x)
        return nn.Dense(1)(nn.relu(x))[:, 0]


@functools.cache
def normalized():
    rng = np.random.default_rng(0)
    # Neighbouring examples are alike, so that a device's own statistics would be far off.
    batches = [
        {
            "x": (rng.normal(size=(16, 3)) + np.arange(16)[:, None]).astype(np.float32),
            "y": rng.normal(size=16).astype(np.float32),
        }
        for _ in range(3)
    ]
    return batches, Normalized().init(jax.random.key(0), batches[0]["x"])


def batch_norm_loss(axis_name):
    model = Normalized(axis_name)

    def loss(params, model_state, batch, keys):
        variables = {"params": params, **model_state}
        out, after = model.apply(variables, batch["x"], mutable=["batch_stats"])
        return {"square": Mean.of((out - batch["y"]) ** 2)}, after

    return loss


@pytest.mark.parametrize("n", ALL)
def test_batch_norm_is_synchronised(devices, n):
    batches, variables = normalized()
    optimizer = optax.sgd(0.05)
    first = start(optimizer, variables["params"], {"batch_stats": variables["batch_stats"]})
    update = make_step(batch_norm_loss(AXIS), optimizer)
    state, told = run(update, first, batches, devices(n))

    # The reference is ordinary jax.grad over the whole batch, with no axis at all.
    params, stats, loss = first.params, first.model_state, batch_norm_loss(None)
    for batch, terms in zip(batches, told, strict=True):

        def whole(params, stats=stats, batch=batch):
            terms, after = loss(params, stats, batch, None)
            return terms["square"].value, after

        (value, stats), gradient = jax.value_and_grad(whole, has_aux=True)(params)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)
        assert terms["square"][0] / terms["square"][1] == pytest.approx(float(value), rel=1e-5)
    close(state.params, params, atol=1e-5)
    close(state.model_state, stats, atol=1e-5, rtol=1e-5)


def test_wrong_options():
    with pytest.raises(ValueError, match="accumulate is 0, expected at least 1"):
        make_step(two_terms, optax.sgd(0.1), accumulate=0)
    for clip_norm in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"clip_norm is {clip_norm}, expected more than 0"):
            make_step(two_terms, optax.sgd(0.1), clip_norm=clip_norm)


def test_a_share_that_does_not_split(devices):
    update = make_step(two_terms, optax.sgd(0.1), accumulate=3)
    with pytest.raises(ValueError, match="a device's share of 8 examples does not split in 3"):
        run(update, start(optax.sgd(0.1)), [regression(16)], devices(2))
