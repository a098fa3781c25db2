"""ROI pooling and ROIAlign (7x7) against torchvision's, forward and forward + backward.

python -m benchmarks.roi            # both; needs torch and torchvision
python -m benchmarks.roi --no-peer  # ours alone

Three questions: how the ops compare on VGG16's conv5 with regions as of Selective Search, and on a
level of a feature pyramid; whether a batch of B costs B times one, written as a batch or under
vmap; what they cost to compile and in memory. torchvision's CPU ops want channels first and
contiguous, so that is how the peer gets its features.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import _timing, _torch
from jaxstruct import ops
from jaxstruct.training import parallel

SIZE, RATIO = 7, 2
# torchvision 0.29 has no kernel of these ops for bfloat16: ours stands alone there.
PEER_DTYPES = ("float32",)
SCALING = (2, 8)


class Case(NamedTuple):
    """Features and how many regions of an image they come from."""

    name: str
    shape: tuple[int, int, int]
    regions: int
    stride: int


CASES = [
    Case("conv5, 300", (38, 50, 512), 300, 16),
    Case("conv5, 2000", (38, 50, 512), 2000, 16),
    Case("stride 4, 1000", (200, 272, 256), 1000, 4),
]


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("roi", __doc__, batch_size="1")
    parser.add_argument("--only", default="", help="rows whose op and case have this in them")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the table over B")
    options = parser.parse_args()
    devices = parallel.choose(options.devices)
    about = f"{_timing.about(devices)}, {options.dtype}, batch {options.batch_size or 1}"
    if not options.no_peer:
        import torchvision

        about += f", {_torch.start()}, torchvision {torchvision.__version__}"
        about += f", load {os.getloadavg()[0]:.1f}"
    print(about)
    rows = [
        row
        for op in ("roi_pool", "roi_align")
        for case in CASES
        if options.only in f"{op} {case.name}"
        for row in compare(op, case, options, devices)
    ]
    if not rows:
        ops_and_cases = ", ".join(case.name for case in CASES)
        parser.error(
            f"no row has {options.only!r} in it; there are roi_pool, roi_align and {ops_and_cases}"
        )
    _timing.print_table(rows)
    if not options.no_scaling:
        _timing.print_table([scaling(op, CASES[0], options) for op in ("roi_pool", "roi_align")])


def regions(case: Case, batch: int, seed: int = 0) -> np.ndarray:
    """[B, R, 4] in pixels: sides from 20 pixels to the image, log-uniform, as proposals have."""
    rng = np.random.default_rng(seed)
    height, width = (size * case.stride for size in case.shape[:2])
    n = (batch, case.regions)
    across = np.exp(rng.uniform(np.log(20), np.log(width), n))
    down = np.clip(across * np.exp(rng.normal(0, 0.5, n)), 20, height)
    x, y = rng.uniform(0, 1, n) * (width - across), rng.uniform(0, 1, n) * (height - down)
    return np.stack([x, y, x + across, y + down], -1).astype(np.float32)


def arguments(case: Case, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features after a ReLU, regions and a gradient, float32, channels last."""
    rng = np.random.default_rng(1)
    features = np.maximum(rng.normal(size=(batch, *case.shape)).astype(np.float32), 0)
    pulled = rng.normal(size=(batch, case.regions, SIZE, SIZE, case.shape[-1]))
    return features, regions(case, batch), pulled.astype(np.float32)


def ours(op: str, case: Case) -> Callable[..., jax.Array]:
    """The op with its options, as a function of features and regions."""
    more = {"sampling_ratio": RATIO} if op == "roi_align" else {}
    scale = 1 / case.stride
    return functools.partial(getattr(ops, op), output_size=SIZE, spatial_scale=scale, **more)


def both(f: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """f and the gradient of its features, as one function."""

    def forward_backward(x: jax.Array, rois: jax.Array, pulled: jax.Array) -> tuple:
        out, pull = jax.vjp(lambda x: f(x, rois), x)
        return out, pull(pulled)[0]

    return forward_backward


def compiled(
    f: Callable[..., Any], *given: jax.Array, devices: list[jax.Device]
) -> _timing.Compiled:
    """The program for a batch that the devices share."""
    if len(devices) > 1:
        mesh = jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices)
        spec = PartitionSpec("batch")
        f = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)
        given = jax.device_put(given, NamedSharding(mesh, spec))
    return _timing.compiled(f, *given)


