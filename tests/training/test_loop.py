"""The loop: what it notes, when it saves, and where it stops."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Batches,
    RunError,
    Stage,
    State,
    Stopped,
    TraceError,
    add_up,
    batches_in_order,
    make_evaluation,
    parallel,
)
from jaxstruct.training.loop import train
from tests.training import two_processes_worker as small
from tests.training.notes import Notes, equal

ALL = [1, 2, 8]


def summing(values, *, size=2, read=None, update=None, keys=("x",), **options):
    """Adds the sum of each batch to params["sum"]; term "x" is the mean of what is not negative.

    `values` are the examples in order, `size` a step.
    """
    values = np.asarray(values, np.float32)

    def add(state, batch):
        terms = add_up({"x": Mean.of(batch["x"], ~(batch["x"] < 0))})
        params = {"sum": state.params["sum"] + terms["x"].total}
        return state.replace(step=state.step + 1, params=params), terms

    batches = Batches(
        {key: jax.ShapeDtypeStruct((size,), np.float32) for key in keys},
        lambda step: np.arange(step * size, (step + 1) * size, dtype=np.int32),
        read or {"x": values},
    )
    given = {"name": "sum", "steps": len(values) // size, "log_every": 1}
    return Stage(
        init=lambda key, previous: State.create(key, {"sum": jnp.zeros(())}, {}),
        update=update or add,
        batches=batches,
        **{**given, **options},
    )


def start(stage):
    return stage.init(jax.random.key(0), None)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("per_call", [1, 2])
def test_a_record_is_total_over_count_not_a_mean_of_means(devices, n, per_call):
    # Of (1, 2), (3, -), (-, -), (7, 9), (-, -), (-, -).
    values = [1, 2, 3, -1, -1, -1, 7, 9, -1, -1, -1, -1]
    notes, stage = Notes(), summing(values, log_every=4, steps_per_call=per_call)
    state = train(stage, start(stage), devices(n), notes)
    # Step 6 is the last: what is left is recorded. Nothing counted: a mean of nothing has no value.
    assert notes.of("train") == {4: {"x": 22 / 5}, 6: {}}
    assert (float(state.params["sum"]), int(state.step)) == (22, 6)


@pytest.mark.parametrize("n", [1, 2])
def test_the_order_of_things(devices, n):
    stage = summing(
        np.arange(16), log_every=2, evaluate_every=4, save_every=6,
        evaluate=lambda state: {"sum": float(state.params["sum"])},
    )  # fmt: skip
    notes = Notes()
    train(stage, start(stage), devices(n), notes)
    events = [(kind, step) for kind, step, _ in notes.events]
    assert [event for event in events if event[0] != "progress"] == [
        ("train", 2),
        ("train", 4),
        ("evaluation", 4),
        ("train", 6),
        ("save", 6),
        ("train", 8),
        ("evaluation", 8),
        ("save", 8),
    ]
    assert [step for kind, step in events if kind == "progress"] == list(range(1, 9))
    # What is recorded has been waited for.
    for i, (kind, step) in enumerate(events):
        if kind != "progress":
            assert ("progress", step) in events[:i]
    assert notes.of("evaluation") == {4: {"sum": 28.0}, 8: {"sum": 120.0}}
    metrics = {step: what[1] for step, what in notes.of("save").items()}
    assert metrics == {6: None, 8: {"sum": 120.0}}


def test_what_no_record_has_yet_is_saved_and_goes_on(devices):
    values = np.arange(20) ** 2
    stage = summing(values, log_every=4, save_every=3)
    whole = Notes()
    train(stage, start(stage), devices(2), whole)
    pending = {step: what[2] for step, what in whole.of("save").items()}
    # Steps 1 to 3; then 5 and 6; then 9; the last step records everything.
    totals = values.reshape(-1, 2).sum(1).tolist()
    assert pending == {
        3: {"x": [sum(totals[:3]), 6]},
        6: {"x": [sum(totals[4:6]), 4]},
        9: {"x": [totals[8], 2]},
        10: {},
    }
    for step in (3, 6, 9):
        state = start(stage).replace(
            step=jnp.int32(step), params={"sum": jnp.float32(sum(totals[:step]))}
        )
        notes, given = Notes(), json.loads(json.dumps(pending[step]))
        train(stage, state, devices(2), notes, given)
        assert given == pending[step]
        expected = {s: values for s, values in whole.of("train").items() if s > step}
        assert notes.of("train") == expected


def test_a_stop_saves_and_says_so(devices):
    stage = summing(np.arange(20), log_every=4)
    notes = Notes(stop_at=6)
    with pytest.raises(Stopped, match="saved stage 'sum' at step 6") as stopped:
        train(stage, start(stage), devices(2), notes)
    assert stopped.value.signum == signal.SIGTERM
    saved, metrics, pending = notes.of("save")[6]
    assert float(saved[".params['sum']"]) == sum(range(12))
    assert (metrics, pending) == (None, {"x": [8 + 9 + 10 + 11, 4]})
    assert max(step for _, step, _ in notes.events) == 6


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_term_that_is_not_finite_ends_the_run(devices, n, bad):
    values = np.arange(20.0)
    values[9] = bad  # of step 5
    notes, stage = Notes(), summing(values, save_every=6)
    with pytest.raises(RunError, match=f"^term 'x' is {bad} at step 5 of stage 'sum'$"):
        train(stage, start(stage), devices(n), notes)
    assert list(notes.of("train")) == [1, 2, 3, 4]
    assert not notes.of("save")


@pytest.mark.parametrize("n", [1, 2])
def test_it_is_looked_for_even_where_nothing_is_due(devices, n):
    values = np.arange(2000.0)
    values[9] = np.nan
    notes, stage = Notes(), summing(values, log_every=1000)
    with pytest.raises(RunError, match="term 'x' is nan at step 5 of"):
        train(stage, start(stage), devices(n), notes)
    assert max(step for _, step, _ in notes.events) < 5


def test_several_steps_a_call_name_them_all(devices):
    values = np.arange(24.0)
    values[9] = np.nan
    stage = summing(values, steps_per_call=3, log_every=12)
    with pytest.raises(RunError, match="term 'x' is nan at steps 4 to 6 of stage 'sum'"):
        train(stage, start(stage), devices(2), Notes())


def ruining(at):
    """Parameters that become infinite after a step, though its term is finite."""

    def update(state, batch):
        ruin = jnp.where(state.step + 1 == at, jnp.inf, 0)
        after = state.replace(step=state.step + 1, params={"sum": state.params["sum"] + ruin})
        return after, add_up({"x": Mean.of(batch["x"])})

    return update


@pytest.mark.parametrize("at", [4, 6])
def test_parameters_that_are_not_finite_are_not_saved(devices, at):
    notes = Notes()
    stage = summing(np.arange(12), update=ruining(at), save_every=2)
    with pytest.raises(RunError, match=f"a parameter is not finite after step {at} of stage 'sum'"):
        train(stage, start(stage), devices(2), notes)
    assert list(notes.of("save")) == list(range(2, at, 2))
    # Neither on request.
    notes = Notes(stop_at=3)
    stage = summing(np.arange(12), update=ruining(3))
    with pytest.raises(RunError, match="a parameter is not finite after step 3"):
        train(stage, start(stage), devices(2), notes)
    assert not notes.of("save")


def test_parameters_need_no_floats(devices):
    def update(state, batch):
        params = {"n": state.params["n"] + 1}
        return state.replace(step=state.step + 1, params=params), {}

    made = summing(np.arange(12), update=update, save_every=2)
    for params in ({"n": jnp.zeros((), jnp.int32)}, {"n": jnp.zeros(())}):
        notes, state = Notes(), State.create(jax.random.key(0), params, {})
        assert float(train(made, state, devices(2), notes).params["n"]) == 6
        assert list(notes.of("save")) == [2, 4, 6]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_metric_that_is_not_finite_ends_the_run(devices, bad):
    def evaluate(state):
        return {"good": 1.0, "bad": bad if state.step == 4 else 0.0}

    notes, stage = Notes(), summing(np.arange(12), evaluate=evaluate, evaluate_every=2)
    with pytest.raises(RunError, match=f"metric 'bad' is {bad} at step 4 of stage 'sum'"):
        train(stage, start(stage), devices(2), notes)
    assert list(notes.of("evaluation")) == list(notes.of("save")) == [2]


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("per_call", [1, 2])
def test_augmentation_on_the_device_draws_from_seed_step_and_example(devices, n, per_call):
    plain = summing(np.arange(32), size=8, steps_per_call=per_call, log_every=2)

    def augment(keys, batch):
        bits = jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint16))(keys)
        return {"x": batch["x"] + 100 * bits.astype(jnp.float32)}

    def update(state, batch):
        seen = jax.lax.all_gather(batch["x"], parallel.AXIS, tiled=True)
        seen = state.params["seen"].at[state.step].set(seen)
        return state.replace(step=state.step + 1, params={"seen": seen}), {}

    batches = dataclasses.replace(plain.batches, augment=augment)
    stage = dataclasses.replace(plain, update=update, batches=batches)
    state = State.create(jax.random.key(5), {"seen": jnp.zeros((4, 8))}, {})
    seen = train(stage, state, devices(n), Notes()).params["seen"]
    for step in range(4):
        # A purpose of its own: what the update draws is something else.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 1 << 16), step)
        bits = [jax.random.bits(k, dtype=jnp.uint16) for k in jax.random.split(key, 8)]
        expected = np.arange(8 * step, 8 * step + 8) + 100 * np.array(bits, np.float64)
        np.testing.assert_array_equal(seen[step], expected)


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("per_call", [1, 5])
def test_one_trace_for_all_steps_and_evaluations(devices, n, per_call):
    traces, evaluations = [], []
    plain = summing(np.arange(320), size=8)

    def update(state, batch):
        traces.append(batch["x"].shape)
        return plain.update(state, batch)

    def count(state, batch, valid, keys):
        evaluations.append(batch["x"].shape)
        return {"x": Mean.of(batch["x"] + state.params["sum"], valid)}

    tested = batches_in_order({"x": np.arange(13, dtype=np.float32)}, 8)
    stage = summing(
        np.arange(320), size=8, update=update, steps_per_call=per_call, log_every=10,
        evaluate=make_evaluation(count, tested), evaluate_every=10,
    )  # fmt: skip
    # From host arrays, as a checkpoint gives them back, and from another run's last state.
    state = jax.tree.map(jnp.asarray, start(stage).replace(key=jax.random.key(4)))
    state = state.replace(params=jax.tree.map(np.asarray, state.params))
    notes = Notes()
    last = train(stage, state, devices(n), notes)
    assert traces == [(8 // n,)]
    assert evaluations == [(8 // n,)]
    assert len(notes.of("evaluation")) == 4
    assert len(notes.of("progress")) == 40 // per_call
    assert float(last.params["sum"]) == sum(range(320))
    train(stage, last.replace(step=jnp.int32(20)), devices(n), Notes())
    assert len(evaluations) == 1


def test_a_weakly_typed_parameter_compiles_once(devices):
    traces = []
    plain = summing(np.arange(12))

    def update(state, batch):
        traces.append(0)
        return plain.update(state, batch)

    for per_call in (1, 3):
        stage = summing(np.arange(12), update=update, steps_per_call=per_call, log_every=3)
        state = State.create(jax.random.key(0), {"sum": jnp.asarray(0.0)}, {})
        assert state.params["sum"].weak_type
        train(stage, state, devices(2), Notes())
    assert len(traces) == 2


def labelled_now_and_then(compilations, per_call=1):
    def read(indices):
        x = np.asarray(indices, np.float32)
        return {"x": x, "label": x} if indices[0] % 4 == 2 else {"x": x}

    def update(state, batch):
        terms = {"x": Mean.of(batch["x"])}
        if "label" in batch:
            terms["label"] = Mean.of(batch["label"])
        return state.replace(step=state.step + 1), add_up(terms)

    return summing(
        np.arange(16), read=read, update=update, keys=("x", "label"), log_every=8,
        compilations=compilations, steps_per_call=per_call,
    )  # fmt: skip


def test_another_set_of_keys_must_be_declared(devices):
    stage = labelled_now_and_then(1)
    with pytest.raises(TraceError, match=r"the step of stage 'sum' was compiled 1 times.*'label'"):
        train(stage, start(stage), devices(2), Notes())
    notes, stage = Notes(), labelled_now_and_then(2)
    train(stage, start(stage), devices(2), notes)
    # A term has the count of the steps that it is in: labels of steps 2, 4, 6, 8.
    labels = np.arange(16).reshape(8, 2)[1::2].mean()
    assert notes.of("train") == {8: {"x": 7.5, "label": labels}}


def test_steps_of_one_call_have_one_set_of_keys(devices):
    stage = labelled_now_and_then(2, per_call=2)
    with pytest.raises(ValueError, match="label"):
        train(stage, start(stage), devices(2), Notes())


def test_a_finished_stage_is_handed_back_where_its_devices_are(devices):
    # As the loop would have left it, so that what is scored from it has the same bits.
    stage = summing(np.arange(12))
    state = start(stage).replace(step=jnp.int32(6), params={"sum": jnp.float32(66)})
    notes = Notes()
    after = train(stage, state, devices(2), notes)
    assert not notes.events
    assert parallel.devices_of(after) == devices(2)
    equal(small.arrays(after), small.arrays(state))


def test_the_given_state_is_not_consumed(devices):
    stage = summing(np.arange(12))
    state = start(stage)
    for _ in range(2):
        assert float(train(stage, state, devices(2), Notes()).params["sum"]) == 66
    np.testing.assert_array_equal(state.params["sum"], 0)


def test_a_state_between_two_calls_cannot_be_gone_on_with(devices):
    stage = summing(np.arange(12), steps_per_call=3, log_every=3)
    with pytest.raises(RunError, match=r"step 2 of stage 'sum'.*steps_per_call 3"):
        train(stage, start(stage).replace(step=jnp.int32(2)), devices(2), Notes())


def test_a_batch_that_cannot_be_shared(devices):
    stage = summing(np.arange(12), size=3)
    with pytest.raises(ValueError, match="batch_size 3 cannot be shared evenly by 2 devices"):
        train(stage, start(stage), devices(2), Notes())


def test_what_a_reader_raises_ends_the_run(devices):
    def read(indices):
        if indices[0] >= 6:
            raise OSError("disk on fire")
        return {"x": np.asarray(indices, np.float32)}

    notes, stage = Notes(), summing(np.arange(12), read=read)
    with pytest.raises(OSError, match="disk on fire"):
        train(stage, start(stage), devices(2), notes)
    assert list(notes.of("train")) == [1, 2, 3]
