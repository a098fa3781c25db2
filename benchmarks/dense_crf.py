"""Fully connected CRFs against pydensecrf, on photographs that scikit-image brings along.

python -m benchmarks.dense_crf            # both; needs pydensecrf
python -m benchmarks.dense_crf --no-peer  # ours alone

One image from unaries to marginals, set-up included; new unaries of an image; a batch; how time and
memory grow with pixels and labels; how far both are from the exact marginals. The bilateral kernel
is wide or narrow. pydensecrf has one thread; it gets its unaries laid out as it wants them, and
nobody copies its results. --devices share the batches of a jitted function.

pydensecrf has to be built. Python 3.11: `pip install 'cython<3' 'setuptools<81' wheel`, then
`CYTHON_FORCE_REGEN=1 pip install --no-build-isolation --no-binary pydensecrf pydensecrf`. A newer
Python: `pip install cython setuptools wheel`, then in its unpacked source
`sed -i 's/from eigen cimport/from .eigen cimport/' pydensecrf/densecrf.pxd`,
`sed -i 's/^import eigen/from . import eigen/; s/^cimport eigen/from . cimport eigen/'
pydensecrf/densecrf.pyx`, `CYTHON_FORCE_REGEN=1 pip install --no-build-isolation --no-deps .`.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import _memory, _photographs, _timing
from jaxstruct import ops
from jaxstruct.ops import crf, gaussian

Row = dict[str, Any]

KERNELS = {
    "wide": {"bilateral_weight": 10.0, "sigma_xy": 80.0, "sigma_rgb": 13.0},
    "narrow": {"bilateral_weight": 4.0, "sigma_xy": 67.0, "sigma_rgb": 3.0},
}
GAUSSIAN = {"gaussian_weight": 3.0, "sigma_gaussian": 3.0}
SIZE, LABELS, ITERATIONS, BATCH = (375, 500), 21, 10, 8
PHOTOGRAPHS = 3
PIXELS = ((120, 160), (240, 320), (375, 500), (750, 1000), (1000, 1500))
COUNTS, COUNTED_AT = (2, 4, 8, 16, 21, 32, 64), (240, 320)  # of labels
POINTS, FEATURES, ANY = 2000, (5, 12, 30), "any"
EXACT_AT, NUMPY_AT, BACKPROPAGATED = (120, 160), (40, 50), (1, 5, 10)


class Case(NamedTuple):
    """What a dense CRF is asked."""

    image: np.ndarray  # [H, W, 3] uint8
    unary: np.ndarray  # [H, W, L] float32
    kernel: str

    def settings(self) -> dict[str, Any]:
        """The kernels, by the names that `ops.dense_crf` has for them."""
        return KERNELS[self.kernel] | GAUSSIAN

    def given(self, dtype: str) -> tuple[jax.Array, jax.Array]:
        """Unary and image as `ops.dense_crf` takes them."""
        return jnp.asarray(self.unary, dtype), jnp.asarray(self.image)

    def part(self, size: tuple[int, int]) -> Case:
        """The middle of it."""
        image, unary = (_photographs.middle(a, size) for a in (self.image, self.unary))
        return Case(image, unary, self.kernel)

    def vertices(self) -> int:
        """Of the lattice's remainder that has most."""
        sigmas = self.settings()["sigma_xy"], self.settings()["sigma_rgb"]
        features = crf.pixel_features(self.image, *sigmas)
        return int(ops.PermutohedralLattice.build(features.reshape(-1, 5)).used)


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("dense_crf", __doc__, batch_size=str(BATCH), peer="pydensecrf")
    only = "tables [all but accelerator; on one, that and accuracy]"
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help=only)
    options = parser.parse_args()
    devices, about = _timing.begin(options)
    if not options.no_peer:
        try:
            import pydensecrf.densecrf  # noqa: F401
        except ImportError as error:
            raise SystemExit(f"{error}: --help says how to build it; or --no-peer") from None
        about += f", pydensecrf {importlib.metadata.version('pydensecrf')}"
    print(f"{about}, load {os.getloadavg()[0]:.1f}")
    jax.monitoring.register_event_duration_secs_listener(_notice)
    fast = jax.default_backend() != "cpu"
    usual = [s for s in SECTIONS if s == "accuracy" or (s == "accelerator") == fast]
    for name in options.only or usual:
        section = SECTIONS[name]
        kernels = KERNELS if section is not features else [ANY]
        print(f"\n{name}: {' '.join(str(section.__doc__).split())}\n", flush=True)
        found = [(kernel, section(kernel, options, devices)) for kernel in kernels]
        _timing.print_table([{"kernel": kernel} | row for kernel, rows in found for row in rows])