def peer(op: str, case: Case, given: tuple[np.ndarray, ...], dtype: str) -> tuple[Callable, ...]:
    """torchvision's forward, and forward + backward."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    features, rois, pulled = given
    batch = len(features)
    index = np.repeat(np.arange(batch, dtype=np.float32), case.regions)[:, None]
    with_index = np.concatenate([index, rois.reshape(-1, 4)], 1)
    pulled = np.moveaxis(pulled.reshape(-1, *pulled.shape[2:]), -1, 1)
    x, boxes, g = (
        torch.from_numpy(np.ascontiguousarray(a)).to(device, getattr(torch, dtype))
        for a in (np.moveaxis(features, -1, 1), with_index, pulled)
    )
    more = {"sampling_ratio": RATIO} if op == "roi_align" else {}
    f = functools.partial(
        getattr(torchvision.ops, op), output_size=SIZE, spatial_scale=1 / case.stride, **more
    )
    leaf = x.clone().requires_grad_()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.no_grad():
            f(x, boxes)
        wait()

    def forward_backward() -> None:
        leaf.grad = None
        f(leaf, boxes).backward(g)
        wait()

    return forward, forward_backward


def compare(
    op: str, case: Case, options: argparse.Namespace, devices: list[jax.Device]
) -> list[dict[str, Any]]:
    """The rows of one op and case: forward, and forward + backward."""
    given = arguments(case, (options.batch_size or 1) * len(devices))
    dtype = jnp.dtype(options.dtype)
    arrays = [jnp.asarray(given[0], dtype), jnp.asarray(given[1]), jnp.asarray(given[2], dtype)]
    f = ours(op, case)
    functions = {"forward": (f, arrays[:2]), "forward + backward": (both(f), arrays)}
    peers: dict[str, Callable] = {}
    if not options.no_peer and options.dtype in PEER_DTYPES:
        peers = dict(zip(functions, peer(op, case, given, options.dtype), strict=True))
    rows = []
    for name, (function, inputs) in functions.items():
        made = compiled(function, *inputs, devices=devices)
        calls = {"ours": made.call}
        if name in peers:
            calls["peer"] = peers[name]
        seconds = _timing.interleaved(calls, options.repeats)
        theirs = seconds.get("peer")
        rows.append(
            {
                "op": op,
                "case": case.name,
                "": name,
                "ours, ms": seconds["ours"] * 1e3,
                "torchvision, ms": theirs * 1e3 if theirs else "-",
                "torchvision / ours": theirs / seconds["ours"] if theirs else "-",
                "compiling, s": made.seconds,
                "memory, MiB": made.mebibytes,
            }
        )
    return rows


def scaling(op: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Forward + backward of a batch, as a multiple of B times one example; goal: 1.2 at most."""
    dtype = jnp.dtype(options.dtype)
    device = jax.devices()[:1]
    calls = {}
    for batch in (1, *SCALING):
        x, rois, pulled = arguments(case, batch)
        # Every example has the regions of the first, so that B of them are B times its work.
        rois = np.broadcast_to(rois[:1], rois.shape)
        inputs = [jnp.asarray(x, dtype), jnp.asarray(rois), jnp.asarray(pulled, dtype)]
        f = both(ours(op, case))
        calls[f"batch {batch}"] = compiled(f, *inputs, devices=device).call
        calls[f"vmap {batch}"] = compiled(jax.vmap(f), *inputs, devices=device).call
    # One example alone, not as a batch of one.
    calls["one"] = compiled(both(ours(op, case)), *(a[0] for a in inputs), devices=device).call
    seconds = _timing.interleaved(calls, options.repeats)
    row: dict[str, Any] = {"op": op, "case": case.name, "one, ms": seconds["one"] * 1e3}
    for batch in SCALING:
        for way in ("batch", "vmap"):
            share = seconds[f"{way} {batch}"] / (batch * seconds["one"])
            row[f"{way} of {batch} / ({batch} x one)"] = share
    return row


if __name__ == "__main__":
    main()
