"""What a stage starts from: trained weights, read once, and named in the results."""

import dataclasses
import hashlib
import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import data
from jaxstruct.training import RunError, Stopped, restore, run, shuffled_batches
from tests.training import tiny
from tests.training.quick import CONFIG, ask_to_stop, bits, stopping


def weighted(*, read, started):
    """An experiment whose first stage starts from what a file says."""

    def start(state):
        started.append(int(state.step))
        return state.replace(
            params={**state.params, "w": jnp.asarray(data.read_weights(read)["w"])}
        )

    first, second = tiny.experiment(CONFIG).stages
    stages = [dataclasses.replace(first, start=start), second]
    return dataclasses.replace(tiny.experiment(CONFIG), stages=stages)


@pytest.fixture
def weights_file(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "trained.safetensors"
    save_file({"w": np.array([1.0, 2.0, 3.0], np.float32)}, path)
    return path


def test_trained_weights_are_read_once_on_a_fresh_start(tmp_path, devices, weights_file):
    started = []
    made = weighted(read=weights_file, started=started)
    whole = run(made, tmp_path / "whole", devices=devices())
    assert started == [0]
    assert (
        whole.curve("square", of="train")[1][0]
        != run(tiny.experiment(CONFIG), tmp_path / "random", devices=devices()).curve(
            "square", of="train"
        )[1][0]
    )
    # Cut short in the first stage, and gone on with where the file is gone.
    cut = stopping(made, 2, ask_to_stop)
    with pytest.raises(Stopped):
        run(cut, tmp_path / "cut", devices=devices())
    assert started == [0, 0]
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    weights_file.unlink()
    again = run(made, tmp_path / "cut", devices=devices())
    assert started == [0, 0]
    assert {k: bits(s) for k, s in again.states.items()} == {
        k: bits(s) for k, s in whole.states.items()
    }
    expected = {"first": [{"file": "trained.safetensors", "sha256": digest}]}
    for folder in ("whole", "cut"):
        results = json.loads((tmp_path / folder / "metrics.json").read_text())
        assert results["weights"] == expected
    # Neither reading nor predicting needs the file.
    assert bits(restore(made, tmp_path / "cut").state) == bits(whole.state)


def at_place(path):
    """`weighted`, with an option that names the file."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        weights: str
        seed: int = 0

    return dataclasses.replace(weighted(read=path, started=[]), config=Config(str(path)))


def test_a_run_goes_on_where_its_weights_lie_elsewhere(tmp_path, devices, weights_file):
    whole = run(at_place(weights_file), tmp_path / "whole", devices=devices())
    with pytest.raises(Stopped):
        run(stopping(at_place(weights_file), 6, ask_to_stop), tmp_path / "cut", devices=devices())
    (tmp_path / "moved").mkdir()
    moved = weights_file.rename(tmp_path / "moved" / weights_file.name)
    for file in (tmp_path / "cut" / "checkpoints" / "20").rglob("*"):  # the first stage's last
        file.write_bytes(b"") if file.is_file() else None
    before = moved.read_bytes()
    moved.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    words = (
        r"from other weights: stage 'first' began with trained\.safetensors of sha256 .* read one"
    )
    with pytest.raises(RunError, match=words):
        run(at_place(moved), tmp_path / "cut", devices=devices())
    moved.write_bytes(before)
    again = run(at_place(moved), tmp_path / "cut", devices=devices())
    for stage in whole.states:
        assert bits(again.states[stage]) == bits(whole.states[stage])
    assert restore(at_place(weights_file), tmp_path / "cut").metrics == whole.metrics
    other = moved.rename(tmp_path / "other.safetensors")
    with pytest.raises(RunError, match="is a run of another configuration: weights was"):
        run(at_place(other), tmp_path / "cut", devices=devices())


def test_a_start_that_changes_shapes_is_refused(tmp_path, devices):
    first, second = tiny.experiment(CONFIG).stages
    wide = dataclasses.replace(
        first, start=lambda state: state.replace(params={**state.params, "w": jnp.zeros(7)})
    )
    made = dataclasses.replace(tiny.experiment(CONFIG), stages=[wide, second])
    with pytest.raises(RunError, match="start of stage 'first' changed the shapes"):
        run(made, tmp_path, devices=devices())


def prepared(calls):
    """An experiment whose first stage trains on twice the values of its batches."""

    def prepare(state):
        calls.append(int(state.step))
        time.sleep(0.1)
        examples = {name: 2 * x for name, x in tiny.arrays(CONFIG).items()}
        return shuffled_batches(examples, CONFIG.batch_size, seed=CONFIG.seed)

    first, second = tiny.experiment(CONFIG).stages
    stages = [dataclasses.replace(first, prepare=prepare), second]
    return dataclasses.replace(tiny.experiment(CONFIG), stages=stages)


def test_batches_that_follow_from_the_state_are_made_again_on_resuming(tmp_path, devices):
    calls = []
    whole = run(prepared(calls), tmp_path / "whole", devices=devices())
    assert calls == [0]
    cost = json.loads((tmp_path / "whole" / "metrics.json").read_text())["cost"]
    assert cost["training_seconds"]["preparing"] >= 0.1
    plain = run(tiny.experiment(CONFIG), tmp_path / "plain", devices=devices())
    assert bits(whole.states["first"]) != bits(plain.states["first"])
    with pytest.raises(Stopped):
        run(stopping(prepared(calls), 2, ask_to_stop), tmp_path / "cut", devices=devices())
    again = run(prepared(calls), tmp_path / "cut", devices=devices())
    assert calls[:2] == [0, 0]
    assert len(calls) == 3
    assert calls[2] > 0
    assert bits(again.states["first"]) == bits(whole.states["first"])
