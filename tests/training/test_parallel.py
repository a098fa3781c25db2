"""Devices: copies on each, sharing a batch, compiling once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.training import AXIS, TraceError, parallel
from jaxstruct.training.parallel import Call

ALL = [1, 2, 8]
FLOAT = np.float32


def test_stack_and_unstack_are_inverse(devices):
    key = jax.random.key(7)
    tree = {"a": np.arange(6.0, dtype=FLOAT).reshape(2, 3), "n": jnp.zeros((), jnp.int32), "k": key}
    stacked = parallel.stack(tree, devices(4))
    assert jax.tree.map(jnp.shape, stacked) == {"a": (4, 2, 3), "n": (4,), "k": (4,)}
    back = parallel.unstack(stacked)
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert bool(back["k"] == key)
    assert parallel.devices_of(back) == devices(4)
    assert parallel.devices_of(tree["a"]) == jax.devices()
    # From there to other devices: nothing depends on where a state was.
    again = parallel.unstack(parallel.stack(back, devices(8)[2:]))
    np.testing.assert_array_equal(again["a"], tree["a"])
    assert parallel.devices_of(again) == devices(8)[2:]


def test_arrays_go_to_the_devices_of_another_tree(devices):
    tree = {"a": np.arange(3.0, dtype=FLOAT)}
    like = parallel.unstack(parallel.stack({"b": jnp.zeros(2)}, devices(3)[1:]))
    for placed, expected in (
        (parallel.on_devices_of(tree, like), devices(3)[1:]),
        (parallel.on_devices_of(tree), jax.devices()),
    ):
        assert parallel.devices_of(placed) == expected
        np.testing.assert_array_equal(placed["a"], tree["a"])


def test_unstack_survives_the_donation_of_what_it_came_from(devices):
    call = Call(lambda s: s + 1, devices(2))
    stacked = parallel.stack(jnp.arange(1000.0), devices(2))
    kept = parallel.unstack(stacked)
    for _ in range(3):
        stacked = call(stacked)
    np.testing.assert_array_equal(kept, np.arange(1000.0))
    np.testing.assert_array_equal(parallel.unstack(stacked), np.arange(1000.0) + 3)


@pytest.mark.parametrize("n", ALL)
def test_share_gives_each_device_neighbouring_examples(devices, n):
    batch = {"x": np.arange(16), "y": np.arange(32).reshape(16, 2)}
    shared = parallel.share(batch, devices(n))
    assert shared["x"].shape == (n, 16 // n)
    np.testing.assert_array_equal(shared["x"].reshape(-1), batch["x"])
    np.testing.assert_array_equal(shared["y"].reshape(16, 2), batch["y"])
    # Another axis: [K, B] -> [D, K, B / D].
    steps = parallel.share(np.arange(48).reshape(3, 16), devices(n), axis=1)
    assert steps.shape == (n, 3, 16 // n)
    np.testing.assert_array_equal(np.concatenate(list(steps), 1), np.arange(48).reshape(3, 16))


def test_choose_and_check(devices):
    assert parallel.choose() == jax.devices()
    assert parallel.choose(3) == jax.devices()[:3]
    for count in (0, 9, -1):
        with pytest.raises(ValueError, match=f"devices is {count}, expected 1 to 8"):
            parallel.choose(count)
    parallel.check_divisible(24, devices(8))
    with pytest.raises(
        ValueError, match=r"batch_size 20 cannot be shared evenly by 8 devices.*of 8 \(24, say\)"
    ):
        parallel.check_divisible(20, devices(8))


def test_only_several_cpu_devices_must_be_waited_for(devices):
    class Accelerator:
        platform = "gpu"

    assert parallel.must_wait(devices(2))
    assert not parallel.must_wait(devices(1))
    assert not parallel.must_wait([Accelerator()] * 8)


@pytest.mark.parametrize(("n", "waits"), [(1, False), (2, True), (8, True)])
def test_a_call_on_several_cpu_devices_is_waited_for(devices, n, waits, monkeypatch):
    waited, real = [], jax.block_until_ready

    def noted(tree):
        waited.extend(len(x.addressable_shards) for x in jax.tree.leaves(tree))
        return real(tree)

    monkeypatch.setattr(jax, "block_until_ready", noted)
    call = Call(lambda s, x: (s + jax.lax.psum(x, AXIS), {}), devices(n))
    state = parallel.stack(jnp.zeros(()), devices(n))
    for _ in range(3):
        state, _ = call(state, np.ones(n, FLOAT))
    # All that it gave, on every device: a step without terms has nothing else to wait for.
    assert waited == [n] * 3 * waits
    assert float(parallel.unstack(state)) == 3 * n


# Not waited for, jax 0.10 and 0.11 abort here after 40 seconds.
@pytest.mark.slow
def test_many_calls_with_collectives_and_nothing_to_read(devices):
    def f(state, x):
        for _ in range(4):
            state = state + jax.lax.psum(x * jnp.cos(state), AXIS) / 8
        return state, {}

    call, x = Call(f, devices(8)), np.ones((8, 64), FLOAT)
    state = parallel.stack(jnp.zeros(64), devices(8))
    for _ in range(1500):
        state, _ = call(state, x)
    assert np.isfinite(np.asarray(state)).all()


@pytest.mark.parametrize("n", ALL)
def test_the_axis_is_bound_and_counts(devices, n):
    def f(x):
        return parallel.global_index(len(x)) + jnp.arange(len(x)), jax.lax.psum(x.sum(), AXIS)

    assert AXIS == "devices"
    x = np.arange(16, dtype=FLOAT).reshape(n, -1)
    index, total = Call(f, devices(n), donate=False)(x)
    np.testing.assert_array_equal(np.asarray(index).reshape(-1), np.arange(16))
    np.testing.assert_array_equal(total, [120] * n)
    counted = Call(lambda x: x + parallel.device_count(), devices(n), donate=False)
    np.testing.assert_array_equal(counted(np.zeros(n)), [n] * n)


def test_one_trace_for_one_shape_and_an_error_for_the_next(devices):
    def counted(traces):
        def f(state, batch):
            traces.append(sorted(batch))
            return state + sum(jnp.sum(x) for x in batch.values())

        return f

    def batch(*keys, size=3):
        return {key: np.ones((2, size), FLOAT) for key in keys}

    traces = []
    call = Call(counted(traces), devices(2), name="the step")
    state = parallel.stack(jnp.zeros(()), devices(2))
    for _ in range(4):
        state = call(state, batch("a"))
    assert (traces, call.compilations) == ([["a"]], 1)
    for other in (batch("a", "b"), batch("b"), batch("a", size=4)):
        with pytest.raises(TraceError, match=r"the step was compiled 1 times, as declared.*compil"):
            call(state, other)
    assert float(parallel.unstack(state)) == 12

    traces = []
    twice = Call(counted(traces), devices(2), compilations=2)
    state = parallel.stack(jnp.zeros(()), devices(2))
    for keys in (("a",), ("b",), ("a",), ("b",)):
        state = twice(state, batch(*keys))
    assert (traces, twice.compilations) == ([["a"], ["b"]], 2)
    with pytest.raises(TraceError):
        twice(state, batch("a", "b"))
    anything = Call(counted([]), devices(2), compilations=None)
    for i in range(1, 4):
        anything(parallel.stack(jnp.zeros(()), devices(2)), batch("a", size=i))
    assert anything.compilations == 3


def test_donation(devices):
    given = parallel.stack(jnp.zeros(1000), devices(2))
    Call(lambda s: s + 1, devices(2))(given)
    assert given.is_deleted()
    kept = parallel.stack(jnp.zeros(1000), devices(2))
    Call(lambda s: s + 1, devices(2), donate=False)(kept)
    assert not kept.is_deleted()


def test_flops_of_one_device(devices):
    call = Call(lambda x: x @ x, devices(2), donate=False)
    assert call.flops is None
    call(np.ones((2, 64, 64), FLOAT))
    assert call.flops == pytest.approx(2 * 64**3, rel=0.1)
