"""Checkpoints: which are kept, and what comes back."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstruct.training import RunError, State
from jaxstruct.training.checkpoints import Checkpoints
from jaxstruct.training.keys import stage_key
from tests.training import tiny
from tests.training.checkpointed import (
    CONFIG,
    FIRST,
    KEY,
    SECOND,
    STAGES,
    bits,
    open_again,
    state_at,
    steps,
)


def test_what_was_saved_comes_back_to_the_bit(tmp_path):
    def frozen(params):
        return {"a": "train", "b": "freeze", "c": "train"}

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.multi_transform({"train": optax.adamw(0.1), "freeze": optax.set_to_zero()}, frozen),
        optax.masked(optax.ema(0.9), {"a": True, "b": False, "c": False}),
    )

    def init(key, previous):
        params = {
            "a": jax.random.normal(key, (3, 2)),
            "b": jax.random.normal(key, (4,), jnp.bfloat16),
            "c": {"scalar": jnp.asarray(np.float32(np.nan))},
        }
        model_state = {
            "count": jnp.asarray(7, jnp.int32),
            "flags": jnp.array([True, False]),
            "keys": jax.random.split(jax.random.key(5, impl="rbg"), 2),
            "nothing": None,
            "none_here": {},
            "pair": (jnp.ones(1), [jnp.zeros(2, jnp.uint8)]),
        }
        return State.create(key, params, optimizer.init(params), model_state)

    stage = tiny.stage("only", CONFIG, init=init)
    state = stage.init(stage_key(KEY, 0), None).replace(step=jnp.asarray(15, jnp.int32))
    sums = {"square": [1 / 3, 7.0]}
    with Checkpoints(tmp_path, [stage], {"a": 1}) as kept:
        kept.save(stage, state, pending=sums, seconds=12.5)
        kept.wait()
        assert kept.latest() == 15
    with Checkpoints(tmp_path, [stage], {"a": 1}) as kept:
        found = kept.restore(KEY)
    assert bits(found.state) == bits(state)
    assert found.state.model_state["keys"].dtype == state.model_state["keys"].dtype
    assert (found.index, found.finals, found.seconds) == (0, {}, 12.5)
    assert found.pending == sums


def test_nothing_was_saved(tmp_path):
    with open_again(tmp_path / "new") as kept:
        assert kept.restore(KEY) is None
        assert kept.latest() is None


@pytest.mark.parametrize(("mode", "best"), [("min", 3), ("max", 7)])
def test_the_latest_two_the_best_and_the_last_of_every_stage_are_kept(tmp_path, mode, best):
    long = tiny.stage("long", CONFIG, steps=10, steps_per_call=1)
    more = tiny.stage("more", CONFIG, steps=6, steps_per_call=1)
    values = {1: 5.0, 2: 4.0, 3: 1.0, 4: 4.0, 5: 5.0, 6: 6.0, 7: 9.0, 8: 4.0, 9: 4.0, 10: 3.0}

    def save(kept, stage, step, value):
        state = state_at(step).replace(key=KEY)
        kept.save(stage, state, metrics=None if value is None else {"error": value})
        kept.wait()

    def reopened():
        return Checkpoints(tmp_path, [long, more], {}, ("long", "error", mode))

    with reopened() as kept:
        for step in range(1, 7):
            save(kept, long, step, values[step])
    assert steps(tmp_path) == sorted({3 if mode == "min" else 6, 5, 6})
    with reopened() as kept:
        for step in range(7, 11):
            save(kept, long, step, values[step])
        assert steps(tmp_path) == [best, 9, 10]
        save(kept, more, 1, 2.0)
        save(kept, more, 2, None)  # saved between evaluations
        assert steps(tmp_path) == [best, 10, 11, 12]
    with reopened() as kept:
        save(kept, more, 3, 2.0)
        save(kept, more, 4, 2.0)
        assert kept.latest() == 14
    assert steps(tmp_path) == [best, 10, 13, 14]


def test_without_a_best_one(tmp_path):
    with Checkpoints(tmp_path, STAGES, {}) as kept:
        for step in (5, 10, 15, 20):
            kept.save(FIRST, state_at(step), metrics={"error": 1.0 / step})
        kept.save(SECOND, state_at(5, SECOND))
    assert steps(tmp_path) == [20, 25] or steps(tmp_path) == [15, 20, 25]
    with Checkpoints(tmp_path, STAGES, {}) as kept:
        kept.save(SECOND, state_at(10, SECOND))
        kept.save(SECOND, state_at(15, SECOND))
    assert steps(tmp_path) == [20, 30, 35]


def test_the_newest_with_the_last_states_of_earlier_stages(saved):
    assert steps(saved) == [10, 20, 25, 30]
    with open_again(saved) as kept:
        found = kept.restore(KEY)
    assert (found.index, int(found.state.step), found.seconds) == (1, 10, 30)
    assert bits(found.state) == bits(state_at(10, SECOND))
    assert list(found.finals) == ["first"]
    assert bits(found.finals["first"]) == bits(state_at(20))
    assert found.pending == {"square": [10.1, 3.0]}


def test_an_unfinished_one_is_no_checkpoint(saved):
    shutil.copytree(saved / "30", saved / "35.orbax-checkpoint-tmp")
    with open_again(saved) as kept:
        assert int(kept.restore(KEY).state.step) == 10
        kept.save(SECOND, state_at(15, SECOND), metrics={"error": 1.0})
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(15, SECOND))


def with_another_array(state):
    return state.replace(params={**state.params, "more": jnp.zeros(3)})


def with_one_less(state):
    return state.replace(params={"w": state.params["w"]})


def with_another_shape(state):
    return state.replace(params={**state.params, "w": jnp.zeros(7)})


def with_another_dtype(state):
    return state.replace(params={**state.params, "w": state.params["w"].astype(jnp.bfloat16)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_another_array, r"more.*was None and is now float32\[3\]"),
        (with_one_less, r"'b'.*was float32\[\] and is now None"),
        (with_another_shape, r"'w'.*was float32\[3\] and is now float32\[7\]"),
        (with_another_dtype, r"'w'.*was float32\[3\] and is now bfloat16\[3\]"),
    ],
)
def test_another_model_is_refused_and_nothing_removed(saved, change, named):
    init = lambda key, previous: change(FIRST.init(key, None))
    stages = [FIRST, dataclasses.replace(SECOND, init=init)]
    before = steps(saved)
    with (
        open_again(saved, stages) as kept,
        pytest.raises(
            RunError, match=f"checkpoint 30 .*belongs to another model.*{named}.*--workdir"
        ),
    ):
        kept.restore(KEY)
    assert steps(saved) == before


@pytest.mark.parametrize(
    "stages",
    [
        [FIRST],
        [SECOND, FIRST],
        [FIRST, dataclasses.replace(SECOND, steps=5, evaluate_every=5, save_every=5)],
        [FIRST, SECOND, tiny.stage("third", CONFIG)],
    ],
    ids=["fewer", "swapped", "shorter", "more"],
)
def test_other_stages_are_refused_and_nothing_removed(saved, stages):
    before = steps(saved)
    with (
        open_again(saved, stages) as kept,
        pytest.raises(RunError, match="belongs to another model: stage"),
    ):
        kept.restore(KEY)
    assert steps(saved) == before


def test_a_stage_without_the_metric_has_no_rank(tmp_path):
    # The proposals' stage has recall alone; the detector's is ranked.
    with Checkpoints(tmp_path, STAGES, {}, ("second", "ap50", "max")) as kept:
        for step in (5, 10, 15, 20):
            kept.save(FIRST, state_at(step), metrics={"recall": 1.0})
        assert kept.restore(KEY, "best") is None
        for step, value in ((5, 0.3), (10, 0.6), (15, 0.5), (20, 0.4)):
            kept.save(SECOND, state_at(step, SECOND), metrics={"ap50": value, "recall": 0.1})
    assert steps(tmp_path) == [20, 30, 35, 40]
    with Checkpoints(tmp_path, STAGES, {}, ("second", "ap50", "max"), write=False) as kept:
        best, last = kept.restore(KEY, "best"), kept.restore(KEY)
    assert (best.index, int(best.state.step)) == (1, 10)
    assert (last.index, int(last.state.step)) == (1, 20)
    assert bits(best.state.params) == bits(state_at(10, SECOND).params)
    assert bits(best.finals["first"]) == bits(state_at(20))


@pytest.mark.parametrize(("mode", "step"), [("min", 10), ("max", 20)])
def test_the_best_of_an_earlier_stage(tmp_path, mode, step):
    with Checkpoints(tmp_path, STAGES, {}, ("first", "error", mode)) as kept:
        for at, error in ((5, 3.0), (10, 1.0), (15, 5.0), (20, 6.0)):
            kept.save(FIRST, state_at(at), metrics={"error": error})
        for at in (5, 10):
            kept.save(
                SECOND, state_at(at, SECOND), metrics={"error": 0.0 if mode == "min" else 9.0}
            )
        found = kept.restore(KEY, "best")
    assert (found.index, int(found.state.step), found.finals) == (0, step, {})


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write a checkpoint into") as caught:
        open_again(tmp_path / "file" / "checkpoints")
    assert "\n" not in str(caught.value)


def test_stages_have_keys_of_their_own():
    keys = [jax.random.key_data(stage_key(KEY, i)).tolist() for i in range(3)]
    assert len({tuple(k) for k in keys}) == 3
