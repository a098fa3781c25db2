"""Results as runs write them, made by hand."""

import json


def record(metric, value, member=None, seed=0, stage="train"):
    return {"member": member, "seed": seed, "stage": stage, "metric": metric, "value": value}


RECORDS = [
    record("bound", -101.1, seed=0),
    record("log_likelihood", -95.0, seed=0, stage=None),
    record("bound", -101.5, seed=1),
    record("log_likelihood", -97.0, seed=1, stage=None),
]


def write_result(folder, **changes):
    result = {
        "experiment": "vae_mnist",
        "config": {"latent": 20},
        "metrics": RECORDS,
        "data": [{"name": "mnist", "split": "train", "origin": "official"}],
        "cost": {"wall_seconds": 90.0, "command": "python -m experiments.vae_mnist --seeds 2"},
        "hardware": {"devices": "1 x CPU", "cores": 2},
        "versions": {"jax": "0.10.2"},
        "commit": "abc",
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(result))