def case(kernel: str, number: int = 0, size: Any = None, labels: int | None = None) -> Case:
    """One of the photographs, of `SIZE` and with `LABELS` by default."""
    image = _photographs.photograph(number, size or SIZE)
    return Case(image, _photographs.unaries(image, labels or LABELS), kernel)


def ours(asked: Case, dtype: str, **more: Any) -> Callable[[], jax.Array]:
    """The marginals, with all that it takes."""
    settings = asked.settings() | more
    f: Callable[..., Any] = functools.partial(ops.dense_crf, iterations=ITERATIONS, **settings)
    given = asked.given(dtype)
    return lambda: jax.block_until_ready(f(*given))


def peer(asked: Case) -> Callable[[], np.ndarray]:
    """pydensecrf's marginals, with all that it takes."""
    unary = flat(asked.unary)
    return lambda: peer_inference(peer_kernels(asked), unary)


def peer_kernels(asked: Case) -> Any:
    """pydensecrf's object, for any unaries of this image."""
    from pydensecrf import densecrf

    height, width, labels = asked.unary.shape
    settings = asked.settings()
    made = densecrf.DenseCRF2D(width, height, labels)
    made.addPairwiseGaussian(settings["sigma_gaussian"], settings["gaussian_weight"])
    sigmas = settings["sigma_xy"], settings["sigma_rgb"]
    made.addPairwiseBilateral(*sigmas, asked.image, settings["bilateral_weight"])
    return made


def peer_inference(made: Any, unary: np.ndarray) -> np.ndarray:
    """[L, N], in pydensecrf's memory."""
    made.setUnaryEnergy(unary)
    return np.asarray(made.inference(ITERATIONS))


def flat(values: Any) -> np.ndarray:
    """[H, W, L] as [L, N] float32."""
    wide = np.asarray(values, np.float32)
    return np.ascontiguousarray(wide.reshape(-1, wide.shape[-1]).T)


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """The mean of |dQ|."""
    return float(np.abs(left - right).mean())


def timed(
    mine: Callable[[], Any], theirs: Callable[[], Any] | None, repeats: int, images: int = 1
) -> Row:
    """Milliseconds of an image, and how many times faster ours is."""
    calls = {"ours": mine} | ({"peer": theirs} if theirs else {})
    ms = {name: 1e3 * s / images for name, s in _timing.interleaved(calls, repeats).items()}
    return against(ms["ours"], ms.get("peer"))


def against(ours: float, peer: float | None) -> Row:
    """Columns of a row."""
    return {
        "ours, ms": ours,
        "pydensecrf, ms": peer or "-",
        "pydensecrf / ours": peer / ours if peer else "-",
    }


def single(kernel: str, options: argparse.Namespace, _: Any) -> list[Row]:
    """One image, set-up included."""
    rows = []
    for number in range(PHOTOGRAPHS):
        asked = case(kernel, number)
        mine, theirs = ours(asked, options.dtype), None if options.no_peer else peer(asked)
        first = _timing.first_call(mine)
        rows.append(
            {"photograph": _photographs.NAMES[number], "vertices": asked.vertices()}
            | timed(mine, theirs, options.repeats)
            | {"first call, s": first}
            | {"mean abs dQ": distance(flat(mine()), theirs()) if theirs else "-"}
        )
    return rows


_compiled: list[float] = []


def _notice(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(duration_secs)


def repeated(kernel: str, options: argparse.Namespace, _: Any) -> list[Row]:
    """Three unaries in turn, kernels made once; programs compiled after the first call."""
    asked = case(kernel)
    unaries = [_photographs.unaries(asked.image, LABELS, seed) for seed in range(3)]
    given, image = [jnp.asarray(u, options.dtype) for u in unaries], jnp.asarray(asked.image)
    make = functools.partial(crf.pixel_kernels, image, **asked.settings())
    infer = functools.partial(ops.mean_field, kernels=make(), iterations=ITERATIONS)
    mine = {
        "set-up": lambda: jax.block_until_ready(make()),
        "inference": lambda: jax.block_until_ready([infer(u) for u in given]),
    }
    theirs: dict[str, Callable[[], Any]] = {}
    if not options.no_peer:
        made, flats = peer_kernels(asked), [flat(u) for u in unaries]
        theirs["set-up"] = lambda: peer_kernels(asked)
        theirs["inference"] = lambda: [peer_inference(made, u) for u in flats]
    rows = []
    for what, call in mine.items():
        call()
        before = len(_compiled)
        images = len(unaries) if what == "inference" else 1
        row = timed(call, theirs.get(what), options.repeats, images)
        rows.append({"": what} | row | {"compiled": len(_compiled) - before})
    return rows


def several(asked: Sequence[Case], dtype: str) -> tuple[Callable[..., jax.Array], list[jax.Array]]:
    """A function of unaries and images that jit has room for, and these arguments, stacked."""
    f = functools.partial(ops.dense_crf, iterations=ITERATIONS, **asked[0].settings())
    given = [jnp.stack(a) for a in zip(*(one.given(dtype) for one in asked), strict=True)]
    return functools.partial(f, capacity=max(one.vertices() for one in asked)), given


def shared(f: Callable[..., Any], devices: list[jax.Device], *given: jax.Array) -> _timing.Compiled:
    """The program for a batch that the devices share."""
    if len(devices) > 1:
        mesh = jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices)
        spec = PartitionSpec("batch")
        f = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        given = jax.device_put(given, NamedSharding(mesh, spec))
    return _timing.compiled(f, *given)


