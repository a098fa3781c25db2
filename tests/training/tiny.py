"""A tiny experiment of two stages: the tests run it in their process, or as a script to be killed.

The first stage steps five times a call through arrays on the device, the second reads batches
ahead in threads. `TINY_PAUSE` seconds pass in every evaluation of the training, so that a signal
finds it at work.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Batches,
    Experiment,
    Stage,
    State,
    main,
    make_step,
    shuffled_batches,
)


@dataclass(frozen=True)
class Config:
    features: int = 3  # inputs of the line that is fitted
    batch_size: int = 8  # examples a step
    rate: float = 0.1  # of Adam
    noise: Literal["none", "normal"] = "normal"  # added to the targets
    widths: tuple[int, ...] = (2, 1)  # written down, and not used
    bias: bool = False  # fit a constant too
    ballast: int = 0  # unused numbers in the state: a checkpoint that takes a while to write
    seed: int = 0  # of everything


SMOKE = Config(features=2)
PAPER = Config(rate=0.5, bias=True)


def arrays(config: Config, size: int = 40) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(size, config.features)).astype(np.float32)
    return {"x": x, "y": x.sum(1)}


def stage(name: str, config: Config, *, stream: bool = False, **changes) -> Stage:
    """Twenty steps, evaluated and saved after every five."""
    examples = arrays(config)
    optimizer = optax.adam(config.rate)

    def init(key: jax.Array, previous: State | None) -> State:
        if previous is not None:
            opt_state = optimizer.init(previous.params)
            return State.create(key, previous.params, opt_state, previous.model_state)
        params = {"w": jax.random.normal(key, (config.features,)), "b": jnp.zeros(())}
        ballast = jax.random.normal(jax.random.fold_in(key, 1), (config.ballast,))
        # Orbax saves no empty arrays.
        more = {"ballast": ballast} if config.ballast else {}
        return State.create(key, params, optimizer.init(params), more)

    def loss(params, model_state, batch, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key))(keys) * (config.noise == "normal")
        guess = batch["x"] @ params["w"] + params["b"] * config.bias
        return {"square": Mean.of((guess - batch["y"] + 0.1 * noise) ** 2)}, model_state

    def evaluate(state: State) -> dict[str, float]:
        time.sleep(float(os.environ.get("TINY_PAUSE", 0)) if int(state.step) else 0)
        guess = examples["x"] @ np.asarray(state.params["w"])
        return {"error": float(np.mean((guess - examples["y"]) ** 2))}

    batches = shuffled_batches(examples, config.batch_size, seed=config.seed)
    if stream:
        read = lambda indices: {key: x[indices] for key, x in examples.items()}
        batches = Batches(batches.spec, batches.indices, read, seed=config.seed)
    values = {
        "steps": 20,
        "init": init,
        "update": make_step(loss, optimizer),
        "batches": batches,
        "evaluate": evaluate,
        "evaluate_every": 5,
        "log_every": 5,
        "steps_per_call": 5,
    }
    return Stage(name=name, **(values | changes))


def figures(run) -> dict[str, Figure]:
    figure = Figure()
    figure.subplots().plot(*run.curve("error"))
    return {"error": figure}


def predict(key: jax.Array, state: State | None, image) -> tuple[dict, Figure]:
    figure = Figure(figsize=(1, 1))
    if image is None:
        return {"drawn": float(jax.random.normal(key))}, figure
    return {"shape": list(image.shape), "mean": float(image.mean())}, figure


@dataclass(frozen=True)
class Scaled:
    by: float = 2.0  # factor


def scaled(arguments: Scaled, run) -> None:
    print("scaled", arguments.by * run.metrics["second/error"])


def experiment(config: Config) -> Experiment:
    def score(states) -> dict[str, float]:
        print("scored")
        time.sleep(float(os.environ.get("TINY_PAUSE_SCORE", 0)))
        return {"weight": float(states["second"].params["w"].sum())}

    stages = [stage("first", config), stage("second", config, stream=True, steps_per_call=1)]
    return Experiment(
        config,
        stages,
        score=score,
        figures=figures,
        predict=predict,
        best=("second/error", "min"),
        commands={"scaled": (Scaled, scaled)},
    )


if __name__ == "__main__":
    main(experiment, smoke=SMOKE, paper=PAPER)
