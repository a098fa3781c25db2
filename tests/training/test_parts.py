"""The parts of a training: its batches, its steps, and the state that goes on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct.training import (
    Stage,
    State,
    in_parts,
    interleaved,
    shuffled_batches,
    shuffled_reads,
)
from jaxstruct.training.feed import Feed


def init(key, previous):
    return State.create(key, {"w": jnp.ones(2)}, {"m": jnp.zeros(2)}, {"n": jnp.zeros(())})


def whole(steps=160, **options):
    batches = shuffled_batches({"x": np.arange(30)}, 4, seed=1)
    update = lambda state, batch: (state, {})
    return Stage(name="game", steps=steps, init=init, update=update, batches=batches, **options)


def fed(stage):
    """What one device gets at each step of a stage."""
    with Feed(stage.batches, jax.devices()[:1], 0, stage.steps, 1) as feed:
        return [feed.next()[""] for _ in range(stage.steps)]


def test_the_parts_are_the_batches_and_the_steps_of_the_whole():
    parts = in_parts(whole(), 5)
    assert [part.name for part in parts] == ["part1", "part2", "part3", "part4", "part5"]
    assert [part.steps for part in parts] == [10, 10, 20, 40, 80]
    found = [indices for part in parts for indices in fed(part)]
    assert len(found) == 160
    for step, indices in enumerate(found):
        np.testing.assert_array_equal(indices.ravel(), whole().batches.indices(step))


@pytest.mark.parametrize("name", ["draws", "indices"])
def test_a_reader_augments_in_parts_as_in_the_whole(name):
    def augment(draws, batch):
        return {"draws": np.array([draw.random() for draw in draws]), "indices": batch["x"]}

    read = lambda indices: {"x": np.asarray(indices)}
    batches = shuffled_reads(read, 30, 4, like=read(range(1)), seed=1, augment=augment)
    stage = dataclasses.replace(whole(20), batches=batches)
    parts = in_parts(stage, 3)
    again = [inner for part in parts for inner in in_parts(part, 2)]
    expected = np.stack([batch[name].ravel() for batch in fed(stage)])
    for several in (parts, again):
        found = [batch[name].ravel() for part in several for batch in fed(part)]
        np.testing.assert_array_equal(np.stack(found), expected)
    assert len(np.unique(expected)) == (80 if name == "draws" else 30)


def test_a_part_goes_on_with_the_state_of_the_one_before():
    parts = in_parts(whole(start=lambda state: state), 3)
    assert [part.start is None for part in parts] == [False, True, True]
    first = parts[0].init(jax.random.key(0), None)
    # As training would leave it.
    moved = jax.tree.map(lambda x: x + 1, (first.params, first.opt_state, first.model_state))
    first = first.replace(
        step=first.step + 40, params=moved[0], opt_state=moved[1], model_state=moved[2]
    )
    second = parts[1].init(jax.random.key(1), first)
    assert second.params is first.params
    assert second.opt_state is first.opt_state
    assert second.model_state is first.model_state
    assert int(second.step) == 0
    assert second.key == jax.random.key(1)


@pytest.mark.parametrize(("steps", "ends"), [(1, [1]), (3, [1, 2, 3]), (5, [1, 2, 5])])
def test_ends_that_are_equal_are_one(steps, ends):
    parts = in_parts(whole(steps), 4)
    assert np.cumsum([part.steps for part in parts]).tolist() == ends


def test_what_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match="parts is 0, expected at least 1"):
        in_parts(whole(), 0)
    batches = interleaved({"a": whole().batches}, lambda step: "a")
    for changed in (
        whole(steps_per_call=10),
        dataclasses.replace(whole(), batches=batches),
        dataclasses.replace(whole(), prepare=lambda state: whole().batches),
    ):
        expected = "'game': expected Batches without prepare, one step a call"
        with pytest.raises(ValueError, match=expected):
            in_parts(changed, 2)
