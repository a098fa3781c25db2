"""The same training on other numbers of devices, processes and calls, and gone on with."""

import dataclasses
import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.training import (
    Stopped,
    parallel,
    run,
)
from jaxstruct.training.loop import train
from tests.training import two_processes_worker as small
from tests.training.notes import Notes, equal

ALL = [1, 2, 8]


def close(a, b, atol):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=0, atol=atol, err_msg=key)


@functools.cache
def trained(config, n):
    (stage,) = small.experiment(config).stages
    notes = Notes()
    state = train(stage, stage.init(jax.random.key(1), None), jax.devices()[:n], notes)
    assert parallel.devices_of(state) == jax.devices()[:n]
    return small.arrays(state), notes


# A plain step is in the one that accumulates, and in the two processes below.
KINDS = ("accumulated", "game")


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 8])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_devices_trains_the_same(kind, streamed, n):
    config = small.Config(kind, streamed)
    (one, told), (several, told_by_several) = trained(config, 1), trained(config, n)
    close(several, one, atol=1e-4)
    for what in ("train", "evaluation"):
        records, expected = told_by_several.of(what), told.of(what)
        assert list(records) == list(expected) == [4, 8, 12]
        for step in records:
            close(records[step], expected[step], atol=1e-4)


@pytest.mark.slow
def test_the_small_training_moves_what_it_compares():
    # Else two runs that do nothing would be equal.
    for kind in KINDS:
        config = small.Config(kind)
        state, notes = trained(config, 1)
        start = small.experiment(config).stages[0].init(jax.random.key(1), None)
        for key, x in small.arrays(start).items():
            if key.startswith(".params"):
                assert np.abs(state[key] - x).max() > 0.01, key
        other, _ = trained(dataclasses.replace(config, seed=1), 1)
        assert any(np.abs(state[key] - other[key]).max() > 1e-3 for key in state)
        assert len({tuple(values.values()) for values in notes.of("train").values()}) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "streamed"), [("accumulated", True), ("game", False)])
def test_several_steps_a_call_train_the_same(kind, streamed):
    one, told = trained(small.Config(kind, streamed), 2)
    several, told_by_several = trained(small.Config(kind, streamed, per_call=4), 2)
    close(several, one, atol=1e-6)
    for what in ("train", "evaluation"):
        records, expected = told_by_several.of(what), told.of(what)
        assert list(records) == list(expected)
        for step in records:
            close(records[step], expected[step], atol=1e-6)
    assert list(told_by_several.of("progress")) == [4, 8, 12]


@pytest.mark.slow
@pytest.mark.parametrize(("streamed", "per_call"), [(False, 1), (True, 4)])
def test_resumed_to_the_bit(devices, streamed, per_call):
    config = small.Config("accumulated", streamed, per_call)
    whole, told = trained(config, 2)
    (stage,) = small.experiment(config).stages
    stopping = Notes(stop_at=4)
    with pytest.raises(Stopped):
        train(stage, stage.init(jax.random.key(1), None), devices(2), stopping)
    saved, _, pending = stopping.of("save")[4]
    # As a checkpoint gives it back: host arrays, of another process.
    state = stage.init(jax.random.key(1), None)
    host = [jnp.asarray(x) for x in saved.values()]
    structure = jax.tree.structure(state.replace(key=jax.random.key_data(state.key)))
    state = jax.tree.unflatten(structure, host)
    state = state.replace(key=jax.random.wrap_key_data(state.key))
    notes = Notes()
    resumed = train(stage, state, devices(2), notes, pending)
    equal(small.arrays(resumed), whole)
    for what in ("train", "evaluation"):
        assert {**stopping.of(what), **notes.of(what)} == told.of(what)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, devices):
    """On one machine's loopback, two devices each, in one shared workdir."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    found = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        # Small programs too: three runs here compile the same.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join(found),
    }
    processes = []
    try:
        for index in range(2):
            command = [sys.executable, small.__file__, tmp_path, port, index, 2]
            log = (tmp_path / f"{index}.log").open("w")
            processes.append(
                subprocess.Popen(
                    [str(x) for x in command], stdout=log, stderr=subprocess.STDOUT, env=environment
                )
            )
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()  # jax.distributed swallows SIGTERM
            process.wait()
    logs = "\n".join((tmp_path / f"{index}.log").read_text()[-3000:] for index in range(2))
    assert codes == [0, 0], logs

    arrays = [dict(np.load(tmp_path / f"{index}.npz")) for index in range(2)]
    outcomes = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    equal(*arrays)
    assert outcomes[0] == outcomes[1]
    # Broken off after the checkpoint of step 4, and gone on with from there to the same bits.
    assert outcomes[0]["calls"] == [[4, 8], [8, 12]]
    for key in [key for key in arrays[0] if key.startswith("arrays")]:
        np.testing.assert_array_equal(
            arrays[0]["resumed" + key.removeprefix("arrays")], arrays[0][key], err_msg=key
        )
    assert outcomes[0]["resumed"] == outcomes[0]["arrays"]
    for name in ("arrays", "streamed", "resumed"):
        assert (tmp_path / name / "figures" / "median.png").exists()
    for name, streamed in (("arrays", False), ("streamed", True)):
        one = run(
            small.experiment(small.Config(streamed=streamed)), tmp_path / "one" / name,
            devices=devices(4),
        )  # fmt: skip
        expected = {name + key: x for key, x in small.arrays(one.state).items()}
        assert len(expected) > 10
        close({key: arrays[0][key] for key in expected}, expected, atol=1e-4)
        told = small.outcome(one)
        assert told["metrics"]["rows"] == 21
        close(outcomes[0][name]["metrics"], told["metrics"], atol=1e-4)
        assert len(told["history"]) == 6
        for record, other in zip(outcomes[0][name]["history"], told["history"], strict=True):
            assert [record[k] for k in ("stage", "step")] == [other[k] for k in ("stage", "step")]
            for what in record.keys() & {"train", "evaluation"}:
                close(record[what], other[what], atol=1e-4)
        # One of the two wrote, once.
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["number"] for line in lines] == [4, 4, 8, 8, 12, 12]
