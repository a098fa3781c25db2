"""Games of players that move in turn, against a slow reference with optax alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    AXIS,
    State,
    make_game_step,
)
from tests.training.stepping import ALL, close, run


def fake(params, keys):
    z = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    return z @ params["G"]["w"] + params["G"]["b"][None]


def judge(params, x):
    return jnp.tanh(x @ params["D"]["w"]) @ params["D"]["v"]


def of_judge(params, model_state, batch, keys):
    """Real and generated examples, an absent label on some; counts its moves."""
    real, made = judge(params, batch["x"]), judge(params, fake(params, keys))
    terms = {
        "real": Mean.of(nn.softplus(-real), batch["valid"]),
        "fake": Mean.of(nn.softplus(made)),
    }
    return terms, {"log": 10 * model_state["log"] + 1}


def of_generator(params, model_state, batch, keys):
    terms = {"fool": Mean.of(nn.softplus(-judge(params, fake(params, keys))))}
    return terms, {"log": 10 * model_state["log"] + 2}


LOSSES = {"D": of_judge, "G": of_generator}
OPTIMIZERS = {"D": optax.adam(0.05), "G": optax.sgd(0.1)}


def game(optimizers=OPTIMIZERS):
    d, g, v = (jax.random.normal(jax.random.key(i), (2, 2)) for i in range(3))
    params = {"D": {"w": d, "v": v[0]}, "G": {"w": g, "b": v[1]}}
    opt_state = {player: optimizers[player].init(params[player]) for player in params}
    return State.create(jax.random.key(9), params, opt_state, {"log": jnp.zeros(())})


def game_batches(rounds, steps=3, size=16):
    rng = np.random.default_rng(1)
    return [
        {
            "x": rng.normal(size=(size * rounds, 2)).astype(np.float32),
            "valid": rng.random(size * rounds) < 0.6,
        }
        for _ in range(steps)
    ]


@functools.cache
def play_slowly(rounds):
    """The game on one device and the whole batch, move after move, with optax alone."""
    state, batches = game(), game_batches(rounds)
    params, opt_state, told = state.params, state.opt_state, []
    for step, batch in enumerate(batches):
        size = len(batch["x"])
        keys = [
            jax.random.split(jax.random.fold_in(jax.random.fold_in(state.key, turn), step), size)
            for turn in (0, 1)
        ]
        sums = {}
        for player, i, turn in [*(("D", i, 0) for i in range(rounds)), ("G", 0, 1)]:
            part = {k: jnp.asarray(x[i::rounds]) for k, x in batch.items()}

            def scalar(mine, player=player, part=part, own=keys[turn][i::rounds], params=params):
                terms, _ = LOSSES[player]({**params, player: mine}, {"log": 0}, part, own)
                return sum(m.total / m.count for m in terms.values()), terms

            gradient, terms = jax.grad(scalar, has_aux=True)(params[player])
            updates, after = OPTIMIZERS[player].update(gradient, opt_state[player], params[player])
            params = {**params, player: optax.apply_updates(params[player], updates)}
            opt_state = {**opt_state, player: after}
            for name, m in terms.items():
                total, count = sums.get(name, (0.0, 0.0))
                sums[name] = total + float(m.total), count + float(m.count)
        told.append(sums)
    return params, told


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_game_is_that_of_a_slow_reference(devices, n, rounds):
    batches = game_batches(rounds)
    update = make_game_step(LOSSES, OPTIMIZERS, rounds)
    state, told = run(update, game(), batches, devices(n))
    params, expected = play_slowly(rounds)
    close(state.params, params, atol=1e-5, rtol=1e-5)
    close(told, expected, rtol=1e-4)
    # The first player moved `rounds` times, then the second, three steps long.
    assert float(state.model_state["log"]) == float(np.float32(int(("1" * rounds + "2") * 3)))
    assert int(state.opt_state["D"][0].count) == 3 * rounds
    assert int(state.step) == 3


def test_other_players_draw_numbers_of_their_own(devices):
    seen = {}

    def loss(player):
        def of(params, model_state, batch, keys):
            data = jax.lax.all_gather(jax.random.key_data(keys), AXIS, tiled=True)
            jax.debug.callback(lambda d: seen.setdefault(player, []).append(np.asarray(d)), data)
            return {player: Mean.of(params[player] * batch["x"])}, model_state

        return of

    players = ("first", "second", "third")
    optimizers = {p: optax.sgd(0.1) for p in players}
    params = {p: jnp.ones(1) for p in players}
    opt_state = {p: optimizers[p].init(params[p]) for p in players}
    state = State.create(jax.random.key(0), params, opt_state)
    update = make_game_step({p: loss(p) for p in players}, optimizers, 2)
    run(update, state, [{"x": np.ones(8, np.float32)}], devices(1))
    jax.effects_barrier()
    # Two moves with four keys each, one with four, one with four: all different.
    assert {p: len(seen[p]) for p in players} == {"first": 2, "second": 1, "third": 1}
    keys = np.concatenate([k for p in players for k in seen[p]])
    assert len(keys) == len(np.unique(keys, axis=0)) == 16


def test_a_player_sees_the_others_as_they_are_after_their_moves(devices):
    # Each sets its own number to the sum of all: 1, 1, 1 -> 3, then 5, then 9.
    def loss(player):
        def of(params, model_state, batch, keys):
            rest = jax.lax.stop_gradient(sum(params.values()) - params[player])
            return {player: Mean.of(-params[player] * rest * batch["x"])}, model_state

        return of

    players = ("a", "b", "c")
    optimizers = {p: optax.sgd(1.0) for p in players}
    params = {p: jnp.ones(1) for p in players}
    state = State.create(
        jax.random.key(0), params, {p: optimizers[p].init(params[p]) for p in players}
    )
    update = make_game_step({p: loss(p) for p in players}, optimizers)
    after, _ = run(update, state, [{"x": np.ones(4, np.float32)}], devices(2))
    assert {p: float(x[0]) for p, x in after.params.items()} == {"a": 3, "b": 5, "c": 9}


def test_players_must_not_share_the_name_of_a_term(devices):
    # Their totals would be added, and the record would be the mean of two different things.
    def loss(params, model_state, batch, keys):
        return {"loss": of_generator(params, model_state, batch, keys)[0]["fool"]}, model_state

    update = make_game_step({"D": loss, "G": loss}, OPTIMIZERS, 2)
    with pytest.raises(ValueError, match=r"terms \['loss'\] of player 'G' are another"):
        run(update, game(), game_batches(2), devices(2))


def test_wrong_options_of_a_game():
    with pytest.raises(ValueError, match="rounds is 0, expected at least 1"):
        make_game_step(LOSSES, OPTIMIZERS, 0)
    with pytest.raises(ValueError, match=r"losses of \['D', 'G'\], but optimizers of \['G'\]"):
        make_game_step(LOSSES, {"G": optax.sgd(0.1)})


def test_a_share_that_does_not_split_in_rounds(devices):
    with pytest.raises(ValueError, match="a device's share of 8 examples does not split in 3"):
        run(make_game_step(LOSSES, OPTIMIZERS, 3), game(), game_batches(1), devices(2))
