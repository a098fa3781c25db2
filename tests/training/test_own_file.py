"""A user's own experiment file as a process: in a folder of its own, and with early flags."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


MINE = '''"""Fits a line, with nothing but the library.

python my_vae.py
"""

from dataclasses import dataclass

import jax
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from jaxstruct import training
from jaxstruct.metrics import Mean
from jaxstruct.training import Experiment, Stage, State, main, run


@dataclass(frozen=True)
class Config:
    latent: int = 4  # hidden units
    seed: int = 0


SMOKE = Config(latent=2)


def experiment(config: Config) -> Experiment:
    model = nn.Sequential([nn.Dense(config.latent), nn.tanh, nn.Dense(1)])
    x = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    optimizer = optax.adam(0.05)

    def init(key, previous):
        params = model.init(key, x[:1])["params"]
        return State.create(key, params, optimizer.init(params))

    def loss(params, model_state, batch, keys):
        guess = model.apply({"params": params}, batch["x"])
        return {"square": Mean.of(((guess - batch["x"] ** 2) ** 2)[:, 0])}, model_state

    def count(state, batch, valid, keys):
        terms, _ = loss(state.params, None, batch, keys)
        return {"error": Mean.of(
            ((model.apply({"params": state.params}, batch["x"]) - batch["x"] ** 2) ** 2)[:, 0],
            valid,
        )}

    def figures(run):
        figure = Figure()
        figure.subplots().plot(*run.curve("error"))
        return {"error": figure}

    def predict(key, state, image):
        return {"units": state.params["layers_0"]["bias"].shape[0]}, Figure()

    stage = Stage(
        name="train",
        steps=20,
        init=init,
        update=training.make_step(loss, optimizer),
        batches=training.shuffled_batches({"x": x}, 8, seed=config.seed),
        evaluate=training.make_evaluation(count, training.batches_in_order({"x": x}, 10)),
        evaluate_every=10,
    )
    return Experiment(config, [stage], figures=figures, predict=predict, best=("error", "min"))


if __name__ == "__main__":
    import sys
    if sys.argv[1:] == ["from python"]:
        found = run(experiment(Config(latent=3)), "by_hand")
        print(sorted(found.metrics), int(found.state.step))
    else:
        main(experiment, smoke=SMOKE)
'''


@pytest.mark.slow
def test_a_file_of_the_users_own_in_a_folder_of_its_own(place):
    (place / "my_vae.py").write_text(MINE)

    def python(*arguments):
        return subprocess.run(
            [sys.executable, "my_vae.py", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=place,
            capture_output=True,
            text=True,
        )

    trained = python("--smoke", "--deterministic", "--profile", "--devices", "2")
    assert trained.returncode == 0, trained.stderr
    assert "my_vae in runs/my_vae-smoke, on 2 x" in trained.stderr
    assert "Traceback" not in trained.stderr
    folder = place / "runs" / "my_vae-smoke"
    results = json.loads((folder / "metrics.json").read_text())
    assert [record["metric"] for record in results["metrics"]] == ["error"]
    assert results["cost"]["command"] == "python my_vae.py --smoke"
    assert (folder / "figures" / "error.png").exists()
    assert list((folder / "profile").glob("**/*.xplane.pb"))
    predicted = python("predict", "--smoke")
    assert (predicted.returncode, predicted.stdout) == (0, "predictions/samples.png\n")
    assert json.loads((place / "predictions/samples.json").read_text())["units"] == 2
    by_hand = python("from python")
    assert by_hand.stdout == "['error'] 20\n", by_hand.stderr
    assert (place / "by_hand" / "metrics.json").exists()


@pytest.mark.parametrize("verb", ["train", "predict", "scaled"])
@pytest.mark.slow
def test_deterministic_is_set_before_the_backend_starts(place, verb):
    """An experiment that makes arrays when it is made would start the backend too early."""
    code = """
import os, sys
import jax, jax.numpy as jnp
from jaxstruct.training import main
from tests.training import tiny
seen = []
def make(config: tiny.Config):
    jnp.zeros(1)
    seen.append(os.environ["XLA_FLAGS"])
    return tiny.experiment(config)
try:
    main(make, arguments=[*sys.argv[1:], "--workdir", "/proc/none"])
finally:
    print(sorted(set(seen)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, verb, "--deterministic"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": "--xla_cpu_enable_fast_math=false",
        },
        capture_output=True,
        text=True,
    )
    expected = ["--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=true"]
    assert result.stdout == f"{expected}\n", result.stderr
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
