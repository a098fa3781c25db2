"""The VAE's training step (784-500-20, batch 100, Adam) against PyTorch's.

python -m benchmarks.vae_step            # both; needs the extra `bench`
python -m benchmarks.vae_step --no-peer  # ours alone

Two questions: the step alone, on a batch that is there already; and a whole training, with
shuffled data, logging and checkpoints in `run`, against a PyTorch loop with its DataLoader.
The peer is shown twice: as its tutorials write it (eager, Adam), and at its best (compiled model
and loss, fused Adam, the faster of 0 and 2 DataLoader workers).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _timing
from experiments import _vae
from jaxstruct import losses
from jaxstruct.data import Examples
from jaxstruct.models import VAE, BernoulliDecoder, GaussianEncoder
from jaxstruct.training import Experiment, parallel, run
from jaxstruct.training.keys import stage_key

HIDDEN, LATENT, PIXELS = 500, 20, 784
EXAMPLES = 10_000
STEPS_PER_CALL = _vae.STEPS_PER_CALL


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vae_step", description=__doc__)
    parser.add_argument("--devices", type=int, help="how many devices share a batch [all]")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=15, help="rounds of the step alone [15]")
    parser.add_argument("--steps", type=int, default=4000, help="of a whole training [4000]")
    parser.add_argument("--no-peer", action="store_true", help="ours alone; needs no torch")
    options = parser.parse_args()
    devices = parallel.choose(options.devices)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, 28, 28, 1), np.uint8)

    ours = ours_alone(images, options, devices)
    calls, first, flops = ours
    trainings: dict[str, Callable[[], float]] = {}
    about = f"{_timing.about(devices)}, {options.dtype}, batch {options.batch_size}"
    if not options.no_peer:
        import torch

        about += f", torch {torch.__version__}"
        for name, best in (("PyTorch, default", False), ("PyTorch, best", True)):
            peer = Peer(images, options, best)
            calls[name], first[name] = peer.steps, _timing.first_call(peer.steps)
            trainings |= peer.trainings(name)
    seconds = _timing.interleaved(calls, options.repeats)
    alone = {name: s / STEPS_PER_CALL for name, s in seconds.items()}

    costs: list[dict[str, Any]] = []
    trainings["ours"] = lambda: _train_ours(images, options, devices, costs)
    measured: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(3):
        for name, train in trainings.items():
            measured[name].append(train())
    whole = {name: float(np.median(values)) for name, values in measured.items()}
    workers = [name for name in whole if "workers" in name]
    if workers:
        chosen = min(workers, key=lambda name: whole[name])
        whole["PyTorch, best"] = whole[chosen]
        about += f", {chosen.split(', ')[-1]}"

    print(about)
    rows = []
    for name, step in alone.items():
        end_to_end = whole.get("ours" if name.startswith("ours") else name)
        rows.append(
            {
                "": name,
                "step, ms": step * 1e3,
                "PyTorch's best / this": _ratio(alone.get("PyTorch, best"), step),
                "rate": _timing.share_of_peak(flops, step, devices),
                "first call, s": first[name],
                f"{options.steps} steps of training, s": end_to_end or "-",
                "training, PyTorch's best / this": _ratio(whole.get("PyTorch, best"), end_to_end),
            }
        )
    _timing.print_table(rows)
    middle = sorted(costs, key=lambda cost: cost["total"])[len(costs) // 2]
    working = middle["total"] - middle["compiling"]
    print(
        f"ours, of the time after compilation: {1 - middle['device'] / working:.1%} outside the "
        f"compiled call, of which {middle['saving'] / working:.1%} saving and "
        f"{middle['data'] / working:.1%} waiting for data"
    )


def _ratio(peer: float | None, ours: float | None) -> float | str:
    return peer / ours if peer and ours else "-"


def _experiment(images: np.ndarray, options: argparse.Namespace) -> Experiment:
    dtype = jnp.dtype(options.dtype)
    model = VAE(
        GaussianEncoder(HIDDEN, LATENT, dtype=dtype), BernoulliDecoder(HIDDEN, PIXELS, dtype=dtype)
    )
    epochs = options.steps * options.batch_size / EXAMPLES
    config = _vae.Config(
        hidden=HIDDEN, latent=LATENT, batch_size=options.batch_size, epochs=epochs, evaluations=1
    )
    data = Examples({"image": images})
    made = _vae.experiment(config, model, losses.BERNOULLI, data, data)
    # As in an experiment: ten checkpoints a run. Evaluation is left out, the peer has none.
    calls = max(1, made.stages[0].steps // STEPS_PER_CALL // 10)
    stage = replace(made.stages[0], evaluate=None, save_every=calls * STEPS_PER_CALL)
    return Experiment(config, [stage])


def ours_alone(
    images: np.ndarray, options: argparse.Namespace, devices: list[jax.Device]
) -> tuple[dict[str, Callable[[], Any]], dict[str, float], float | None]:
    """Calls of STEPS_PER_CALL steps, one by one and in one; their first calls; FLOPs of a step."""
    stage = _experiment(images, options).stages[0]
    x = images[: options.batch_size].astype(np.float32) / 255
    batch = jax.device_put(parallel.share({"image": x}, devices))
    root = jax.random.key(0)

    def several(state: Any, batch: Any) -> Any:
        return jax.lax.scan(lambda s, _: stage.update(s, batch), state, length=STEPS_PER_CALL)

    one = parallel.Call(stage.update, devices)
    all_in_one = parallel.Call(several, devices)
    states = {
        call: parallel.stack(stage.init(stage_key(root, 0), None), devices)
        for call in (one, all_in_one)
    }

    def one_by_one() -> None:
        for _ in range(STEPS_PER_CALL):
            states[one], terms = one(states[one], batch)
            if parallel.must_wait(devices):
                jax.block_until_ready(terms)
        jax.block_until_ready(states[one])

    def in_one() -> None:
        states[all_in_one], _ = all_in_one(states[all_in_one], batch)
        jax.block_until_ready(states[all_in_one])

    calls: dict[str, Callable[[], Any]] = {
        "ours": in_one,
        "ours, one step a call": one_by_one,
    }
    first = {name: _timing.first_call(call) for name, call in calls.items()}
    return calls, first, one.flops


def _train_ours(
    images: np.ndarray,
    options: argparse.Namespace,
    devices: list[jax.Device],
    costs: list[dict[str, Any]],
) -> float:
    """Seconds of a whole training after compilation, notes them by what they went to."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run(_experiment(images, options), folder, devices=devices)
        cost = json.loads((Path(folder) / "metrics.json").read_text("utf-8"))["cost"][
            "training_seconds"
        ]
    costs.append(cost)
    return cost["total"] - cost["compiling"]