def batch(kernel: str, options: argparse.Namespace, devices: list[jax.Device]) -> list[Row]:
    """Different images together; jitted with room for the largest lattice among them."""
    number = (options.batch_size or BATCH) * len(devices)
    asked = [case(kernel, i) for i in range(number)]
    singles = [ours(one, options.dtype) for one in asked]
    roomy, given = several(asked, options.dtype)
    jitted, mapped = (shared(f, devices, *given) for f in (roomy, jax.vmap(roomy)))
    eager = functools.partial(roomy, capacity=None)
    calls: dict[str, Callable[[], Any]] = {
        "one by one": lambda: [call() for call in singles],
        "batch": lambda: jax.block_until_ready(eager(*given)),
        "jit(batch)": jitted.call,
        "jit(vmap)": mapped.call,
    }
    if not options.no_peer:
        theirs = [peer(one) for one in asked]
        calls["pydensecrf"] = lambda: [call() for call in theirs]
    ms = {k: 1e3 * s / number for k, s in _timing.interleaved(calls, options.repeats).items()}
    seconds = {"jit(batch)": jitted.seconds, "jit(vmap)": mapped.seconds}
    return [
        {
            f"{number} images": way,
            "an image, ms": ms[way],
            "/ one by one": ms[way] / ms["one by one"],
            "compiling, s": seconds.get(way, "-"),
        }
        for way in ms
    ]


def pixels(kernel: str, options: argparse.Namespace, _: Any) -> list[Row]:
    """One photograph in all sizes; MiB: what the first call adds to a process of its own."""
    return [
        {"pixels": f"{size[0]}x{size[1]}"} | scaled(case(kernel, size=size), options)
        for size in PIXELS
    ]


def labels(kernel: str, options: argparse.Namespace, _: Any) -> list[Row]:
    """One photograph, more and more labels; MiB as for pixels."""
    return [{"labels": n} | scaled(case(kernel, 0, COUNTED_AT, n), options) for n in COUNTS]


