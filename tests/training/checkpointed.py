"""Checkpoints of `tiny` for their tests: states that differ, and a folder of them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct.training.checkpoints import Checkpoints
from jaxstruct.training.keys import stage_key
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


def open_again(folder, stages=STAGES, **options):
    return Checkpoints(folder, stages, {}, ("first", "error", "min"), **options)


def save_all(folder):
    """The checkpoints 5, 10, 15 and 20 of the first stage, 25 and 30 of the second.

    The errors are 3, 1, 5, 6, 7, 8: the policy keeps 10 (the best), 20 (the last of its stage),
    25 and 30 (the latest).
    """
    with Checkpoints(folder, STAGES, {}, ("first", "error", "min")) as kept:
        for step, error in ((5, 3.0), (10, 1.0), (15, 5.0), (20, 6.0)):
            kept.save(FIRST, state_at(step), metrics={"error": error}, seconds=step)
        for step, error in ((5, 7.0), (10, 8.0)):
            sums = {"square": [0.1 + step, 3.0]}
            state = state_at(step, SECOND)
            kept.save(SECOND, state, metrics={"error": error}, pending=sums, seconds=20 + step)
