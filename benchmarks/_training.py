"""What both libraries are asked of a network: inference, and a step of training.

What may be added: another way of sharing a step among devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import _timing


def placed(array: Any, devices: list[jax.Device], shared: bool) -> Any:
    """Arrays on all devices, which share the first axis or have copies."""
    mesh = jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices)
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*("batch",) * shared)))


def programs(
    loss: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]],
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    given: Any,
    predict: Callable[..., Any] | None = None,
) -> dict[str, _timing.Compiled]:
    """ "inference", predict(variables, given), if there is one, and a "step"; each call waits.

    The step is one of loss(params, others, given, key) -> (value, others), and goes on from its
    own result; the variables stay as they are.
    """
    found = {}
    if predict is not None:
        made = _timing.program(jax.jit(predict), variables, given)
        inference = made.call
        answer = lambda: jax.block_until_ready(inference(variables, given))
        found["inference"] = made._replace(call=answer)

    def step(state: Any, given: Any) -> tuple[Any, jax.Array]:
        params, others, opt_state, key = state
        key, drawn = jax.random.split(key)
        (value, others), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, others, given, drawn
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), others, opt_state, key), value

    copied = jax.tree.map(jnp.copy, dict(variables))
    params = copied.pop("params")
    holder: list[Any] = [(params, copied, optimizer.init(params), jax.random.key(0))]
    program = _timing.program(jax.jit(step, donate_argnums=0), holder[0], given)

    def call() -> None:
        holder[0], value = program.call(holder[0], given)
        jax.block_until_ready(value)

    return found | {"step": program._replace(call=call)}