class Peer:
    """The same model, loss and data in PyTorch."""

    def __init__(self, images: np.ndarray, options: argparse.Namespace, best: bool):
        import torch
        from torch import nn
        from torch.nn import functional

        self._best, self._options = best, options
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._images = torch.from_numpy(images.reshape(-1, PIXELS)).float() / 255
        torch.manual_seed(0)

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = nn.Linear(PIXELS, HIDDEN)
                self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
                self.decoder = nn.Linear(LATENT, HIDDEN)
                self.logits = nn.Linear(HIDDEN, PIXELS)

            def forward(self, x: Any) -> Any:
                h = torch.tanh(self.encoder(x))
                mean, log_variance = self.mean(h), self.log_variance(h)
                z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
                logits = self.logits(torch.tanh(self.decoder(z)))
                entropy = functional.binary_cross_entropy_with_logits(
                    logits.float(), x, reduction="sum"
                )
                kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).float().sum()
                return (entropy + kl) / len(x)

        model = Model().to(self._device)
        self._loss: Any = torch.compile(model) if best else model
        self._optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=best or None)
        self._batch = self._images[: options.batch_size].to(self._device)

    def _step(self, x: Any) -> Any:
        import torch

        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            self._device, dtype=torch.bfloat16, enabled=self._options.dtype == "bfloat16"
        ):
            loss = self._loss(x)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def steps(self) -> None:
        """STEPS_PER_CALL steps on one batch, waited for."""
        for _ in range(STEPS_PER_CALL):
            loss = self._step(self._batch)
        loss.item()

    def trainings(self, name: str) -> dict[str, Callable[[], float]]:
        """Whole trainings by name: of the best peer with and without workers of the DataLoader."""
        if not self._best:
            return {name: functools.partial(self._train, 0)}
        return {
            f"{name}, {workers} workers": functools.partial(self._train, workers)
            for workers in (0, 2)
        }

    def _train(self, workers: int) -> float:
        from torch.utils.data import DataLoader, TensorDataset

        loader: Any = DataLoader(
            TensorDataset(self._images),
            batch_size=self._options.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            # A fork of a process with JAX's threads may dead-lock.
            multiprocessing_context="spawn" if workers else None,
            pin_memory=self._device == "cuda",
        )
        step, since = 0, time.perf_counter()
        while step < self._options.steps:
            for (x,) in loader:
                if step == 0:  # the start of the workers does not count
                    since = time.perf_counter()
                loss = self._step(x.to(self._device, non_blocking=True))
                step += 1
                if step % 100 == 0:
                    loss.item()  # the logging
                if step == self._options.steps:
                    break
        return time.perf_counter() - since


if __name__ == "__main__":
    main()
