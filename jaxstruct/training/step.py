"""Updates: a loss of totals and counts becomes a step that is equal on any number of devices.

The parts are public, for an update that is written by hand. Inside an update the batch is one
device's share and AXIS is bound; `example_keys`, `objective`, `add_up` and `reduce_gradients` take
the other devices into account.

What may be added: another way in which losses and optimisers make an update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxstruct.metrics import Mean
from jaxstruct.training import parallel
from jaxstruct.training.parallel import AXIS
from jaxstruct.training.state import State

Terms = dict[str, Mean]
Loss = Callable[[Any, Any, Any, jax.Array], tuple[Terms, Any]]
Update = Callable[[State, Any], tuple[State, Terms]]


def example_keys(state: State, batch: Any, purpose: int = 0) -> jax.Array:
    """One random key per example of this device's share: [b] from (seed, stage, step, example).

    The keys are split for the global batch, so that the same numbers are drawn on any number of
    devices; another `purpose` gives other keys.
    """
    n = len(jax.tree.leaves(batch)[0])
    key = jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)
    keys = jax.random.split(key, n * parallel.device_count())
    return jax.lax.dynamic_slice_in_dim(keys, parallel.global_index(n), n)


def split_keys(keys: jax.Array, parts: int) -> jax.Array:
    """So many keys of each example, for draws that must not be alike: keys [b] as [parts, b]."""
    return jax.vmap(lambda key: jax.random.split(key, parts), out_axes=1)(keys)


def objective(terms: Terms, counts: Mapping[str, Any] | None = None) -> jax.Array:
    """The scalar to differentiate: each term's total here over its count on all devices, summed.

    A term whose count is 0 on all devices contributes 0. `counts`, if given, replaces the sums of
    the terms' counts over devices (gradient accumulation).
    """
    if counts is None:
        counts = {name: jax.lax.psum(m.count, AXIS) for name, m in terms.items()}
    fixed = jax.lax.stop_gradient(counts)
    return sum((Mean(m.total, fixed[name]).value for name, m in terms.items()), jnp.zeros(()))


def add_up(terms: Terms) -> Terms:
    """The totals and counts of each term, summed over all devices."""
    return {name: Mean(*jax.lax.psum(tuple(m), AXIS)) for name, m in terms.items()}


def reduce_gradients(gradients: Any, clip_norm: float | None = None) -> Any:
    """Sums the gradients of `objective` over all devices, then clips them to a global norm."""
    gradients = jax.lax.psum(gradients, AXIS)
    if clip_norm is None:
        return gradients
    clip = optax.clip_by_global_norm(clip_norm)
    return clip.update(gradients, clip.init(gradients))[0]


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    clip_norm: float | None = None,
) -> Update:
    """The update of one loss and one optimiser.

    `loss(params, model_state, batch, keys) -> ({term: Mean}, model_state)`, with `keys` [b] one
    per example; a weight is part of a term's total. `accumulate` is the number of parts into which
    each device's share is divided: the parts are differentiated one after the other with the counts
    of the whole batch, so that the gradient equals that of the undivided batch. `clip_norm` bounds
    the gradient's norm. Raises ValueError for `accumulate` below 1 and `clip_norm` not above 0.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate is {accumulate}, expected at least 1")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm is {clip_norm}, expected more than 0")

    def update(state: State, batch: Any) -> tuple[State, Terms]:
        keys = example_keys(state, batch)
        parts: list[Any] = [_part((batch, keys), i, accumulate) for i in range(accumulate)]
        counts = None
        if accumulate > 1:
            # Only counts are used here, so XLA drops all that they do not depend on.
            counted = [loss(state.params, state.model_state, *part)[0] for part in parts]
            local = {n: sum(terms[n].count for terms in counted) for n in counted[0]}
            counts = {n: jax.lax.psum(c, AXIS) for n, c in local.items()}
        model_state = state.model_state
        sums: Any = None
        gradients: Any = None
        for part in parts:
            partial, terms, model_state = _gradient(
                loss, state.params, model_state, part[0], part[1], counts
            )
            gradients = _add(gradients, partial)
            sums = _add(sums, terms)
        gradients = reduce_gradients(gradients, clip_norm)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        after = State(state.step + 1, params, model_state, opt_state, state.key)
        return after, add_up(sums)

    return update


