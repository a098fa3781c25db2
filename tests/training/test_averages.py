"""The mean that is kept of a part of the state, by hand, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    AVERAGE,
    State,
    average_of,
    keep_average,
    make_step,
    with_average,
)
from tests.training.stepping import ALL, close, run


def slope(params, model_state, batch, keys):
    """A loss whose gradient is the mean of the batch, and a model state that counts steps."""
    assert AVERAGE in model_state
    return {"slope": Mean.of(batch["x"] * params["w"])}, {**model_state, "n": model_state["n"] + 1}


def part(state):
    return {"w": state.params["w"], "state": state.model_state}


@pytest.mark.parametrize("devices_used", ALL)
def test_the_mean_moves_towards_what_the_part_is_after_each_step(devices, devices_used):
    optimizer, params = optax.sgd(0.5), {"w": jnp.array(2.0), "other": jnp.zeros(3)}
    begun = State.create(jax.random.key(0), params, optimizer.init(params), {"n": jnp.zeros(())})
    begun = with_average(begun, part)
    close(begun.model_state[AVERAGE], {"w": jnp.array(2.0), "state": {"n": jnp.zeros(())}})
    rng = np.random.default_rng(0)
    batches = [{"x": rng.normal(size=16).astype(np.float32)} for _ in range(3)]
    update = keep_average(make_step(slope, optimizer), part, 0.75)
    state, _ = run(update, begun, batches, devices(devices_used))
    w = mean = 2.0
    n = 0.0
    for step, batch in enumerate(batches, 1):
        w -= 0.5 * batch["x"].mean()
        mean, n = 0.75 * mean + 0.25 * w, 0.75 * n + 0.25 * step
    assert float(state.params["w"]) == pytest.approx(w, rel=1e-5)
    assert float(state.model_state["n"]) == 3
    kept = state.model_state[AVERAGE]
    close(kept, {"w": np.float32(mean), "state": {"n": np.float32(n)}}, rtol=1e-5)
    assert average_of(state, part) is kept


def test_without_a_mean_the_part_itself_stands_in():
    state = State.create(jax.random.key(0), {"w": jnp.ones(2)}, {}, {"n": jnp.zeros(())})
    assert average_of(state, part)["w"] is state.params["w"]
    assert average_of(state, part)["state"] is state.model_state


def test_a_mean_that_is_begun_again_holds_no_mean():
    state = State.create(jax.random.key(0), {"w": jnp.ones(2)}, {}, {"n": jnp.zeros(())})
    again = with_average(with_average(state, part).replace(params={"w": jnp.zeros(2)}), part)
    close(again.model_state[AVERAGE], {"w": jnp.zeros(2), "state": {"n": jnp.zeros(())}})
    # Donated buffers are no one else's.
    assert again.model_state[AVERAGE]["state"]["n"] is not state.model_state["n"]


def test_a_mean_that_was_not_begun_is_refused():
    state = State.create(jax.random.key(0), {"w": jnp.ones(2)}, {}, {"n": jnp.zeros(())})
    update = keep_average(lambda state, batch: (state, {}), part, 0.5)
    with pytest.raises(ValueError, match=r"^the state has no mean to keep; .* with_average\(state"):
        update(state, {})


@pytest.mark.parametrize("decay", [-0.1, 0.0, 1.0])
def test_a_decay_that_keeps_no_mean_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay is {decay}, expected more than 0 and less than 1"):
        keep_average(lambda state, batch: (state, {}), part, decay)
