"""Frozen parts: no gradient, no moments, no backward pass; a later stage moves them back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Experiment,
    Stage,
    State,
    make_step,
    merge,
    parallel,
    partition,
    run,
    shuffled_batches,
)

TREE = {"a": {"b": {"kernel": 1, "bias": 2}, "c": {"kernel": 3}}, "d": 4}


@pytest.mark.parametrize(
    ("frozen", "trained", "taken"),
    [
        ([], TREE, {}),
        (["d"], {"a": TREE["a"]}, {"d": 4}),
        (["a/b"], {"a": {"c": {"kernel": 3}}, "d": 4}, {"a": {"b": {"kernel": 1, "bias": 2}}}),
        (["a/b/bias", "a/c"], {"a": {"b": {"kernel": 1}}, "d": 4},
         {"a": {"b": {"bias": 2}, "c": {"kernel": 3}}}),
        (["a", "d"], {}, TREE),
        (["a/b/bias", "a"], {"d": 4}, {"a": TREE["a"]}),
    ],
)  # fmt: skip
def test_partition_and_merge_are_inverse(frozen, trained, taken):
    assert partition(TREE, frozen) == (trained, taken)
    assert merge(trained, taken) == merge(taken, trained) == TREE
    assert TREE["a"]["b"] == {"kernel": 1, "bias": 2}  # the given tree is left as it was


def test_what_cannot_be_frozen_or_merged():
    for place in ("e", "a/e", "d/kernel", "a/b/kernel/more"):
        message = f"there is no '{place}' to freeze, expected a path in a/b, a/c, d"
        with pytest.raises(ValueError, match=message):
            partition(TREE, [place])
    with pytest.raises(ValueError, match="'d' is both trained and frozen"):
        merge({"d": 1}, {"d": 2})
    with pytest.raises(ValueError, match="'b' is both"):
        merge({"a": {"b": 1}}, {"a": {"b": {"kernel": 2}}})


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(3):
            x = nn.tanh(nn.Dense(64, name=f"deep{i}")(x))
        return nn.Dense(1, name="head")(x)[:, 0]


NET = Net()
EXAMPLES = {"x": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}
DEEP = ["deep0", "deep1", "deep2"]


def stage(name, frozen, optimizer):
    def init(key, previous):
        if previous is None:
            params = NET.init(key, EXAMPLES["x"][:1])["params"]
        else:
            params = merge(previous.params, previous.model_state["frozen"])
        params, kept = partition(params, frozen)
        return State.create(key, params, optimizer.init(params), {"frozen": kept})

    def loss(params, model_state, batch, keys):
        out = NET.apply({"params": merge(params, model_state["frozen"])}, batch["x"])
        return {"square": Mean.of((out - batch["x"][:, 0]) ** 2)}, model_state

    return Stage(
        name=name,
        steps=3,
        init=init,
        update=make_step(loss, optimizer, clip_norm=1.0),
        batches=shuffled_batches(EXAMPLES, 16, seed=0),
    )


def flops(made, devices):
    state = made.init(jax.random.key(0), None)
    call = parallel.Call(made.update, devices)
    call(parallel.stack(state, devices), {"x": EXAMPLES["x"][None, :16]})
    return call.flops


def test_a_frozen_part_costs_neither_backward_pass_nor_moments(devices):
    adam = optax.adam(1e-2)
    everything, head = stage("all", [], adam), stage("head", DEEP, adam)
    # Forward alone is a third of forward, gradients by inputs, and gradients by parameters.
    assert flops(head, devices()) < 0.5 * flops(everything, devices())
    moments = head.init(jax.random.key(0), None).opt_state[0].mu
    assert list(moments) == ["head"]


def test_a_later_stage_moves_frozen_parts_back(tmp_path, devices):
    adam = optax.adam(1e-2)
    found = run(
        Experiment(dataclasses.make_dataclass("Config", [])(), [
            stage("head", DEEP, adam), stage("deep", ["head"], adam),
        ]),
        tmp_path,
        devices=devices(),
    )  # fmt: skip
    first, second = found.states["head"], found.states["deep"]
    start = stage("head", DEEP, adam).init(jax.random.fold_in(jax.random.key(0), 0), None)
    frozen = first.model_state["frozen"]
    jax.tree.map(np.testing.assert_array_equal, frozen, start.model_state["frozen"])
    assert np.abs(first.params["head"]["kernel"] - start.params["head"]["kernel"]).max() > 1e-3
    # The second stage trained what was frozen, from where it was, and left the head alone.
    jax.tree.map(np.testing.assert_array_equal, second.model_state["frozen"], first.params)
    assert list(second.params) == DEEP
    moved = jnp.abs(second.params["deep0"]["kernel"] - frozen["deep0"]["kernel"]).max()
    assert 1e-3 < moved < 0.1