def make_game_step(
    losses: Mapping[str, Loss],
    optimizers: Mapping[str, optax.GradientTransformation],
    rounds: int = 1,
) -> Update:
    """The update of players that move in turn: `rounds` moves of the first, one of each other.

    Every player's loss has the signature of `make_step` and gets all `params`, but only the
    player's own entry is differentiated. The batch holds `rounds` parts, one for each move of the
    first player; the other players get the first part, each with keys of its own. `model_state`
    passes through all moves. The moves are unrolled: a CPU runs convolutions inside a loop 10 to 20
    times slower. Terms of two players may not share a name, since their totals would be added:
    ValueError.
    """
    if list(losses) != list(optimizers):
        raise ValueError(f"losses of {list(losses)}, but optimizers of {list(optimizers)}")
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, expected at least 1")
    first, *others = losses

    def move(state: State, player: str, part: Any, keys: Any) -> tuple[State, Terms]:
        def own(mine: Any, model_state: Any, part: Any, keys: Any) -> tuple[Terms, Any]:
            return losses[player]({**state.params, player: mine}, model_state, part, keys)

        mine, opt_state = state.params[player], state.opt_state[player]
        gradients, terms, model_state = _gradient(own, mine, state.model_state, part, keys)
        gradients = reduce_gradients(gradients)
        updates, opt_state = optimizers[player].update(gradients, opt_state, mine)
        after = state.replace(
            params={**state.params, player: optax.apply_updates(mine, updates)},
            opt_state={**state.opt_state, player: opt_state},
            model_state=model_state,
        )
        return after, terms

    def update(state: State, batch: Any) -> tuple[State, Terms]:
        keys = [example_keys(state, batch, turn) for turn in range(len(losses))]
        sums: Any = None
        for i in range(rounds):
            state, terms = move(state, first, *_part((batch, keys[0]), i, rounds))
            sums = _add(sums, terms)
        for turn, player in enumerate(others, 1):
            state, terms = move(state, player, *_part((batch, keys[turn]), 0, rounds))
            if twice := sorted(sums.keys() & terms.keys()):
                raise ValueError(f"terms {twice} of player {player!r} are another player's too")
            sums |= terms
        return state.replace(step=state.step + 1), add_up(sums)

    return update


def begin_game(
    key: jax.Array,
    params: Mapping[str, Any],
    model_state: Any,
    optimizers: Mapping[str, optax.GradientTransformation],
) -> State:
    """The state in which players begin that `make_game_step` moves.

    `params` has an entry for each player; only players with an optimiser move.
    """
    opt_state = {player: one.init(params[player]) for player, one in optimizers.items()}
    return State.create(key, params, opt_state, model_state)


def _gradient(
    loss: Loss, params: Any, model_state: Any, batch: Any, keys: Any, counts: Any = None
) -> tuple[Any, Terms, Any]:
    def scalar(params: Any) -> Any:
        terms, after = loss(params, model_state, batch, keys)
        return objective(terms, counts), (terms, after)

    gradients, (terms, after) = jax.grad(scalar, has_aux=True)(params)
    return gradients, terms, after


def _part(tree: Any, i: int, parts: int) -> Any:
    def take(x: Any) -> Any:
        if len(x) % parts:
            raise ValueError(
                f"a device's share of {len(x)} examples does not split in {parts}; change the "
                "batch size, or the number of devices or parts"
            )
        # Every parts-th example: the same ones on any number of devices.
        return x[i::parts]

    return jax.tree.map(take, tree)


def _add(total: Any, part: Any) -> Any:
    return part if total is None else jax.tree.map(jnp.add, total, part)
