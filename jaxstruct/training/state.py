"""The state of training: one PyTree, which a step turns into its successor.

What may be added: nothing that a model or an optimiser can hold.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


class State(struct.PyTreeNode):
    """Everything that training changes: one value to checkpoint, shard, donate and compare.

    `step` int32 [] counts from 0 in each stage; `params` are the trained parameters; `model_state`
    holds a model's other variables (batch statistics); `opt_state` is the optimiser's state; `key`
    is the stage's random key. With several players, `params` and `opt_state` are dicts with equal
    keys.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    key: Any

    @classmethod
    def create(cls, key: jax.Array, params: Any, opt_state: Any, model_state: Any = None) -> State:
        """The state at step 0."""
        # An array rather than 0: a Python number is weakly typed and compiles the step twice.
        step = jnp.zeros((), jnp.int32)
        return cls(step, params, {} if model_state is None else model_state, opt_state, key)
