"""Non-maximum suppression against torchvision's.

python -m benchmarks.nms                 # both; needs the extra `bench`
python -m benchmarks.nms --no-peer       # ours alone

One image with as many outputs as boxes: boxes that hardly touch (spread), that crowd an image as
proposals do (crowded), and many around few objects (clustered). Then the form by class, and a batch
under vmap against a loop of torchvision's. On a CPU both have the same number of threads, of which
torchvision uses one; on a GPU torchvision runs its CUDA kernel. Before anything is timed the
indices are compared: they have to be equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _timing
from jaxstruct import ops
from jaxstruct.training import parallel

THRESHOLD = 0.5
COUNTS = (300, 1000, 2000, 4000, 12_000)


@dataclass(frozen=True)
class Case:
    """One row: boxes [N, 4] or [B, N, 4], scores and perhaps labels; K outputs."""

    name: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None
    outputs: int


def layout(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes [count, 4] in an image of 800 by 800 pixels (spread: 4000 by 4000)."""
    if kind == "clustered":
        objects = max(2, count // 25)
        of = rng.integers(0, objects, count)
        centre = rng.uniform(0, 800, (objects, 2))[of] + rng.normal(0, 5, (count, 2))
        size = rng.uniform(50, 200, (objects, 2))[of] * np.exp(rng.normal(0, 0.1, (count, 2)))
    else:
        extent, low, high = {"spread": (4000, 8, 32), "crowded": (800, 20, 200)}[kind]
        centre, size = rng.uniform(0, extent, (count, 2)), rng.uniform(low, high, (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)


def cases(batch: int) -> Iterator[Case]:
    """All rows. No two scores are equal: torchvision's order of ties between classes is open."""
    rng = np.random.default_rng(0)
    scores = lambda *shape: (rng.permutation(np.prod(shape)) / np.prod(shape)).reshape(shape)
    for count in COUNTS:
        for kind in ("spread", "crowded", "clustered"):
            boxes = layout(kind, count, rng)
            yield Case(f"nms, {count} {kind}", boxes, scores(count), None, count)
    for kind in ("crowded", "clustered"):
        boxes = np.concatenate([layout(kind, 1000, rng) for _ in range(80)])
        labels = np.repeat(np.arange(80, dtype=np.int32), 1000)
        name = f"batched_nms, 80 classes of 1000 {kind}, K = 100"
        yield Case(name, boxes, scores(80_000), labels, 100)
    for kind in ("crowded", "clustered"):
        boxes = np.stack([layout(kind, 2000, rng) for _ in range(batch)])
        name = f"vmap(nms), {batch} images of 2000 {kind}"
        yield Case(name, boxes, scores(batch, 2000), None, 2000)


def ours(case: Case, dtype: jnp.dtype, device: jax.Device) -> _timing.Compiled:
    """The program of one row."""

    def one(boxes: jax.Array, scores: jax.Array, *labels: jax.Array) -> Any:
        call = ops.batched_nms if labels else ops.nms
        return call(boxes, scores, *labels, iou_threshold=THRESHOLD, max_outputs=case.outputs)

    arguments = [jnp.asarray(case.boxes, dtype), jnp.asarray(case.scores, dtype)]
    if case.labels is not None:
        arguments.append(jnp.asarray(case.labels))
    f = jax.vmap(one) if case.boxes.ndim == 3 else one
    return _timing.compiled(f, *jax.device_put(arguments, device))


def peer(case: Case) -> Callable[[], list[Any]]:
    """torchvision's call on the same numbers; one result for each image."""
    import torch
    import torchvision

    place = "cuda" if torch.cuda.is_available() else "cpu"
    boxes, scores = (
        torch.from_numpy(np.asarray(v, np.float32)).to(place) for v in (case.boxes, case.scores)
    )
    labels = None if case.labels is None else torch.from_numpy(case.labels).to(place)

    def call() -> list[Any]:
        if labels is not None:
            found = torchvision.ops.batched_nms(boxes, scores, labels, THRESHOLD)
            result = [found[: case.outputs]]
        elif boxes.ndim == 3:
            pairs = zip(boxes, scores, strict=True)
            result = [torchvision.ops.nms(*pair, THRESHOLD) for pair in pairs]
        else:
            result = [torchvision.ops.nms(boxes, scores, THRESHOLD)]
        if place == "cuda":
            torch.cuda.synchronize()
        return result

    return call


def compare(case: Case, call: Callable[[], Any], other: Callable[[], list[Any]]) -> None:
    """Raises SystemExit unless both keep the same boxes in the same order."""
    index, valid = (np.asarray(v).reshape(-1, case.outputs) for v in call())
    for i, v, expected in zip(index, valid, other(), strict=True):
        if not np.array_equal(i[v], expected.cpu().numpy()):
            raise SystemExit(f"{case.name}: other boxes than torchvision's")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nms", description=__doc__)
    parser.add_argument("--devices", type=int, default=1, help="the first of them is timed [1]")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float64"], default="float32")
    parser.add_argument("--batch-size", type=int, default=8, help="images under vmap [8]")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each row [15]")
    parser.add_argument("--no-peer", action="store_true", help="ours alone; needs no torch")
    options = parser.parse_args()
    devices = parallel.choose(options.devices)
    about = f"{_timing.about(devices)}, {options.dtype}, IoU threshold {THRESHOLD}"
    if not options.no_peer:
        import torch
        import torchvision

        about += f", torchvision {torchvision.__version__}, {torch.get_num_threads()} threads"
        if options.dtype != "float32":
            about += " (in float32)"
    print(about)
    with jax.enable_x64(options.dtype == "float64"):
        rows = [row(case, options, devices[0]) for case in cases(options.batch_size)]
    _timing.print_table(rows)


def row(case: Case, options: argparse.Namespace, device: jax.Device) -> dict[str, Any]:
    """One line of the table."""
    made = ours(case, jnp.dtype(options.dtype), device)
    calls: dict[str, Callable[[], Any]] = {"ours": made.call}
    if not options.no_peer:
        calls["torchvision"] = peer(case)
        # In another precision other boxes may be kept.
        if options.dtype == "float32":
            compare(case, made.call, peer(case))
    seconds = _timing.interleaved(calls, options.repeats)
    other = seconds.get("torchvision")
    return {
        "": case.name,
        "kept": int(np.sum(made.call()[1])),
        "ours, ms": seconds["ours"] * 1e3,
        "torchvision, ms": other * 1e3 if other else "-",
        "torchvision / ours": other / seconds["ours"] if other else "-",
        "compiling, s": made.seconds,
        "memory, MiB": made.mebibytes,
    }


if __name__ == "__main__":
    main()
