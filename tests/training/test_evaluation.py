"""Totals over a set to its last example, on any number of devices and for any batch size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Mean
from jaxstruct.training import Batches, State, batches_in_order, make_evaluation, parallel

ALL = [1, 2, 8]


def placed(devices, w=2.0, **others):
    """A state as the loop hands it to an evaluation: one copy, on all of the devices."""
    params = {"w": jnp.full(3, w), **others}
    state = State.create(jax.random.key(3), params, {"m": jnp.zeros(3)})
    return parallel.unstack(parallel.stack(state, devices))


def examples(size):
    rng = np.random.default_rng(size)
    return {
        "image": rng.integers(0, 256, (size, 2, 2, 1), np.uint8),
        "label": rng.integers(0, 3, size, np.int32),
        "has_label": rng.random(size) < 0.6,
    }


def count(state, batch, keys):
    """A mean over the valid examples, and one over those that have a label, too."""
    brightness = state.params["w"][0] * batch["image"].mean((1, 2, 3))
    labelled = batch["valid"] & batch["has_label"]
    return {
        "brightness": Mean.of(brightness, batch["valid"]),
        "zeros": Mean.of(batch["label"] == 0, labelled),
        "examples": Mean(batch["valid"].sum(), jnp.float32(1) / parallel.device_count()),
    }


def streamed(arrays, batch_size):
    made = batches_in_order(arrays, batch_size)
    return Batches(made.spec, made.indices, lambda i: {k: x[i] for k, x in arrays.items()})


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize(("size", "batch_size"), [(1, 8), (13, 5), (16, 8), (17, 16), (30, 7)])
@pytest.mark.parametrize("make", [batches_in_order, streamed])
def test_totals_over_the_whole_set(devices, n, size, batch_size, make):
    arrays = examples(size)
    metrics = make_evaluation(count, make(arrays, batch_size))(placed(devices(n)))
    brightness = 2 * (arrays["image"].astype(np.float64) / 255).mean()
    assert metrics["brightness"] == pytest.approx(brightness, rel=1e-6)
    labels = arrays["label"][arrays["has_label"]]
    assert metrics["zeros"] == pytest.approx((labels == 0).mean() if len(labels) else 0, rel=1e-6)
    calls = -(-size // min(size, batch_size))
    assert metrics["examples"] * calls == pytest.approx(size)
    assert all(type(value) is float for value in metrics.values())


def test_counts_of_a_set_are_divided_in_double_precision(devices):
    # 7 of 10 is 0.7 in metrics.json, not 0.699999988079071.
    arrays = {"right": np.arange(10) < 7}
    evaluate = make_evaluation(
        lambda state, batch, keys: {"accuracy": Mean.of(batch["right"], batch["valid"])},
        batches_in_order(arrays, 4),
    )
    assert evaluate(placed(devices(2)))["accuracy"] == 0.7


def test_totals_add_up_beyond_float32(devices):
    # A float32 sum over the batches would stay at 2^24.
    def count(state, batch, keys):
        return {"a": Mean(batch["x"].sum(), jnp.float32(0.5))}

    x = np.array([2.0**24] + [1.0] * 20, np.float32)
    metrics = make_evaluation(count, batches_in_order({"x": x}, 1))(placed(devices(1)))
    assert metrics["a"] == (2**24 + 20) / (0.5 * 21)


def test_a_metric_that_nothing_counts_for_is_0(devices):
    def count(state, batch, keys):
        return {"a": Mean.of(batch["x"], batch["valid"] & (batch["x"] > 99))}

    evaluate = make_evaluation(count, batches_in_order({"x": np.ones(5, np.float32)}, 2))
    assert evaluate(placed(devices(2))) == {"a": 0.0}


def test_the_padding_may_be_anything(devices):
    # Examples that pad a batch are real ones again; a count that forgets `valid` shows it.
    seen = []

    def count(state, batch, keys):
        jax.debug.callback(
            lambda x, v: seen.append((x.copy(), v.copy())), batch["x"], batch["valid"]
        )
        return {"x": Mean.of(batch["x"], batch["valid"])}

    x = np.arange(1, 6, dtype=np.float32)
    assert make_evaluation(count, batches_in_order({"x": x}, 4))(placed(devices(1))) == {"x": 3.0}
    jax.effects_barrier()
    values, valid = (np.concatenate([s[i] for s in seen]) for i in (0, 1))
    assert sorted(values[valid]) == [1, 2, 3, 4, 5]
    assert np.isin(values, x).all()


@pytest.mark.parametrize("make", [batches_in_order, streamed])
def test_the_same_numbers_are_drawn_whatever_the_batch_size_and_devices(devices, make):
    def count(state, batch, keys):
        noise = jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint8))(keys)
        drawn = jax.nn.one_hot(batch["i"], 13, dtype=jnp.float32) * noise[:, None]
        drawn = jnp.where(batch["valid"][:, None], drawn, 0).sum(0)
        return {str(i): Mean(drawn[i], jnp.float32(1) / parallel.device_count()) for i in range(13)}

    drawn = {}
    for n, batch_size, seed in ((1, 13, 0), (1, 4, 0), (2, 5, 1), (8, 8, 2), (8, 3, 3)):
        batches = make({"i": np.arange(13, dtype=np.int32)}, batch_size)
        calls = -(-13 // batch_size)
        state = placed(devices(n)).replace(key=jax.random.key(seed), step=jnp.int32(seed))
        state = parallel.unstack(parallel.stack(state, devices(n)))
        evaluate = make_evaluation(count, batches)
        metrics = evaluate(state)
        assert evaluate(state) == metrics
        drawn[n, batch_size] = [round(value * calls) for value in metrics.values()]
    first, *rest = drawn.values()
    assert all(other == first for other in rest)
    assert len(set(first)) > 6


def test_one_compilation_for_many_evaluations_and_one_for_each_shape_of_state(devices):
    traces = []

    def counted(state, batch, keys):
        traces.append(sorted(state.params))
        return count(state, batch, keys)

    evaluate = make_evaluation(counted, batches_in_order(examples(13), 5))
    first = evaluate(placed(devices(2)))
    for w in (2.0, 3.0, 4.0):
        metrics = evaluate(placed(devices(2), w))
        assert metrics["brightness"] == pytest.approx(first["brightness"] * w / 2, rel=1e-6)
    assert traces == [["w"]]
    # The next stage's tree has grown; then the first again, and other devices.
    grown = evaluate(placed(devices(2), layer=jnp.zeros((4, 4))))
    assert grown == first
    assert evaluate(placed(devices(2))) == first
    assert traces == [["w"], ["layer", "w"]]
    assert evaluate(placed(devices(8))) == pytest.approx(first, rel=1e-6)


def test_the_state_lives_on(devices):
    evaluate = make_evaluation(count, batches_in_order(examples(9), 4))
    state = placed(devices(2))
    evaluate(state)
    evaluate(state)
    np.testing.assert_array_equal(state.params["w"], np.full(3, 2))


def test_what_a_reader_raises_is_raised(devices):
    def read(indices):
        raise OSError("disk on fire")

    made = batches_in_order(examples(9), 4)
    with pytest.raises(OSError, match="disk on fire"):
        make_evaluation(count, Batches(made.spec, made.indices, read))(placed(devices(2)))
