"""Totals over a set to its last example, on any number of devices and for any batch size."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Confusion, Mean
from jaxstruct.training import (
    Batches,
    TraceError,
    batches_in_order,
    make_collection,
    make_evaluation,
    make_prediction,
    means,
    parallel,
)
from tests.training.sweeps import (
    ALL,
    brightness,
    canvases,
    changing,
    count,
    examples,
    placed,
    streamed,
)


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize(("size", "batch_size"), [(1, 8), (13, 5), (16, 8), (17, 16), (30, 7)])
@pytest.mark.parametrize("make", [batches_in_order, streamed])
def test_totals_over_the_whole_set(devices, n, size, batch_size, make):
    arrays = examples(size)
    metrics = make_evaluation(count, make(arrays, batch_size))(placed(devices(n)))
    brightness = 2 * (arrays["image"].astype(np.float64) / 255).mean()
    assert metrics["brightness"] == pytest.approx(brightness, rel=1e-6)
    labels = arrays["label"][arrays["has_label"]]
    expected = {"zeros": pytest.approx((labels == 0).mean(), rel=1e-6)} if len(labels) else {}
    assert {k: v for k, v in metrics.items() if k == "zeros"} == expected
    calls = -(-size // min(size, batch_size))
    assert metrics["examples"] * calls == pytest.approx(size)
    assert all(type(value) is float for value in metrics.values())


def test_counts_of_a_set_are_divided_in_double_precision(devices):
    # 7 of 10 is 0.7 in metrics.json, not 0.699999988079071.
    arrays = {"right": np.arange(10) < 7}
    evaluate = make_evaluation(
        lambda state, batch, valid, keys: {"accuracy": Mean.of(batch["right"], valid)},
        batches_in_order(arrays, 4),
    )
    assert evaluate(placed(devices(2)))["accuracy"] == 0.7


def test_totals_add_up_beyond_float32(devices):
    # A float32 sum over the batches would stay at 2^24.
    def count(state, batch, valid, keys):
        return {"a": Mean(batch["x"].sum(), jnp.float32(0.5))}

    x = np.array([2.0**24] + [1.0] * 20, np.float32)
    metrics = make_evaluation(count, batches_in_order({"x": x}, 1))(placed(devices(1)))
    assert metrics["a"] == (2**24 + 20) / (0.5 * 21)


def test_a_metric_that_nothing_counts_for_is_left_out(devices):
    def count(state, batch, valid, keys):
        large = valid & (batch["x"] > 99)
        return {"large": Mean.of(batch["x"], large), "x": Mean.of(batch["x"], valid)}

    evaluate = make_evaluation(count, batches_in_order({"x": np.ones(5, np.float32)}, 2))
    assert evaluate(placed(devices(2))) == {"x": 1.0}


def test_a_batch_may_have_a_key_that_is_called_valid(devices):
    # A mask of boxes [b, 4], which is not the padding's [b].
    valid_boxes = np.random.default_rng(0).random((5, 4)) < 0.5

    def count(state, batch, valid, keys):
        assert batch["valid"].shape[1:] == (4,)
        assert valid.shape == batch["valid"].shape[:1]
        return {"boxes": Mean(jnp.sum(batch["valid"] & valid[:, None]), jnp.sum(valid))}

    evaluate = make_evaluation(count, batches_in_order({"valid": valid_boxes}, 2))
    assert evaluate(placed(devices(2))) == {"boxes": valid_boxes.sum() / 5}


@pytest.mark.parametrize("n", ALL)
def test_any_named_tuple_of_arrays_adds_up_and_finish_makes_numbers_of_it(devices, n):
    class Moments(NamedTuple):
        count: Any
        sums: Any  # [3]
        products: Any  # [3, 3]

    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)

    def count(state, batch, valid, keys):
        kept = jnp.where(valid[:, None], batch["x"], 0)
        return {"moments": Moments(valid.sum(), kept.sum(0), kept.T @ kept)}

    seen = []

    def finish(sums):
        seen.append(sums)
        moments = sums["moments"]
        covariance = moments.products / moments.count
        return {"trace": np.trace(covariance), "mean": (moments.sums / moments.count)[1]}

    evaluate = make_evaluation(count, batches_in_order({"x": x}, 4), finish=finish)
    found = evaluate(placed(devices(n)))
    assert found["trace"] == pytest.approx(np.trace(x.T @ x) / 11, rel=1e-6)
    assert found["mean"] == pytest.approx(x[:, 1].mean(), rel=1e-5)
    assert all(type(value) is float for value in found.values())
    (sums,) = seen
    assert type(sums["moments"]) is Moments
    assert {x.dtype for x in sums["moments"]} == {np.dtype(np.float64)}


def test_a_confusion_matrix_over_a_set_leaves_absent_classes_out(devices):
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 3, 255], np.uint8), (7, 4, 4))  # no class 2, some void
    guess = rng.integers(0, 4, (7, 4, 4)).astype(np.int32)

    def count(state, batch, valid, keys):
        return {"pixels": Confusion.of(batch["class_map"], batch["guess"], 4, valid)}

    def finish(sums):
        iou = sums["pixels"].iou()
        return {"mean_iou": sums["pixels"].mean_iou(), "classes": np.sum(~np.isnan(iou))}

    batches = batches_in_order({"class_map": labels, "guess": guess}, 3)
    found = make_evaluation(count, batches, finish=finish)(placed(devices(2)))
    known = labels != 255
    iou = [
        np.sum(known & (labels == c) & (guess == c))
        / np.sum(known & ((labels == c) | (guess == c)))
        for c in (0, 1, 3)
    ]
    assert found == {"mean_iou": pytest.approx(np.mean(iou)), "classes": 3.0}


def test_sums_that_are_no_means_need_a_finish(devices):
    def count(state, batch, valid, keys):
        return {"pixels": Confusion.of(batch["x"], batch["x"], 2, valid)}

    evaluate = make_evaluation(count, batches_in_order({"x": np.zeros((3, 2), np.int32)}, 3))
    with pytest.raises(TypeError, match=r"'pixels' is a Confusion of \(2, 2\).*finish"):
        evaluate(placed(devices(1)))
    per_class = {"recall": Mean(np.ones(3), np.ones(3))}
    with pytest.raises(TypeError, match=r"'recall' is a Mean of \(3,\), \(3,\)"):
        means(per_class)


@pytest.mark.parametrize("n", [1, 2])
def test_canvases_of_several_shapes_are_one_evaluation(devices, n):
    wide, high, mean = canvases()
    found = make_evaluation(brightness, [wide, high])(placed(devices(n)))
    assert found["brightness"] == pytest.approx(mean, rel=1e-6)


def test_a_shape_more_than_declared_is_refused_with_the_remedy(devices):
    shapes = (2, 4, 1), (4, 2, 1)
    evaluate = make_evaluation(brightness, changing(*shapes), compilations=2)
    assert evaluate(placed(devices(1))) == {"brightness": pytest.approx(0.2)}
    with pytest.raises(
        TraceError, match=r"declare more with make_evaluation\(compilations=\.\.\.\)"
    ):
        make_evaluation(brightness, changing(*shapes))(placed(devices(1)))
    predict = lambda state, batch, keys: {"mean": batch["image"].mean((1, 2, 3))}
    with pytest.raises(TraceError, match=r"make_prediction\(compilations=\.\.\.\)"):
        make_prediction(predict)(placed(devices(1)), changing(*shapes))
    finish = lambda rows: {"mean": rows["mean"].mean(), "rows": len(rows["mean"])}
    collect = make_collection(predict, changing(*shapes), finish, compilations=2)
    assert collect(placed(devices(1))) == {"mean": pytest.approx(0.2), "rows": 4}


def test_an_absent_key_is_another_compilation(devices):
    spec = {key: jax.ShapeDtypeStruct((2,), np.float32) for key in ("x", "y")}

    def read(indices):
        x = indices.astype(np.float32)
        return {"x": x} if indices[0] == 0 else {"x": x, "y": 10 * x}

    batches = Batches(spec, lambda step: np.arange(2 * step, min(2 * step + 2, 6)), read)

    def count(state, batch, valid, keys):
        more = {"y": Mean.of(batch["y"], valid)} if "y" in batch else {}
        return {"x": Mean.of(batch["x"], valid), **more}

    found = make_evaluation(count, batches, compilations=2)(placed(devices(2)))
    assert found == {"x": 2.5, "y": 35.0}


def test_an_evaluation_augments_and_counts_with_draws_of_their_own(devices):
    normal = jax.vmap(jax.random.normal)
    x = np.zeros(5, np.float32)
    batches = dataclasses.replace(
        batches_in_order({"x": x}, 2), augment=lambda draws, batch: {"x": normal(draws)}
    )

    def count(state, batch, valid, keys):
        return {"equal": Mean.of(batch["x"] == normal(keys), valid)}

    assert make_evaluation(count, batches)(placed(devices(1))) == {"equal": 0.0}


def test_the_padding_may_be_anything(devices):
    # Examples that pad a batch are real ones again; a count that forgets `valid` shows it.
    seen = []

    def count(state, batch, valid, keys):
        jax.debug.callback(lambda x, v: seen.append((x.copy(), v.copy())), batch["x"], valid)
        return {"x": Mean.of(batch["x"], valid)}

    x = np.arange(1, 6, dtype=np.float32)
    assert make_evaluation(count, batches_in_order({"x": x}, 4))(placed(devices(1))) == {"x": 3.0}
    jax.effects_barrier()
    values, valid = (np.concatenate([s[i] for s in seen]) for i in (0, 1))
    assert sorted(values[valid]) == [1, 2, 3, 4, 5]
    assert np.isin(values, x).all()


@pytest.mark.parametrize("make", [batches_in_order, streamed])
def test_the_same_numbers_are_drawn_whatever_the_batch_size_and_devices(devices, make):
    def count(state, batch, valid, keys):
        noise = jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint8))(keys)
        drawn = jax.nn.one_hot(batch["i"], 13, dtype=jnp.float32) * noise[:, None]
        drawn = jnp.where(valid[:, None], drawn, 0).sum(0)
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

    def counted(state, batch, valid, keys):
        traces.append(sorted(state.params))
        return count(state, batch, valid, keys)

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
