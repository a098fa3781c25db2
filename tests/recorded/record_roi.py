"""Records torchvision's answers for the ops over regions: python tests/recorded/record_roi.py

Needs torch and torchvision, which the tests do not. Writes ops_roi.npz beside this file: for each
case its name, its options as JSON, the arguments, the values, the gradient and, of pooling, the
index of the maximum.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision

SHAPE = (13, 17, 3)
POOL = [
    {"output_size": 7, "spatial_scale": 1 / 16},
    {"output_size": 7, "spatial_scale": 1.0},
    {"output_size": 6, "spatial_scale": 1 / 3},
    {"output_size": 2, "spatial_scale": 1 / 16},
    {"output_size": 1, "spatial_scale": 0.3},
    {"output_size": [3, 5], "spatial_scale": 0.25},
    {"output_size": [14, 2], "spatial_scale": 1 / 16},
]
ALIGN = [
    {"output_size": 7, "spatial_scale": 1 / 16, "sampling_ratio": 2, "aligned": False},
    {"output_size": 7, "spatial_scale": 1 / 16, "sampling_ratio": 2, "aligned": True},
    {"output_size": 7, "spatial_scale": 1 / 16, "sampling_ratio": 0, "aligned": False},
    {"output_size": 7, "spatial_scale": 1 / 16, "sampling_ratio": 0, "aligned": True},
    {"output_size": 2, "spatial_scale": 1.0, "sampling_ratio": 1, "aligned": False},
    {"output_size": [3, 5], "spatial_scale": 0.25, "sampling_ratio": 3, "aligned": True},
    {"output_size": [5, 2], "spatial_scale": 0.3, "sampling_ratio": 0, "aligned": True},
    {"output_size": [1, 2], "spatial_scale": 1 / 3, "sampling_ratio": 0, "aligned": False},
]


def regions(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Regions [R, 4] in pixels, of every kind, for features of SHAPE."""
    height, width, _ = SHAPE
    corners = rng.uniform(0, 1, (12, 2, 2)) * [width, height]
    inside = np.concatenate([corners.min(1), corners.max(1)], -1)
    unclipped = rng.uniform(-8, 24, (8, 2, 2))
    unclipped = np.concatenate([unclipped.min(1), unclipped.max(1)], -1)
    malformed = rng.uniform(0, 13, (6, 4))
    malformed[:3] = malformed[:3][:, [2, 3, 0, 1]]
    halves = np.floor(rng.uniform(-2, 17, (10, 4))) + 0.5
    whole = np.floor(rng.uniform(-2, 17, (8, 4)))
    special = [
        [0, 0, width, height],
        [0, 0, width - 1, height - 1],
        [5, 5, 5, 5],
        [-30, -30, -20, -20],
        [40, 2, 50, 9],
        [3, 30, 9, 40],
        [-9, 4, 2, 30],
        [2.5, 3.5, 9.5, 10.5],
        [-0.5, -0.5, 0.5, 0.5],
        [-1.5, -2.5, 1.5, 2.5],
        [4, 4, 5, 5],
    ]
    cells = np.concatenate([inside, unclipped, malformed, halves, whole, special])
    return (cells / scale).astype(np.float32)


def features(rng: np.random.Generator, ties: bool) -> np.ndarray:
    """Features of SHAPE, without two equal values, or full of them and with some NaN."""
    values = rng.permutation(np.prod(SHAPE)).reshape(SHAPE).astype(np.float32) / 64 - 3
    if ties:
        values = np.maximum(rng.integers(-3, 4, SHAPE), 0).astype(np.float32)
        values[rng.uniform(size=SHAPE) < 0.05] = np.nan
    return values


def first(array: np.ndarray) -> torch.Tensor:
    """Channels first, for torchvision."""
    return torch.from_numpy(np.moveaxis(array, -1, -3).copy())


def last(tensor: torch.Tensor) -> np.ndarray:
    """Channels last, as here."""
    return np.moveaxis(tensor.detach().numpy(), -3, -1).copy()


def main() -> None:
    """Asks torchvision and writes the file."""
    rng = np.random.default_rng(0)
    recorded: dict[str, np.ndarray] = {
        "versions": np.array(f"torch {torch.__version__}, torchvision {torchvision.__version__}")
    }
    cases = [("pool", options, ties) for options in POOL for ties in (False, True)]
    cases += [("align", options, False) for options in ALIGN]
    for i, (op, options, ties) in enumerate(cases):
        x, rois = features(rng, ties), regions(rng, options["spatial_scale"])
        if options.get("aligned") and options["sampling_ratio"] == 0:
            # torchvision ends with an error on a region that has a negative number of samples.
            rois = rois[(rois[:, 2] >= rois[:, 0]) & (rois[:, 3] >= rois[:, 1])]
        size = np.broadcast_to(options["output_size"], 2).tolist()
        batch = first(x)[None].requires_grad_()
        with_index = torch.from_numpy(np.pad(rois, ((0, 0), (1, 0))))
        # Whole numbers: their sums are exact in any order.
        pulled = rng.integers(1, 1000, (len(rois), *size, SHAPE[-1])).astype(np.float32)
        if op == "pool":
            out = torchvision.ops.roi_pool(batch, with_index, size, options["spatial_scale"])
            _, index = torch.ops.torchvision.roi_pool(
                batch, with_index, options["spatial_scale"], *size
            )
            recorded[f"{i}/index"] = last(index).astype(np.int16)
        else:
            out = torchvision.ops.roi_align(
                batch,
                with_index,
                size,
                options["spatial_scale"],
                options["sampling_ratio"],
                options["aligned"],
            )
        out.backward(first(pulled))
        recorded |= {
            f"{i}/op": np.array(op),
            f"{i}/options": np.array(json.dumps(options)),
            f"{i}/features": x,
            f"{i}/rois": rois,
            f"{i}/out": last(out),
            f"{i}/pulled": pulled.astype(np.int16),
            f"{i}/gradient": last(batch.grad)[0],
        }
    np.savez_compressed(Path(__file__).with_name("ops_roi.npz"), **recorded)
    print(f"{len(cases)} cases, {recorded['versions']}")


if __name__ == "__main__":
    main()
