"""Feeding the calls of a stage, and sweeping through sets."""

import dataclasses
import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.training import (
    Batches,
    augment_each,
    batches_in_order,
    in_proportion,
    interleaved,
    parallel,
    reads_in_order,
    shuffled_batches,
    shuffled_reads,
)
from jaxstruct.training.feed import Feed, sweep
from jaxstruct.training.parallel import Call

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


@pytest.mark.parametrize("n", ALL)
def test_arrays_are_fed_by_their_indices(devices, n):
    batches = shuffled_batches({"x": np.arange(40, dtype=FLOAT)}, 8, seed=0)
    with Feed(batches, devices(n), 2, 6, 2) as feed:
        np.testing.assert_array_equal(parallel.unstack(feed.constant)[""]["x"], np.arange(40))
        for call in (1, 2):
            fed = feed.next()[""]
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
        assert feed.constant == {"": {}}
        for step in range(3, 30):
            fed = feed.next()[""]["x"]
            assert fed.shape == (n, 1, 8 // n)
            np.testing.assert_array_equal(fed.reshape(-1), batches.indices(step))
        with pytest.raises(StopIteration):
            feed.next()
    assert max(most) > 1  # it did read ahead


def test_several_steps_a_call_are_read_as_one(devices):
    batches = streamed(lambda i: {"x": np.asarray(i, FLOAT)})
    with Feed(batches, devices(2), 3, 12, 3) as feed:
        for call in (1, 2, 3):
            fed = feed.next()[""]["x"]
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
            assert feed.next()[""]["x"][0, 0, 0] == 8 * step
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
        found = [np.concatenate(list(feed.next()[""]["x"]), 1) for _ in range(4)]
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
        np.testing.assert_array_equal(feed.next()[""]["x"].reshape(-1), found[6])


def test_augmentation_may_add_and_remove_keys_and_returns_what_jax_holds(devices):
    def augment(draws, batch):
        return {"y": batch["x"] * 2.0, "z": np.array([d.normal() for d in draws])}

    read = lambda i: {"x": i.astype(FLOAT)}
    batches = streamed(read, augment=augment, keys=("y", "z"))
    call = Call(lambda s, b: s + b["y"].sum() + 0 * b["z"].sum(), devices(2))
    state = parallel.stack(jnp.zeros(()), devices(2))
    with Feed(batches, devices(2), 0, 2, 1) as feed:
        for _ in range(2):
            state = call(state, feed.next()[""])
    assert call.compilations == 1
    np.testing.assert_array_equal(np.asarray(state).sum(), 2 * np.arange(16).sum())


def test_feeding_needs_a_batch_that_divides(devices):
    with pytest.raises(ValueError, match="batch_size 12 cannot be shared evenly by 8 devices"):
        Feed(streamed(lambda i: {}, size=12), devices(8), 0, 1, 1)


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize(("size", "batch"), [(1, 4), (7, 3), (8, 8), (17, 5), (20, 7), (33, 16)])
@pytest.mark.parametrize("on_device", [True, False])
def test_a_sweep_sees_every_example_once(devices, n, size, batch, on_device):
    x = np.random.default_rng(0).integers(0, 256, (size, 2, 2, 1), np.uint8)
    batches = batches_in_order({"image": x}, batch)
    if not on_device:
        batches = Batches(batches.spec, batches.indices, lambda i: {"image": x[i]})
    seen, places, shapes, count = [], [], set(), 0
    for name, fed, valid, positions, examples in sweep({"one": batches}, devices(n)):
        assert name == "one"
        leaf = fed["one"] if on_device else fed["one"]["image"]
        shapes.add((leaf.shape, valid.shape, positions.shape))
        assert valid.shape == positions.shape == leaf.shape[:2]
        assert valid.dtype == bool
        images = x[leaf] if on_device else leaf
        seen.append(images[valid])
        places.append(positions[valid])
        assert examples == valid.sum()
        count += examples
    assert count == size
    assert len(shapes) == 1  # one compilation
    np.testing.assert_array_equal(np.concatenate(places), np.arange(size))
    found = np.concatenate(seen)
    np.testing.assert_array_equal(found, x if on_device else x.astype(FLOAT) / FLOAT(255))


def test_a_sweep_goes_through_several_sets_with_positions_of_their_own(devices):
    sets = {
        "wide": batches_in_order({"x": np.arange(5, dtype=FLOAT)}, 2),
        "high": batches_in_order({"x": 10 + np.arange(3, dtype=FLOAT)}, 3),
    }
    calls = list(sweep(sets, devices(1)))
    assert [call.name for call in calls] == ["wide", "wide", "wide", "high"]
    places = np.concatenate([call.positions[call.valid] for call in calls])
    np.testing.assert_array_equal(places, np.arange(8))


def test_a_sweep_augments_by_position_whatever_the_batch_size(devices):
    def augment(draws, batch):
        return {"x": batch["x"] + np.array([draw.random() for draw in draws], FLOAT)}

    expected = [i + FLOAT(np.random.default_rng((3, i)).random()) for i in range(7)]
    for n, size in ((1, 7), (1, 2), (2, 4)):
        x = np.arange(7, dtype=FLOAT)
        like = {"x": x}
        batches = reads_in_order(
            lambda i, x=x: {"x": x[i]}, 7, size, like=like, seed=3, augment=augment
        )
        swept = sweep({"": batches}, devices(n))
        found = np.concatenate([fed[""]["x"][valid] for _, fed, valid, _, _ in swept])
        np.testing.assert_array_equal(found, np.array(expected, FLOAT))


def test_images_of_varying_size_reach_augment_as_they_are(devices):
    sizes = [(3, 5), (2, 2), (4, 1), (6, 6)]
    images = [np.full((*size, 3), 40 * i + 40, np.uint8) for i, size in enumerate(sizes)]
    seen = []

    def one(draw, example):
        seen.append((example["image"].shape[:2], example["image"].dtype))
        canvas = np.zeros((6, 6, 3), np.uint8)
        height, width = example["image"].shape[:2]
        canvas[:height, :width] = example["image"]
        return {"image": canvas, "size": np.array([height, width], np.int32)}

    read = lambda i: {"image": [images[k] for k in i]}
    made = [
        make(read, 4, 2, like={"image": images[:1]}, seed=0, augment=augment_each(one))
        for make in (shuffled_reads, reads_in_order)
    ]
    for batches in made:
        assert batches.spec == {
            "image": jax.ShapeDtypeStruct((2, 6, 6, 3), FLOAT),
            "size": jax.ShapeDtypeStruct((2, 2), np.int32),
        }
    seen.clear()
    with Feed(made[0], devices(2), 0, 2, 1) as feed:
        calls = [feed.next()[""] for _ in range(2)]
    shapes = sorted(seen)
    assert [shape for shape, _ in shapes] == sorted(sizes)
    assert {dtype for _, dtype in seen} == {np.dtype(np.uint8)}
    for call in calls:
        assert call["image"].shape == (2, 1, 1, 6, 6, 3)
        assert call["image"].dtype == FLOAT
        for image, size in zip(call["image"][:, 0, 0], call["size"][:, 0, 0], strict=True):
            value = FLOAT(40 * sizes.index(tuple(size)) + 40) / FLOAT(255)
            np.testing.assert_array_equal(image[: size[0], : size[1]], value)
    swept = list(sweep({"": made[1]}, devices(1)))
    assert [call.fed[""]["size"].tolist() for call in swept] == [
        [[list(s) for s in sizes[:2]]],
        [[list(s) for s in sizes[2:]]],
    ]


def test_examples_that_still_differ_in_shape_are_named(devices):
    images = [np.zeros((2, 3, 3), np.uint8), np.zeros((4, 3, 3), np.uint8)]
    read = lambda i: {"image": [images[k % 2] for k in i]}
    batches = shuffled_reads(read, 4, 4, like={"image": images[:1]}, seed=0)
    message = r"'image' has examples of shapes \(2, 3, 3\), \(4, 3, 3\).*letter_box"
    with Feed(batches, devices(1), 0, 1, 1) as feed, pytest.raises(ValueError, match=message):
        feed.next()


# ---- several sets


def two_sets(read_as=lambda batches: batches):
    """Numbers below 10 in batches of 2, and pairs from 100 on in batches of 4."""
    small = shuffled_batches({"x": np.arange(6, dtype=FLOAT)}, 2, seed=0)
    pairs = 100 + np.arange(16, dtype=FLOAT).reshape(8, 2)
    return {"small": read_as(small), "pairs": read_as(shuffled_batches({"p": pairs}, 4, seed=1))}


def as_reader(batches):
    arrays = batches.read
    read = lambda i: {key: x[i] for key, x in arrays.items()}
    return Batches(batches.spec, batches.indices, read, seed=batches.seed)


def test_interleaved_sets_go_on_where_they_were():
    sets = two_sets()
    schedule = lambda step: ("small", "pairs", "small")[step % 3]
    plan = interleaved(sets, schedule).plan(0, 9)
    assert plan == [
        *[("small", 0), ("pairs", 0), ("small", 1)],
        *[("small", 2), ("pairs", 1), ("small", 3)],
        *[("small", 4), ("pairs", 2), ("small", 5)],
    ]
    # A pure function of the step: resumed anywhere, it is the same.
    assert interleaved(sets, schedule).plan(4, 7) == plan[4:7]
    later = {**sets, "pairs": dataclasses.replace(sets["pairs"], first=8)}
    assert interleaved(later, schedule).plan(0, 3) == [("small", 0), ("pairs", 8), ("small", 1)]


@pytest.mark.parametrize("form", [lambda batches: batches, as_reader])
@pytest.mark.parametrize("n", [1, 2])
def test_interleaved_sets_are_fed_with_keys_of_their_own(devices, n, form):
    schedule = lambda step: ("small", "pairs", "small")[step % 3]
    sets = two_sets(form)
    batches = interleaved(sets, schedule)
    seen = {"small": [], "pairs": []}
    for first, last in ((0, 4), (4, 12)):  # gone on with at step 4
        with Feed(batches, devices(n), first, last, 1) as feed:
            for step in range(first, last):
                ((name, fed),) = feed.next().items()
                assert name == schedule(step)
                part = two_sets()[name]
                rows = next(iter(part.read.values()))
                given = rows[fed] if sets[name].on_device else next(iter(fed.values()))
                seen[name].append(given.reshape(part.size, -1))
                np.testing.assert_array_equal(
                    seen[name][-1].ravel(), rows[part.indices(len(seen[name]) - 1)].ravel()
                )
    # Every example equally often: 8 batches of 2 of 6, after 6 of which each was seen twice.
    values, counts = np.unique(np.concatenate(seen["small"][:6]), return_counts=True)
    assert values.tolist() == list(range(6))
    assert set(counts) == {2}


def test_a_schedule_in_proportion_is_drawn_from_seed_and_round():
    schedule = in_proportion({"a": 3, "b": 1}, seed=0)
    names = [schedule(step) for step in range(400)]
    rounds = [tuple(names[i : i + 4]) for i in range(0, 400, 4)]
    assert all(sorted(one) == ["a", "a", "a", "b"] for one in rounds)
    assert len(set(rounds)) == 4
    again = in_proportion({"a": 3, "b": 1}, seed=0)
    assert [again(step) for step in reversed(range(400))] == names[::-1]
    other = in_proportion({"a": 3, "b": 1}, seed=1)
    assert [other(step) for step in range(400)] != names


def test_what_cannot_be_interleaved(devices):
    sets = two_sets()
    with pytest.raises(ValueError, match="no set to interleave"):
        interleaved({}, lambda step: "a")
    with pytest.raises(ValueError, match=r"names 'c' at step 2, expected one of \['small'"):
        interleaved(sets, lambda step: "small" if step < 2 else "c").plan(0, 4)
    with pytest.raises(ValueError, match="count of 'a' is 0, expected at least 1"):
        in_proportion({"a": 0}, seed=0)
    mixed = interleaved(sets, lambda step: ("small", "pairs")[step % 2])
    message = "a call of 2 steps has batches of pairs, small; choose steps_per_call 1"
    with pytest.raises(ValueError, match=message):  # before the first step
        Feed(mixed, devices(1), 0, 4, 2)


def test_a_sweep_refuses_a_batch_larger_than_it_says(devices):
    batches = Batches(
        {"x": jax.ShapeDtypeStruct((4,), FLOAT)},
        lambda step: np.arange(6) if step == 0 else np.arange(0),
        {"x": np.arange(6, dtype=FLOAT)},
    )
    with pytest.raises(ValueError, match=r"6 examples.*at most 4"):
        list(sweep({"": batches}, devices(2)))
