"""What is gathered on the host: every example once, in order, without padding."""

import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.training import (
    batches_in_order,
    make_collection,
    make_evaluation,
    make_prediction,
    reads_in_order,
    shuffled_batches,
)
from tests.training.sweeps import canvases, count, drawing, examples, placed, streamed


@pytest.mark.parametrize("make", [batches_in_order, streamed])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 13), (1, 4), (2, 5), (8, 8), (8, 3)])
def test_predictions_come_in_order_without_padding(devices, make, n, batch_size):
    batches = make({"i": np.arange(13, dtype=np.int32)}, batch_size)
    found = make_prediction(drawing)(placed(devices(n)), batches)
    np.testing.assert_array_equal(found["i"], np.arange(13))
    np.testing.assert_array_equal(found["pair"], 2 * np.arange(13)[:, None].repeat(2, 1))
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(13)]
    expected = [int(jax.random.bits(key, dtype=jnp.uint8)) for key in keys]
    np.testing.assert_array_equal(found["noise"], expected)


def test_a_collection_sees_all_examples_at_once(devices):
    # A median does not add up.
    x = np.random.default_rng(0).normal(size=21).astype(np.float32)

    def predict(state, batch, keys):
        return {"x": state.params["w"][0] * batch["x"]}

    finish = lambda rows: {"median": np.median(rows["x"])}
    found = [
        make_collection(predict, batches_in_order({"x": x}, size), finish)(placed(devices(n)))
        for n, size in ((1, 21), (2, 4), (8, 8))
    ]
    assert found[0] == found[1] == found[2] == {"median": pytest.approx(2 * np.median(x))}
    assert all(type(value) is float for value in found[0].values())


def test_sets_of_any_size_share_a_prediction_s_program(devices):
    traces = []

    def predict(state, batch, keys):
        traces.append(batch["x"].shape)
        return {"square": batch["x"] ** 2}

    predicted = make_prediction(predict)
    for size in (1, 5, 9, 200):
        x = np.arange(size, dtype=np.float32)
        batches = batches_in_order({"x": x}, 8, one_shape=True)
        np.testing.assert_array_equal(predicted(placed(devices(2)), batches)["square"], x**2)
    assert traces == [(4,)]


def test_sets_that_are_read_and_augmented_otherwise_share_it_too(devices):
    traces = []

    def predict(state, batch, keys):
        traces.append(batch["x"].shape)
        return {"x": batch["x"]}

    predicted, x = make_prediction(predict), np.arange(6, dtype=np.float32)

    def read(factor):
        more = lambda draws, batch: {"x": factor * batch["x"]}
        take = lambda indices: {"x": x[indices]}
        return reads_in_order(take, 6, 4, like={"x": x}, seed=factor, augment=more)

    for factor in (1, 2, 3):
        found = predicted(placed(devices(2)), read(factor))
        np.testing.assert_array_equal(found["x"], factor * x)
    # Several of one shape are one shape.
    found = predicted(placed(devices(2)), [read(4), read(5)])
    np.testing.assert_array_equal(found["x"], [*(4 * x), *(5 * x)])
    assert len(traces) == 2  # once for one set, once for two


def test_what_was_predicted_once_is_not_kept(devices):
    class Array(np.ndarray):
        pass

    predicted = make_prediction(lambda state, batch, keys: {"x": batch["x"]})
    x = np.arange(6, dtype=np.float32).view(Array)
    kept = weakref.ref(x)
    predicted(placed(devices(1)), batches_in_order({"x": x}, 2))
    del x
    gc.collect()
    assert kept() is None


def test_canvases_of_several_shapes_are_predicted_one_after_the_other(devices):
    wide, high, _ = canvases()
    predict = lambda state, batch, keys: {"first": batch["image"][:, 0, 0, 0]}
    found = make_prediction(predict, compilations=2)(placed(devices(2)), [wide, high])
    expected = [*wide.read["image"][:, 0, 0, 0], *high.read["image"][:, 0, 0, 0]]
    np.testing.assert_allclose(found["first"], np.array(expected) / 255, rtol=1e-6)
    predict = lambda state, batch, keys: {"row": batch["image"][:, 0, :, 0]}
    with pytest.raises(ValueError, match=r"'row' have shapes \(2,\), \(4,\) an example"):
        make_prediction(predict, compilations=2)(placed(devices(2)), [wide, high])


def test_what_is_no_batches_is_refused():
    predict = lambda state, batch, keys: {}
    with pytest.raises(TypeError, match="got batches of dict, expected Batches"):
        make_evaluation(count, [{"x": np.zeros(3)}])
    with pytest.raises(ValueError, match="there are no batches"):
        make_collection(predict, [], lambda rows: {})


def test_a_sweep_has_a_beginning_and_an_end(devices):
    shuffled = shuffled_batches(examples(20), 8, seed=0)
    with pytest.raises(ValueError, match=r"do not end; expected those of batches_in_order"):
        make_evaluation(count, shuffled)(placed(devices(1)))
    empty = dataclasses.replace(shuffled, indices=lambda step: np.zeros(0, np.int32))
    with pytest.raises(ValueError, match="without a batch was given"):
        make_evaluation(count, [batches_in_order(examples(8), 8), empty])(placed(devices(1)))
