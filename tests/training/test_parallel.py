"""Devices: sharing a batch, feeding it, sweeping through a set, compiling once."""

import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.training import (
    AXIS,
    Batches,
    TraceError,
    batches_in_order,
    parallel,
    shuffled_batches,
)
from jaxstruct.training.parallel import Call, Feed, sweep

ALL = [1, 2, 8]
FLOAT = np.float32


def streamed(read, size=8, *, total=40, augment=None, seed=0, keys=("x",)):
    """Batches in order without an end, through a function."""
    return Batches(
        {key: jax.ShapeDtypeStruct((size,), FLOAT) for key in keys},
        lambda step: np.arange(step * size, (step + 1) * size) % total,
        read,
        augment,
        seed,
    )


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


# ---- feeding


@pytest.mark.parametrize("n", ALL)
def test_arrays_are_fed_by_their_indices(devices, n):
    batches = shuffled_batches({"x": np.arange(40, dtype=FLOAT)}, 8, seed=0)
    with Feed(batches, devices(n), 2, 6, 2) as feed:
        np.testing.assert_array_equal(parallel.unstack(feed.constant)["x"], np.arange(40))
        for call in (1, 2):
            fed = feed.next()
            assert fed.shape == (n, 2, 8 // n)
            for k in range(2):
                expected = batches.indices(2 * call + k)
                np.testing.assert_array_equal(fed[:, k].reshape(-1), expected)
        with pytest.raises(StopIteration):
            feed.next()


@pytest.mark.parametrize("n", ALL)
def test_a_function_is_read_in_order_whatever_the_threads_do(devices, n):
    rng, lock, running, most = np.random.default_rng(0), threading.Lock(), set(), []
    pauses = itertools.cycle(rng.uniform(0, 0.03, 50).tolist())

    def read(indices):
        with lock:
            pause = next(pauses)
            running.add(threading.get_ident())
            most.append(len(running))
        time.sleep(pause)
        with lock:
            running.discard(threading.get_ident())
        return {"x": np.asarray(indices, FLOAT)}

    batches = streamed(read)
    with Feed(batches, devices(n), 3, 30, 1) as feed:
        assert feed.constant == {}
        for step in range(3, 30):
            fed = feed.next()["x"]
            assert fed.shape == (n, 1, 8 // n)
            np.testing.assert_array_equal(fed.reshape(-1), batches.indices(step))
        with pytest.raises(StopIteration):
            feed.next()
    assert max(most) > 1  # it did read ahead


def test_several_steps_a_call_are_read_as_one(devices):
    batches = streamed(lambda i: {"x": np.asarray(i, FLOAT)})
    with Feed(batches, devices(2), 3, 12, 3) as feed:
        for call in (1, 2, 3):
            fed = feed.next()["x"]
            assert fed.shape == (2, 3, 4)
            for k in range(3):
                expected = batches.indices(3 * call + k)
                np.testing.assert_array_equal(fed[:, k].reshape(-1), expected)


def test_batches_of_one_call_have_one_set_of_keys(devices):
    # Step 1 has a label that step 0 lacks: it must not get lost.
    def read(indices):
        x = np.asarray(indices, FLOAT)
        return {"x": x} if indices[0] == 0 else {"x": x, "label": x}

    batches = streamed(read, keys=("x", "label"))
    with Feed(batches, devices(2), 0, 4, 2) as feed, pytest.raises(ValueError, match="label"):
        feed.next()


def test_what_a_reader_raises_is_raised(devices):
    def read(indices):
        if indices[0] >= 16:
            raise OSError("disk on fire")
        return {"x": np.asarray(indices, FLOAT)}

    with Feed(streamed(read), devices(2), 0, 5, 1) as feed:
        for step in range(2):
            assert feed.next()["x"][0, 0, 0] == 8 * step
        with pytest.raises(OSError, match="disk on fire"):
            feed.next()


def test_leaving_ends_the_threads(devices):
    before = threading.active_count()
    for _ in range(5):
        with Feed(streamed(lambda i: {"x": i.astype(FLOAT)}), devices(2), 0, 1000, 1) as feed:
            feed.next()
    for _ in range(100):
        if threading.active_count() <= before + 1:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("n", ALL)
def test_augmentation_on_the_host_draws_from_seed_step_and_example(devices, n):
    def augment(draws, batch):
        return {"x": batch["x"] + np.array([d.random() for d in draws], FLOAT)}

    def read(i):
        return {"x": i.astype(FLOAT)}

    batches = streamed(read, augment=augment, seed=5)
    with Feed(batches, devices(n), 0, 8, 2) as feed:
        found = [np.concatenate(list(feed.next()["x"]), 1) for _ in range(4)]
    found = np.concatenate(found)  # [step, example]
    expected = [
        [
            FLOAT((8 * step + i) % 40) + FLOAT(np.random.default_rng((5, step, i)).random())
            for i in range(8)
        ]
        for step in range(8)
    ]
    np.testing.assert_array_equal(found, expected)
    # Resumed at step 6, with another number of steps a call.
    with Feed(batches, devices(n), 6, 8, 1) as feed:
        np.testing.assert_array_equal(feed.next()["x"].reshape(-1), found[6])


def test_augmentation_may_add_and_remove_keys_and_returns_what_jax_holds(devices):
    def augment(draws, batch):
        return {"y": batch["x"] * 2.0, "z": np.array([d.normal() for d in draws])}

    batches = streamed(lambda i: {"x": i.astype(FLOAT)}, augment=augment)
    call = Call(lambda s, b: s + b["y"].sum() + 0 * b["z"].sum(), devices(2))
    state = parallel.stack(jnp.zeros(()), devices(2))
    with Feed(batches, devices(2), 0, 2, 1) as feed:
        for _ in range(2):
            state = call(state, feed.next())
    assert call.compilations == 1
    np.testing.assert_array_equal(np.asarray(state).sum(), 2 * np.arange(16).sum())


def test_feeding_needs_a_batch_that_divides(devices):
    with pytest.raises(ValueError, match="batch_size 12 cannot be shared evenly by 8 devices"):
        Feed(streamed(lambda i: {}, size=12), devices(8), 0, 1, 1)


# ---- sweeping


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize(("size", "batch"), [(1, 4), (7, 3), (8, 8), (17, 5), (20, 7), (33, 16)])
@pytest.mark.parametrize("on_device", [True, False])
def test_a_sweep_sees_every_example_once(devices, n, size, batch, on_device):
    x = np.random.default_rng(0).integers(0, 256, (size, 2, 2, 1), np.uint8)
    batches = batches_in_order({"image": x}, batch)
    if not on_device:
        batches = Batches(batches.spec, batches.indices, lambda i: {"image": x[i]})
    seen, places, shapes = [], [], set()
    for fed, valid, positions in sweep(batches, devices(n)):
        leaf = fed if on_device else fed["image"]
        shapes.add((leaf.shape, valid.shape, positions.shape))
        assert valid.shape == positions.shape == leaf.shape[:2]
        assert valid.dtype == bool
        images = x[fed] if on_device else fed["image"]
        seen.append(images[valid])
        places.append(positions[valid])
    assert len(shapes) == 1  # one compilation
    np.testing.assert_array_equal(np.concatenate(places), np.arange(size))
    found = np.concatenate(seen)
    np.testing.assert_array_equal(found, x if on_device else x.astype(FLOAT) / FLOAT(255))


def test_a_sweep_refuses_a_batch_larger_than_it_says(devices):
    batches = Batches(
        {"x": jax.ShapeDtypeStruct((4,), FLOAT)},
        lambda step: np.arange(6) if step == 0 else np.arange(0),
        {"x": np.arange(6, dtype=FLOAT)},
    )
    with pytest.raises(ValueError, match=r"6 examples.*at most 4"):
        list(sweep(batches, devices(2)))
