"""A small experiment, and one of several processes that train it together.

python two_processes_worker.py FOLDER PORT INDEX PROCESSES writes FOLDER/INDEX.npz and .json.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from matplotlib.figure import Figure

from jaxstruct.metrics import Mean
from jaxstruct.training import (
    AXIS,
    Batches,
    Experiment,
    RunError,
    Stage,
    State,
    batches_in_order,
    make_collection,
    make_evaluation,
    make_game_step,
    make_step,
    run,
    shuffled_batches,
)

STEPS = 12


@dataclasses.dataclass(frozen=True)
class Config:
    kind: str = "plain"  # or "accumulated", "game"
    streamed: bool = False
    per_call: int = 1
    seed: int = 0


class Net(nn.Module):
    """Batch statistics of the whole batch, so that a device's own would show."""

    @nn.compact
    def __call__(self, x, train):
        # A bias before batch norm has no gradient but rounding, which Adam makes a step of.
        x = nn.Dense(8, use_bias=False)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8, axis_name=AXIS)(x)
        return nn.Dense(3)(nn.relu(x))


def examples(size, seed):
    """Images of 3 classes, of which the first half has few labels."""
    rng = np.random.default_rng(seed)
    chance = np.where(np.arange(size) < size // 2, 0.3, 0.9)
    label = rng.integers(0, 3, size, np.int32)
    image = rng.integers(0, 128, (size, 2, 2, 2)) + 40 * label[:, None, None, None]
    return {
        "image": image.astype(np.uint8),
        "label": label,
        "labelled": rng.random(size) < chance,
    }


def noisy(image, keys, scale):
    noise = jax.vmap(lambda key: jax.random.uniform(key, (2, 2, 2), minval=-1.0))(keys)
    return image + scale * noise


def on_the_host(draws, batch):
    noise = np.stack([draw.normal(size=(2, 2, 2)) for draw in draws])
    return {**batch, "image": batch["image"] / np.float32(255) + 0.01 * noise}


def on_the_device(keys, batch):
    return {**batch, "image": noisy(batch["image"] / jnp.float32(255), keys, 0.01)}


def classify(params, model_state, batch, keys):
    image = noisy(batch["image"], keys, 0.1)
    out, model_state = Net().apply(
        {"params": params, **model_state}, image, True, mutable=["batch_stats"]
    )
    entropy = optax.softmax_cross_entropy_with_integer_labels(out, batch["label"])
    terms = {"entropy": Mean.of(entropy, batch["labelled"]), "size": Mean.of(0.01 * out**2)}
    return terms, model_state


def score(params, image):
    return jnp.tanh(image.reshape(len(image), -1) @ params["judge"]["w"]).sum(1)


def made(params, keys):
    return noisy(params["maker"]["image"][None], keys, 0.3)


def judging(params, model_state, batch, keys):
    return {
        "real": Mean.of(nn.softplus(-score(params, batch["image"])), batch["labelled"]),
        "made": Mean.of(nn.softplus(score(params, made(params, keys)))),
    }, model_state


def making(params, model_state, batch, keys):
    return {"fooled": Mean.of(nn.softplus(-score(params, made(params, keys))))}, model_state


def experiment(config, *, evaluated=lambda state: None, steps=STEPS):
    """Two terms with uneven masks, noise, augmentation, batch norm; or a game of two players."""
    train, test = examples(50, 0), examples(21, 1)
    batches = shuffled_batches(train, 32, seed=config.seed)
    tested = batches_in_order(test, 8)
    if config.streamed:
        batches = Batches(
            batches.spec,
            batches.indices,
            lambda i: {key: x[i] for key, x in train.items()},
            on_the_host,
            config.seed,
        )
        tested = Batches(
            tested.spec, tested.indices, lambda i: {key: x[i] for key, x in test.items()}
        )
    else:
        batches = dataclasses.replace(batches, augment=on_the_device)

    if config.kind == "game":
        optimizers = {"judge": optax.adam(0.01), "maker": optax.adam(0.01)}
        update = make_game_step({"judge": judging, "maker": making}, optimizers, 2)
    else:
        optimizer = optax.adam(0.01)
        parts = 2 if config.kind == "accumulated" else 1
        update = make_step(classify, optimizer, accumulate=parts, clip_norm=1.0)

    def init(key, previous):
        if config.kind == "game":
            params = {
                "judge": {"w": 0.5 * jax.random.normal(key, (8, 4))},
                "maker": {"image": jnp.full((2, 2, 2), 0.5)},
            }
            state = {player: optimizers[player].init(params[player]) for player in params}
            return State.create(key, params, state)
        variables = Net().init(key, jnp.zeros((1, 2, 2, 2)), True)
        stats = {"batch_stats": variables["batch_stats"]}
        return State.create(key, variables["params"], optimizer.init(variables["params"]), stats)

    def count(state, batch, valid, keys):
        if config.kind == "game":
            right = score(state.params, noisy(batch["image"], keys, 0.1)) > 0
        else:
            variables = {"params": state.params, **state.model_state}
            out = Net().apply(variables, noisy(batch["image"], keys, 0.1), False)
            right = out.argmax(1) == batch["label"]
        return {"accuracy": Mean.of(right, valid)}

    def predict(state, batch, keys):
        noise = jax.vmap(lambda key: jax.random.uniform(key))(keys)
        return {"brightness": batch["image"].mean((1, 2, 3)) + noise, "label": batch["label"]}

    def finish(rows):
        # Neither adds up over batches; the second is of the order, too.
        places = np.arange(len(rows["label"]))
        order = float(np.mean(rows["brightness"] * places))
        return {"median": np.median(rows["brightness"]), "order": order, "rows": len(places)}

    swept = make_evaluation(count, tested)
    gathered = make_collection(predict, tested, finish)

    def evaluate(state):
        evaluated(state)
        return {**swept(state), **gathered(state)}

    stage = Stage(
        name="train",
        steps=steps,
        init=init,
        update=update,
        batches=batches,
        evaluate=evaluate,
        evaluate_every=4,
        log_every=4,
        steps_per_call=config.per_call,
    )

    def draw(run):
        # Measured by all processes together, as a detector's precision is.
        figure = Figure()
        figure.suptitle(f"{gathered(run.state)['median']:.6f}")
        return {"median": figure}

    return Experiment(config, [stage], figures=draw)


def arrays(state):
    """A state as {path: NumPy array}."""
    plain = state.replace(key=jax.random.key_data(state.key))
    leaves = jax.tree_util.tree_leaves_with_path(plain)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def outcome(run):
    """What two equal runs have in common."""
    records = [{k: v for k, v in r.items() if k != "cost"} for r in run.history]
    return {"history": records, "metrics": run.metrics}


def main(folder, port, index, processes):
    jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(index))
    assert len(jax.devices()) == 4
    states, outcomes = {}, {}

    def finished(name, run):
        states.update({f"{name}{key}": x for key, x in arrays(run.state).items()})
        outcomes[name] = outcome(run)

    for streamed in (False, True):
        name = "streamed" if streamed else "arrays"
        finished(name, run(experiment(Config(streamed=streamed)), folder / name))

    # Broken off at its second evaluation, and gone on with from the checkpoint of the first.
    calls = []

    def breaks(state):
        calls.append(int(state.step))
        if len(calls) == 2:
            raise RunError("planted")

    broken = experiment(Config(), evaluated=breaks)
    with pytest.raises(RunError, match="planted"):
        run(broken, folder / "resumed")
    calls_before = list(calls)
    finished("resumed", run(broken, folder / "resumed"))
    outcomes["calls"] = [calls_before, calls[len(calls_before) :]]
    np.savez(folder / f"{index}.npz", **states)
    (folder / f"{index}.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
