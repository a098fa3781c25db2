"""Batches are a pure function of the step, and every example is seen equally often."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxstruct.data import CATALOGUE, DataError, Examples, Source
from jaxstruct.training import (
    Batches,
    batches_in_order,
    shuffled_batches,
    shuffled_reads,
    steps_of_epochs,
)


def numbers(size):
    return {"x": np.arange(size, dtype=np.float32)}


def test_out_of_order_is_the_same_as_in_order():
    # Epochs of 10 with batches of 4, asked for far back and forth: nothing depends on the past.
    in_order, mixed = (shuffled_batches(numbers(10), 4, seed=3) for _ in range(2))
    steps = np.random.default_rng(0).permutation(40).tolist() * 2
    expected = [in_order.indices(step) for step in range(40)]
    for step in steps:
        np.testing.assert_array_equal(mixed.indices(step), expected[step])


def test_threads_that_ask_at_once_get_the_same():
    batches = shuffled_batches(numbers(7), 3, seed=0)
    expected = [batches.indices(step).tolist() for step in range(50)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda step: batches.indices(step).tolist(), list(range(50)) * 8))
    assert found == expected * 8


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 12), batch=st.integers(1, 30), seed=st.integers(0, 9))
def test_every_example_equally_often(size, batch, seed):
    # After size batches exactly `batch` epochs are over, whatever straddles; within a straddling
    # batch each epoch is a permutation of its own.
    batches = shuffled_batches(numbers(size), batch, seed=seed)
    drawn = np.concatenate([batches.indices(step) for step in range(size)])
    assert all(len(batches.indices(step)) == batch for step in range(size))
    for epoch in drawn.reshape(batch, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(shuffled_batches(numbers(20), 20, seed=seed).indices(epoch))

    orders = {order(seed, epoch) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert tuple(range(20)) not in orders


def test_in_order_ends_short_and_then_empty():
    batches = batches_in_order(numbers(7), 3)
    assert [batches.indices(i).tolist() for i in range(4)] == [[0, 1, 2], [3, 4, 5], [6], []]
    # A batch larger than the set is the set.
    small = batches_in_order(numbers(2), 100)
    assert small.size == 2
    assert [small.indices(i).tolist() for i in range(2)] == [[0, 1], []]


def test_spec_is_the_global_batch():
    examples = {
        "image": np.zeros((5, 4, 3, 3), np.uint8),
        "class_map": np.zeros((5, 4, 3), np.uint8),
        "label": np.zeros(5, np.int32),
        "boxes": np.zeros((5, 2, 4), np.float32),
    }
    batches = shuffled_batches(examples, 8, seed=0)
    assert {key: (x.shape, x.dtype) for key, x in batches.spec.items()} == {
        "image": ((8, 4, 3, 3), np.float32),
        "class_map": ((8, 4, 3), np.int32),
        "label": ((8,), np.int32),
        "boxes": ((8, 2, 4), np.float32),
    }
    assert batches.size == 8
    assert batches.on_device
    assert not Batches(batches.spec, batches.indices, lambda i: {}).on_device


def test_reads_come_in_the_order_of_arrays():
    whole = {"image": np.arange(7, dtype=np.uint8)[:, None, None, None]}
    arrays = shuffled_batches(whole, 3, seed=2)
    like = {"image": whole["image"][:2]}
    reads = shuffled_reads(lambda i: {"image": whole["image"][i]}, 7, 3, like=like, seed=2)
    assert reads.spec == arrays.spec
    assert reads.seed == arrays.seed
    assert not reads.on_device
    for step in range(10):
        np.testing.assert_array_equal(reads.indices(step), arrays.indices(step))
        read = reads.read(reads.indices(step))["image"].ravel()
        np.testing.assert_array_equal(read, reads.indices(step))
    with pytest.raises(DataError, match="a set of 0 examples is empty"):
        shuffled_reads(reads.read, 0, 3, like=like, seed=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        shuffled_reads(reads.read, 7, 0, like=like, seed=2)


@pytest.mark.filterwarnings("error")
def test_numbers_of_64_bits_become_what_jax_holds():
    # NumPy's own default types, which JAX would answer with a warning at each compilation.
    batches = shuffled_batches({"label": np.arange(6), "x": np.arange(6.0)}, 2, seed=0)
    assert [s.dtype for s in batches.spec.values()] == [np.int32, np.float32]
    stored = {key: jnp.asarray(x[:2]) for key, x in batches.read.items()}
    batch = jax.jit(batches.finished)(stored)
    assert [x.dtype for x in batch.values()] == [np.int32, np.float32]


@pytest.mark.parametrize("xp", [np, jnp])
def test_the_kind_of_a_key_says_what_stored_bytes_become(xp):
    # One shape and one dtype: neither says what a key is.
    stored = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    names = ("image", "photo", "class_map", "masks", "label", "weight")
    kinds = {"photo": "image"}
    batches = shuffled_batches(dict.fromkeys(names, stored), 4, seed=0, kinds=kinds)
    expected = [np.float32, np.float32, np.int32, np.bool_, np.int32, np.int32]
    assert [batches.spec[name].dtype for name in names] == expected
    batch = batches.finished({name: xp.asarray(stored) for name in (*names, "not in the spec")})
    assert list(batch) == list(names)
    assert [x.dtype for x in batch.values()] == expected
    for name in ("image", "photo"):
        np.testing.assert_allclose(batch[name], stored / 255, rtol=1e-7)
        assert (float(batch[name].min()), float(batch[name].max())) == (0, 1)
    for name in ("class_map", "label", "weight"):
        np.testing.assert_array_equal(batch[name], stored)
    np.testing.assert_array_equal(batch["masks"], stored > 0)


def test_a_set_says_what_its_keys_are(monkeypatch):
    stored = np.full((3, 2, 2, 1), 255, np.uint8)
    entry = dataclasses.replace(CATALOGUE["mnist"], kinds={"photo": "image", "gone": "masks"})
    monkeypatch.setitem(CATALOGUE, "mnist", entry)
    source = Source("mnist", "1.0.0", "train", "official", 3)
    examples = Examples({"photo": stored, "grade": stored}, source)
    for batches in (shuffled_batches(examples, 2, seed=0), batches_in_order(examples, 2)):
        assert [x.dtype for x in batches.spec.values()] == [np.float32, np.int32]
        assert batches.finished({"photo": stored})["photo"].max() == 1
    said = shuffled_batches(examples, 2, seed=0, kinds={"photo": "masks"})
    assert said.spec["photo"].dtype == bool
    assert shuffled_batches(Examples(dict(examples)), 2, seed=0).spec["photo"].dtype == np.int32


def test_kinds_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"kind of 'x' is 'picture', expected one of image, class"):
        shuffled_batches(numbers(4), 2, seed=0, kinds={"x": "picture"})
    with pytest.raises(ValueError, match="a kind is declared for 'y', expected one of x"):
        batches_in_order(numbers(4), 2, kinds={"y": "image"})


def test_the_spec_is_what_augmentation_leaves():
    def crop(keys, batch):
        assert batch["image"].dtype == np.uint8  # as it is stored
        return {"image": batch["image"][:, :2, :3], "mean": batch["image"].mean((1, 2, 3))}

    examples = {"image": np.full((5, 4, 6, 3), 51, np.uint8), "label": np.zeros(5, np.int32)}
    batches = shuffled_batches(examples, 8, seed=0, augment=crop)
    assert {key: (x.shape, x.dtype) for key, x in batches.spec.items()} == {
        "image": ((8, 2, 3, 3), np.float32),
        "mean": ((8,), np.float32),
    }


@pytest.mark.parametrize("names", [np.array(["a", "b"]), np.array([b"a", b"b"]), ["a", {}]])
def test_what_no_device_holds_is_named(names):
    examples = {"x": np.zeros((2, 3)), "name": np.array(names)}
    with pytest.raises(ValueError, match=r"'name' is of dtype .*, expected numbers or booleans"):
        batches_in_order(examples, 2)


def test_an_absent_key_stays_absent():
    spec = {k: jax.ShapeDtypeStruct((2,), np.float32) for k in ("image", "depth", "normals")}
    batches = Batches(spec, lambda step: np.arange(2), lambda indices: {})
    assert list(batches.finished({"depth": np.zeros(2)})) == ["depth"]


@pytest.mark.parametrize("make", [lambda x, n: shuffled_batches(x, n, seed=0), batches_in_order])
def test_what_cannot_be_batched(make):
    source = Source("mnist", "1.0.0", "test[:0]", "official", 0)
    with pytest.raises(
        DataError,
        match=r"^split 'test\[:0\]' of mnist is empty: no batch can be made of it; choose a larger",
    ):
        make(Examples({"x": np.zeros((0, 3))}, source), 4)
    with pytest.raises(DataError, match=r"^the set is empty: no batch"):
        make({"x": np.zeros((0, 3))}, 4)
    with pytest.raises(ValueError, match=r"one length, got \{'x': 3, 'y': 2\}"):
        make({"x": np.zeros(3), "y": np.zeros(2)}, 4)
    with pytest.raises(ValueError, match="one length, got none"):
        make({}, 4)
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1"):
        make(numbers(3), 0)
    with pytest.raises(ValueError, match=r"^seed is -1, expected at least 0$"):
        shuffled_batches(numbers(3), 2, seed=-1)


def test_orders_are_kept_rather_than_drawn_for_each_step(monkeypatch):
    # A permutation of a million examples at every step would cost more than the step.
    made, real, lock = [], np.random.default_rng, threading.Lock()

    def counted(seed):
        with lock:
            made.append(seed)
        return real(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    batches = shuffled_batches(numbers(10), 4, seed=5)
    for step in range(10):
        batches.indices(step)
    assert made == [(5, 0), (5, 1), (5, 2), (5, 3)]


@pytest.mark.parametrize(
    ("epochs", "size", "batch_size", "per_call", "steps"),
    [
        (3, 10, 5, 1, 6),
        (2.5, 10, 4, 1, 6),  # 25 / 4 = 6.25
        (1, 60_000, 100, 50, 600),
        (1, 101, 1, 10, 100),
        (1, 109, 1, 10, 110),
        (0.001, 10, 5, 20, 20),  # at least one call
        (0, 10, 5, 1, 1),
        (1, 0, 5, 1, 1),  # a set of no examples is refused where batches are made of it
    ],
)
def test_epochs_become_steps_of_whole_calls(epochs, size, batch_size, per_call, steps):
    assert steps_of_epochs(epochs, size, batch_size, steps_per_call=per_call) == steps


@settings(max_examples=60, deadline=None)
@given(epochs=st.integers(1, 9), size=st.integers(1, 50), batch=st.integers(1, 50))
def test_the_steps_of_epochs_see_each_example_so_often_but_for_half_a_batch(epochs, size, batch):
    steps = steps_of_epochs(epochs, size, batch)
    indices = shuffled_batches(numbers(size), batch, seed=0).indices
    seen = np.bincount(np.concatenate([indices(step) for step in range(steps)]), minlength=size)
    off = np.abs(seen - epochs).sum()
    assert off <= batch / 2 or (steps == 1 and epochs * size < batch)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("epochs", (-1, 10, 5)),
        ("epochs", (float("nan"), 10, 5)),
        ("epochs", (float("inf"), 10, 5)),
        ("batch_size", (1, 10, 0)),
    ],
)
def test_epochs_that_are_no_number_of_steps_are_refused(name, arguments):
    with pytest.raises(ValueError, match=f"^{name} is .*, expected"):
        steps_of_epochs(*arguments)
    with pytest.raises(ValueError, match=r"^steps_per_call is 0, expected at least 1"):
        steps_of_epochs(1, 10, 5, steps_per_call=0)