def scaled(asked: Case, options: argparse.Namespace) -> Row:
    """Time and memory; a third of the rounds where they take long."""
    theirs = None if options.no_peer else peer(asked)
    large = asked.unary.size > 2 * SIZE[0] * SIZE[1] * LABELS
    repeats = max(options.repeats // 3, 1) if large else options.repeats
    row = timed(ours(asked, options.dtype), theirs, repeats)
    small = asked.part((24, 32))
    return (
        {"vertices": asked.vertices()}
        | row
        | {"ours, ns a pixel and label": row["ours, ms"] * 1e6 / asked.unary.size}
        | {"ours, MiB": _memory.growth(ours, small, asked, options.dtype)}
        | {"pydensecrf, MiB": _memory.growth(peer, small, asked) if theirs else "-"}
    )


def accuracy(kernel: str, options: argparse.Namespace, _: Any) -> list[Row]:
    """From the exact marginals: |dQ|, pixels of another label; and the lattice's gradient."""
    rows = []
    for number in range(PHOTOGRAPHS):
        image = _photographs.detail(number, EXACT_AT)
        asked = Case(image, _photographs.unaries(image, LABELS), kernel)
        exact = flat(ours(asked, "float32", filter="exact")())
        row: Row = {"photograph": _photographs.NAMES[number]}
        found = {"ours": flat(ours(asked, options.dtype)())}
        if not options.no_peer:
            found["pydensecrf"] = peer(asked)()
        for whose, q in found.items():
            row[f"{whose}, mean abs dQ"] = distance(q, exact)
            row[f"{whose}, other labels"] = f"{(q.argmax(0) != exact.argmax(0)).mean():.2%}"
        part = asked.part(NUMPY_AT)
        error = flat(ours(part, "float32", filter="exact")()) - in_numpy(part)
        row["exact - NumPy, max"] = float(np.abs(error).max())
        for n in BACKPROPAGATED:
            lattice, right = gradient(asked, "lattice", n), gradient(asked, "exact", n)
            row[f"cosine of gradients, {n} iterations"] = f"{(lattice * right).sum():.4f}"
        rows.append(row)
    return rows


def gradient(asked: Case, filter: gaussian.FilterName, iterations: int) -> np.ndarray:
    """The unaries' gradient, of norm 1, of the cross-entropy with what they were made of."""
    truth = jnp.asarray(_photographs.segments(asked.image, asked.unary.shape[-1]))[..., None]
    unary, image = asked.given("float32")

    def loss(unary: jax.Array) -> jax.Array:
        q = ops.dense_crf(unary, image, iterations=iterations, filter=filter, **asked.settings())
        return -jnp.log(jnp.take_along_axis(q, truth, -1) + 1e-6).mean()

    found = np.asarray(jax.grad(loss)(unary), np.float64)
    return found / np.linalg.norm(found)


def in_numpy(asked: Case) -> np.ndarray:
    """The marginals [L, N] by the formulas, all pairs, float64."""
    from scipy.special import softmax

    settings = asked.settings()
    places = np.indices(asked.image.shape[:2])[::-1].reshape(2, -1).T
    colors = asked.image.reshape(-1, 3) / settings["sigma_rgb"]
    weighted = np.zeros((len(places), len(places)))
    for features, weight in (
        (np.hstack([places / settings["sigma_xy"], colors]), settings["bilateral_weight"]),
        (places / settings["sigma_gaussian"], settings["gaussian_weight"]),
    ):
        kernel = np.exp(-0.5 * sum((f[:, None] - f) ** 2 for f in features.T))
        scale = kernel.sum(1) ** -0.5
        weighted += weight * scale[:, None] * kernel * scale
    costs = flat(asked.unary).astype(np.float64)
    q = softmax(-costs, axis=0)
    for _ in range(ITERATIONS):
        q = softmax(q @ weighted - costs, axis=0)
    return q


def accelerator(kernel: str, options: argparse.Namespace, devices: list[jax.Device]) -> list[Row]:
    """Jitted, time by image; |dQ| from the exact marginals; pydensecrf on the CPU."""
    batches = [options.batch_size] if options.batch_size else [BATCH, 2 * BATCH]
    batches = [number * len(devices) for number in batches]
    asked = [case(kernel, i) for i in range(max(batches))]
    roomy, given = several(asked, options.dtype)
    one = [a[0] for a in given]
    made = {
        (f"lattice, {number} images", number): shared(roomy, devices, *(a[:number] for a in given))
        for number in batches
    }
    made["lattice", 1] = _timing.compiled(roomy, *one)
    made["exact", 1] = _timing.compiled(functools.partial(roomy, filter="exact"), *one)
    exact = flat(made["exact", 1].call())
    calls = {name: program.call for (name, _), program in made.items()}
    if not options.no_peer:
        calls["pydensecrf"] = peer(asked[0])
    ms = {name: 1e3 * s for name, s in _timing.interleaved(calls, options.repeats).items()}
    rows = []
    for (name, number), program in made.items():
        q = program.call()
        rows.append(
            {
                "": name,
                **against(ms[name] / number, ms.get("pydensecrf")),
                "compiling, s": program.seconds,
                "memory, MiB": program.mebibytes,
                "mean abs dQ": distance(flat(q[0] if q.ndim == 4 else q), exact),
            }
        )
    return rows


def features(_kernel: str, options: argparse.Namespace, _: Any) -> list[Row]:
    """Gaussian filters of points with any features, by the lattice: compiling, and a call."""
    rows = []
    for depth in FEATURES:
        points = np.random.default_rng(0).normal(size=(POINTS, depth))
        given = jnp.asarray(points[:, :1], options.dtype), jnp.asarray(points, options.dtype)
        program = _timing.compiled(functools.partial(ops.gaussian_filter, capacity=POINTS), *given)
        ms = timed(program.call, None, options.repeats)["ours, ms"]
        rows.append({"features": depth, "compiling, s": program.seconds, "ours, ms": ms})
    return rows


TABLES = single, repeated, batch, pixels, labels, accuracy, features, accelerator
SECTIONS = {made.__name__: made for made in TABLES}


if __name__ == "__main__":
    main()
