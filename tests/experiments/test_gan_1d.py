"""The one-dimensional game: exact shares against closed forms, D* against a discriminator."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from scipy.special import expit, logit
from scipy.stats import norm

from experiments import _gan, gan_1d
from jaxstruct.training import State, parallel, run

EDGES = np.linspace(0, 1, 51)
# In a program that is not optimized, XLA may round what Maxout compares twice, each time otherwise:
# the gradient of its maximum is 0 / 0 there.
pytestmark = pytest.mark.optimized


def test_a_uniform_z_through_a_line_is_uniform():
    # G from 0.2 to 0.7, and back: a share of 1/25 in each of 25 cells.
    for x in (np.linspace(0.2, 0.7, 11), np.linspace(0.7, 0.2, 11)):
        shares = gan_1d.pushed_forward(x, EDGES)
        expected = np.where((EDGES[:-1] > 0.199) & (EDGES[:-1] < 0.699), 1 / 25, 0)
        np.testing.assert_allclose(shares, expected, atol=1e-12)


def test_a_fold_adds_up():
    # Up to 1 in a half of z, and down to 1/2 in the other: 1/4 below 1/2, 3/4 above.
    x = np.concatenate([np.linspace(0, 1, 101), np.linspace(1, 0.5, 101)[1:]])
    shares = gan_1d.pushed_forward(x, EDGES)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares[:25], 1 / 100, atol=1e-9)
    np.testing.assert_allclose(shares[25:], 3 / 100, atol=1e-9)


def test_a_change_of_variables():
    # x = sigmoid(2 z) of a uniform z: P(x < e) = (logit(e) / 2 + r) / 2r, with r the root of 3.
    z = np.linspace(-math.sqrt(3), math.sqrt(3), 4001)
    shares = gan_1d.pushed_forward(expit(2 * z), EDGES)
    with np.errstate(divide="ignore"):
        below = np.clip((logit(EDGES) / 2 + math.sqrt(3)) / (2 * math.sqrt(3)), 0, 1)
    np.testing.assert_allclose(shares, np.diff(below), atol=1e-6)


@pytest.mark.parametrize(("at", "cell"), [(0.0, 0), (0.31, 15), (1.0, 49)])
def test_a_generator_that_stands_still_has_all_in_one_cell(at, cell):
    shares = gan_1d.pushed_forward(np.full(9, at, np.float32), EDGES)
    assert shares[cell] == 1
    assert shares.sum() == 1


def test_the_data_are_the_mixture():
    x = gan_1d.draws(50_000)
    assert x.shape == (50_000, 1, 1, 1)
    assert x.dtype == np.float32
    assert 0 < x.min() < x.max() < 1
    below = lambda t: 0.4 * norm(0.3, 0.07).cdf(t) + 0.6 * norm(0.68, 0.09).cdf(t)
    inside = (below(EDGES) - below(0)) / (below(1) - below(0))
    counted = [np.mean(x <= edge) for edge in EDGES]
    np.testing.assert_allclose(counted, inside, atol=1e-4)


def moment(p, q, judged):
    p, q, judged = (np.asarray(v, np.float64) for v in (p, q, judged))
    return gan_1d.Cells(p, q, np.log(judged) - np.log1p(-judged))


def test_metrics_by_hand():
    # D* is 1/4 and 3/4; JSD = log 2 - H(1/4) in nats, for these mirrored shares.
    entropy = -(math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)
    found = moment([0.25, 0.75], [0.75, 0.25], [0.25, 0.75]).metrics()
    assert found == pytest.approx(
        {
            "divergence": math.log(2) - entropy,
            "value": -2 * entropy,
            "below_optimum": 0,
            "distance_to_optimum": 0,
        },
        abs=1e-6,
    )
    # A discriminator that cannot tell has -log 4, and is a quarter away in both cells.
    found = moment([0.25, 0.75], [0.75, 0.25], [0.5, 0.5]).metrics()
    assert found["value"] == pytest.approx(-math.log(4))
    assert found["below_optimum"] == pytest.approx(2 * (math.log(2) - entropy))
    assert found["distance_to_optimum"] == pytest.approx(0.25)


def test_metrics_where_shares_are_zero():
    found = moment([1, 0, 0], [0, 1, 0], [0.9, 0.1, 0.3]).metrics()
    assert found["divergence"] == pytest.approx(math.log(2))
    assert found["value"] == pytest.approx(2 * math.log(0.9), rel=1e-6)
    assert found["distance_to_optimum"] == pytest.approx(0.1, rel=1e-6)
    uneven = moment([1, 0], [0, 1], [0.9, 0.3]).metrics()
    assert uneven["distance_to_optimum"] == pytest.approx((0.1 + 0.3) / 2)
    same = moment([0.5, 0.5], [0.5, 0.5], [0.5, 0.5]).metrics()
    assert same == pytest.approx(
        {"divergence": 0, "value": -math.log(4), "below_optimum": 0, "distance_to_optimum": 0},
        abs=1e-6,
    )


def test_no_discriminator_is_above_the_optimum():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, q = rng.dirichlet(np.full(8, 0.5), 2)
        assert moment(p, q, rng.random(8)).metrics()["below_optimum"] > 0


def players_and_state():
    players = gan_1d.players_of(gan_1d.SMOKE)
    return players, State.create(jax.random.key(0), *[players.init(jax.random.key(1))[0]] * 2, {})


def test_cells_are_those_of_many_samples():
    players, state = players_and_state()
    now = gan_1d.cells(players, state)
    assert now.data.sum() == pytest.approx(1)
    assert now.generated.sum() == pytest.approx(1)
    x = _gan.generated(players, state, players.noise(jax.random.key(2), 20_000)).ravel()
    counted = np.histogram(x, gan_1d.EDGES)[0] / len(x)
    error = np.sqrt(now.generated / len(x)) + 1e-3
    assert np.all(np.abs(counted - now.generated) < 5 * error)
    middle = jnp.asarray([0.4025]).reshape(1, 1, 1, 1)
    expected, _ = players.judge(state.params["discriminator"], {}, middle, None)
    assert now.logits[80] == pytest.approx(float(expected[0]), rel=1e-4)
    assert now.judged[80] == pytest.approx(float(expit(expected[0])), rel=1e-5)


def test_who_moves_in_which_stage():
    state, moved = None, {}
    devices = jax.devices()[:1]
    for i, stage in enumerate(gan_1d.experiment(gan_1d.SMOKE).stages):
        begun = stage.init(jax.random.key(i), state)
        if state is not None:  # from where the stage before has ended
            jax.tree.map(np.testing.assert_array_equal, begun.params, state.params)
        before = jax.tree.map(np.asarray, begun.params)
        batch = stage.batches.read["image"][stage.batches.indices(0)]
        rounds = (
            len(batch) / gan_1d.SMOKE.batch_size
        )  # of the discriminator, where it has an answer
        assert rounds == (5 if stage.name in ("early", "game") else 1)
        fed = jax.device_put(parallel.share({"image": batch}, devices))
        after, _ = parallel.Call(stage.update, devices)(parallel.stack(begun, devices), fed)
        state = parallel.unstack(after)
        moved[stage.name] = [
            player
            for player in before
            if differ(before[player], jax.tree.map(np.asarray, state.params[player]))
        ]
    both = ["discriminator", "generator"]
    assert moved == {"early": both, "police": both[:1], "thief": both[1:], "game": both}


def test_steps_are_whole_calls():
    config = dataclasses.replace(gan_1d.SMOKE, thief_steps=5, police_steps=0, steps=26)
    found = [stage.steps for stage in gan_1d.experiment(config).stages]
    assert found == [gan_1d.SMOKE.early_steps, 10, 10, 30]


def test_the_rate_of_every_player_falls_to_0_with_a_stage():
    devices = jax.devices()[:1]
    for stage in gan_1d.experiment(gan_1d.SMOKE).stages:
        begun = stage.init(jax.random.key(0), None)
        batch = stage.batches.read["image"][stage.batches.indices(0)]
        fed = jax.device_put(parallel.share({"image": batch}, devices))
        call = parallel.Call(stage.update, devices)
        rounds = {"discriminator": len(batch) // gan_1d.SMOKE.batch_size, "generator": 1}
        for share, moves in ((0.9, True), (1.0, False)):
            opt_state = {
                player: jax.tree.map(
                    lambda x, n=int(share * rounds[player] * stage.steps): (
                        jnp.full_like(x, n) if jnp.issubdtype(x.dtype, jnp.integer) else x
                    ),
                    begun.opt_state[player],
                )
                for player in begun.opt_state
            }
            after, _ = call(parallel.stack(begun.replace(opt_state=opt_state), devices), fed)
            params = jax.tree.map(np.asarray, parallel.unstack(after).params)
            for player in opt_state:
                assert differ(begun.params[player], params[player]) == moves, (stage.name, player)


def test_layers_bend_at_different_places():
    _, state = players_and_state()
    for player, params in state.params.items():
        biases = [v for path, v in flatten_dict(params).items() if path[-1] == "bias"]
        assert len(biases) > 1, player
        assert np.ptp(biases[0]) > 0.5, player


def differ(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(np.any(x != y) for x, y in pairs)


@pytest.mark.slow
def test_the_discriminator_alone_becomes_the_optimal_one(tmp_path):
    config = dataclasses.replace(
        gan_1d.SMOKE,
        hidden=64,
        learning_rate=0.01,
        batch_size=100,
        early_steps=10,
        police_steps=600,
        steps=10,
    )
    finished = run(gan_1d.experiment(config), tmp_path, devices=jax.devices()[:1])
    before, after = (
        finished.metrics[f"{stage}/distance_to_optimum"] for stage in ("early", "police")
    )
    # Proposition 1: with the generator held, D tends to data / (data + generated).
    assert after < 0.06 < 0.15 < before
    assert finished.metrics["police/divergence"] == finished.metrics["early/divergence"]
    gaps = [finished.metrics[f"{stage}/below_optimum"] for stage in ("early", "police")]
    assert 0 < gaps[1] < gaps[0] / 3
