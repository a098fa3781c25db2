"""An exponential mean of a part of the state, kept beside it while it is trained.

What may be added: another kind of mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxstruct.training.state import State
from jaxstruct.training.step import Update

AVERAGE = "average"
"""The key of the mean in `model_state`, where a checkpoint saves it."""


def with_average(state: State, part: Callable[[State], Any]) -> State:
    """The state with the mean of a part of it, begun at what that part is now.

    `part(state)` is any tree of floating arrays: parameters, and statistics of batch norm, which no
    optimiser sees.
    """
    # A copy: the same buffer in the part and here could not be donated twice.
    begun = jax.tree.map(jnp.copy, part(_without_average(state)))
    return state.replace(model_state={**state.model_state, AVERAGE: begun})


def keep_average(update: Update, part: Callable[[State], Any], decay: float) -> Update:
    """The update that also moves the mean: mean <- decay * mean + (1 - decay) * part(state).

    The part is that of the state after the update; its model state is without the mean. Raises
    ValueError for a decay that is not between 0 and 1; the update does so for a state without a
    mean.
    """
    if not 0 < decay < 1:
        raise ValueError(f"decay is {decay}, expected more than 0 and less than 1")

    def kept(state: State, batch: Any) -> Any:
        if AVERAGE not in state.model_state:
            raise ValueError(
                "the state has no mean to keep; begin one where the stage makes its state, with "
                "with_average(state, part)"
            )
        after, terms = update(state, batch)
        mean = optax.incremental_update(
            part(_without_average(after)), state.model_state[AVERAGE], 1 - decay
        )
        return after.replace(model_state={**after.model_state, AVERAGE: mean}), terms

    return kept


def average_of(state: State, part: Callable[[State], Any]) -> Any:
    """The mean of a part of the state where one is kept, else the part itself."""
    return state.model_state[AVERAGE] if AVERAGE in state.model_state else part(state)


def _without_average(state: State) -> State:
    """The state as it is where no mean is kept."""
    rest = {name: value for name, value in state.model_state.items() if name != AVERAGE}
    return state.replace(model_state=rest)
