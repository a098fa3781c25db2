"""Checkpoints: which are kept, what comes back, and what a damaged one costs."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstruct.training import RunError, State
from jaxstruct.training.checkpoints import Checkpoints, stage_key
from tests.training import tiny

KEY = jax.random.key(3)
CONFIG = tiny.Config()
FIRST, SECOND = tiny.stage("first", CONFIG), tiny.stage("second", CONFIG)
STAGES = [FIRST, SECOND]


def state_at(step, stage=FIRST):
    """A state that no other step has."""
    state = stage.init(stage_key(KEY, STAGES.index(stage)), None)
    params = jax.tree.map(lambda x: x + step, state.params)
    return state.replace(step=jnp.asarray(step, jnp.int32), params=params)


def bits(tree):
    def plain(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    leaves = [plain(x) for x in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), [(x.dtype, x.shape, x.tobytes()) for x in leaves]


def steps(folder):
    return sorted(int(f.name) for f in folder.iterdir() if f.name.isdigit())


@pytest.fixture
def saved(tmp_path):
    """A folder with the checkpoints 5, 10, 15 and 20 of the first stage, 25 and 30 of the second.

    The errors are 3, 1, 5, 6, 7, 8: the policy keeps 10 (the best), 20 (the last of its stage),
    25 and 30 (the latest).
    """
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder, STAGES, {}, ("first", "error", "min")) as kept:
        for step, error in ((5, 3.0), (10, 1.0), (15, 5.0), (20, 6.0)):
            kept.save(FIRST, state_at(step), metrics={"error": error}, seconds=step)
        for step, error in ((5, 7.0), (10, 8.0)):
            sums = {"square": [0.1 + step, 3.0]}
            state = state_at(step, SECOND)
            kept.save(SECOND, state, metrics={"error": error}, pending=sums, seconds=20 + step)
    return folder


def open_again(folder, stages=STAGES, **options):
    return Checkpoints(folder, stages, {}, ("first", "error", "min"), **options)


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


def arrays(checkpoint):
    """The files that hold the arrays, the largest first."""
    files = [f for f in (checkpoint / "state").glob("**/d/*") if f.is_file()]
    assert files, sorted(checkpoint.glob("**/*"))
    return sorted(files, key=lambda f: -f.stat().st_size)


def truncate(checkpoint):
    for file in arrays(checkpoint):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty_files(checkpoint):
    for file in arrays(checkpoint):
        file.write_bytes(b"")


def flip_a_bit(checkpoint):
    # In the values of an array themselves, which no format of a file around them protects.
    for file in arrays(checkpoint):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))


def swap_arrays(checkpoint):
    """Whole files, but those of another checkpoint."""
    shutil.rmtree(checkpoint / "state")
    shutil.copytree(checkpoint.parent / "10" / "state", checkpoint / "state")


def empty_folder(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def without(name):
    def damage(checkpoint):
        found = list(checkpoint.glob(name))
        assert found, sorted(checkpoint.glob("**/*"))
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    damage.__name__ = f"without {name}"
    return damage


def half_of_meta(checkpoint):
    file = checkpoint / "meta" / "metadata"
    file.write_bytes(file.read_bytes()[:40])


DAMAGES = [
    truncate,
    empty_files,
    flip_a_bit,
    swap_arrays,
    empty_folder,
    without("state"),
    without("meta"),
    without("state/_METADATA"),
    without("state/manifest.ocdbt"),
    half_of_meta,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_a_damaged_one_falls_back_to_the_one_before(saved, capsys, damage):
    damage(saved / "30")
    with open_again(saved) as kept:
        found = kept.restore(KEY)
        assert bits(found.state) == bits(state_at(5, SECOND))
        assert (found.pending, found.seconds) == ({"square": [5.1, 3.0]}, 25)
        warning = capsys.readouterr().err
        assert len(warning.splitlines()) == 1
        assert warning.startswith(f"warning: checkpoint 30 in {saved} is damaged and was removed")
        # The run comes by there again.
        kept.save(SECOND, state_at(10, SECOND), metrics={"error": 8.0})
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(10, SECOND))
    assert capsys.readouterr().err == ""
    assert steps(saved) == [10, 20, 25, 30]


def test_without_the_metrics_of_a_checkpoint_it_still_goes_on(saved):
    without("metrics")(saved / "20")
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(10, SECOND))
        kept.save(SECOND, state_at(15, SECOND), metrics={"error": 8.0})
    assert steps(saved) == [10, 20, 30, 35]


def test_the_damaged_last_state_of_an_earlier_stage(saved, capsys):
    # The later checkpoints are whole, but the results need that state too: its stage runs again
    # from the last whole one on, and so does what came after it.
    flip_a_bit(saved / "20")
    with open_again(saved) as kept:
        found = kept.restore(KEY)
        assert (found.index, found.finals) == (0, {})
        assert bits(found.state) == bits(state_at(10))
        assert steps(saved) == [10]
    first, second, third = capsys.readouterr().err.splitlines()
    for number, line in ((30, first), (25, second)):
        assert f"checkpoint {number} " in line
        assert "needs checkpoint 20, which is damaged" in line
    assert "checkpoint 20 " in third
    assert "needs" not in third


def test_all_are_damaged(saved, capsys):
    for number in steps(saved):
        flip_a_bit(saved / str(number))
    with open_again(saved) as kept:
        assert kept.restore(KEY) is None
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert steps(saved) == []


def test_an_unfinished_one_is_no_checkpoint(saved):
    shutil.copytree(saved / "30", saved / "35.orbax-checkpoint-tmp")
    with open_again(saved) as kept:
        assert int(kept.restore(KEY).state.step) == 10
        kept.save(SECOND, state_at(15, SECOND), metrics={"error": 1.0})
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(15, SECOND))


def test_reading_changes_nothing(saved, capsys, tmp_path):
    flip_a_bit(saved / "30")
    before = sorted(saved.glob("**/*"))
    with open_again(saved, write=False) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(5, SECOND))
    assert "checkpoint 30" in (warning := capsys.readouterr().err)
    assert "removed" not in warning
    assert sorted(saved.glob("**/*")) == before
    with open_again(tmp_path / "none", write=False) as kept:
        assert kept.restore(KEY) is None
    assert not (tmp_path / "none").exists()


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
        pytest.raises(RunError, match=f"checkpoint 30 .*of another model.*{named}.*--workdir"),
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
        pytest.raises(RunError, match="of another model: stage"),
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


def test_a_best_one_that_is_damaged_is_named_and_kept(saved):
    without("state")(saved / "10")
    with (
        open_again(saved, write=False) as kept,
        pytest.raises(RunError, match=r"the best checkpoint, 10 in .* is damaged .*without best"),
    ):
        kept.restore(KEY, "best")
    assert steps(saved) == [10, 20, 25, 30]


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
