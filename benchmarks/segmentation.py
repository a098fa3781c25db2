"""Segmenters against the same networks in PyTorch, their parts, and a classifier that slides.

python -m benchmarks.segmentation            # needs torch
python -m benchmarks.segmentation --no-peer  # ours alone

FCN-8s on VGG16 with its head of 4,096 units, DeepLab-LargeFOV, and FCN-8s on EfficientNet-lite0,
with 21 classes and the same drawn weights in both, whose logits and loss have to agree before they
are timed. A step is the mean cross-entropy, the gradients of all parameters, and SGD with momentum;
no unit is dropped. PyTorch is timed in eager mode and compiled, its arrays in channels_last, its
optimiser fused; the fastest counts. --apart gives it a process of its own. The dense CRF's peer is
pydensecrf, where it is installed. The patches are those of experiments.fully_convolutional.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks import _timing, _torch, _training, dense_crf
from experiments import fully_convolutional
from jaxstruct import losses, models
from jaxstruct.models._pixels import to_pixels, whole_strides

Calls = dict[str, Callable[[], Any]]
Row = dict[str, Any]

CLASSES = 21
RATE = 1e-9  # of a step, so small that the drawn weights stay as they are
CRF_AT = 480, 640  # height and width of the image, in pixels
FRAME = 360, 480  # that patches are classified in
WIDTH = 32  # of their classifier, as the experiment has it
PARTS = {  # what each has of its own
    "trunk": "the trunk",
    "scores": "the head and the score layers",
    "pixels": "the upconvolutions, and the interpolation by 8",
    "loss": "the loss and its gradient by the logits",
}


class Case(NamedTuple):
    """A network and its images."""

    name: str
    size: tuple[int, int]  # height and width, in pixels
    batch: int
    parts: bool = False  # whether its parts are timed, too


VGG16, LARGE_FOV, LITE0 = "FCN-8s VGG16", "DeepLab-LargeFOV VGG16", "FCN-8s EfficientNet-lite0"
CASES = [
    Case(VGG16, (240, 320), 2, parts=True),
    Case(VGG16, (480, 640), 1),
    Case(LARGE_FOV, (240, 320), 2, parts=True),
    Case(LITE0, (240, 320), 4, parts=True),
]


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("segmentation", __doc__, batch_size="2, 1, 2 and 4")
    parser.add_argument("--only", default="", help="networks whose name has this in it")
    parser.add_argument("--no-parts", action="store_true", help="whole networks alone")
    parser.add_argument("--apart", action="store_true", help="PyTorch in a process of its own")
    options = parser.parse_args()
    devices = _torch.begin(options)
    (cases,) = _timing.chosen(parser, options.only, CASES)
    rows: list[Row] = []
    pieces: list[Row] = []
    for case in cases:
        found, more = compare(case, options, devices)
        rows, pieces = rows + found, pieces + more
        _torch.release()
    _timing.print_table(rows)
    if not options.no_parts:
        print()
        _timing.print_table([*pieces, crf(options)])
        print()
        _timing.print_table([slid(options)])


def network(name: str, dtype: str) -> Any:
    """A segmenter that computes in a dtype."""
    kind = jnp.dtype(dtype)
    if name == LARGE_FOV:
        head = models.LargeFOV(CLASSES, dropout=0.0, dtype=kind)
        return models.DeepLab(models.VGG(output_stride=8, dtype=kind), head)
    if name == LITE0:
        trunk: nn.Module = models.EfficientNetLite0(dtype=kind)
        return models.FCN(trunk, CLASSES, finest=8, dtype=kind)
    units = models.VGGHead(4096, padding="SAME", dropout=0.0, dtype=kind)
    return models.FCN(models.VGG(dtype=kind), CLASSES, finest=8, head=units, dtype=kind)


def drawn(variables: Any) -> Any:
    """Variables of which none is zero: also score layers, biases and running statistics."""
    rng = np.random.default_rng(0)

    def fill(path: Any, x: jax.Array) -> jax.Array:
        noise = rng.normal(size=x.shape).astype(np.float32)
        if path[-1].key != "kernel":
            return x + jnp.clip(0.1 * noise, -0.3, 0.3)
        return x if jnp.any(x != 0) else jnp.asarray(noise / np.sqrt(np.prod(x.shape[:-1])))

    return jax.tree_util.tree_map_with_path(fill, variables)


def images_and_labels(batch: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Normal noise [B, H, W, 3], and a class for each pixel, which some lack (255)."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES + 1, (batch, *size))
    images = rng.normal(size=(batch, *size, 3)).astype(np.float32)
    return images, np.where(labels == CLASSES, 255, labels).astype(np.uint8)


def mean_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy of the labelled pixels."""
    values, weights = losses.segmentation_loss(logits, labels)
    return values.sum() / weights.sum()


def compare(
    case: Case, options: argparse.Namespace, devices: list[jax.Device]
) -> tuple[list[Row], list[Row]]:
    """The rows of inference and of the step of one network, and those of its parts."""
    batch = (options.batch_size or case.batch) * len(devices)
    model = network(case.name, options.dtype)
    arrays = images_and_labels(batch, case.size)
    given = _training.placed(arrays, devices, True)
    variables = drawn(jax.jit(model.init)(jax.random.key(0), arrays[0][:1]))
    variables = _training.placed(variables, devices, False)

    def loss(params: Any, others: Any, given: Any, key: jax.Array) -> Any:
        images, labels = given
        logits = model.apply({"params": params, **others}, images, train=True)
        return mean_loss(logits, labels), others

    predict = lambda variables, given: model.apply(variables, given[0])
    made = _training.programs(loss, variables, optax.sgd(RATE, 0.9), given, predict)
    logits = made["inference"].call()
    theirs: Calls = {}
    if not options.no_peer:
        answers = np.asarray(logits), float(jax.jit(mean_loss)(logits, given[1]))
        theirs = peer(options, "network_calls", case.name, variables, *arrays, *answers)
    ours = {what: program.call for what, program in made.items()}
    measured = _timing.against(ours, theirs, options.repeats)
    rows = [
        {
            "network": case.name,
            "images": f"{batch} of {case.size[0]}x{case.size[1]}",
            "what": what,
            **_columns(measured, what),
            "compiling, s": program.seconds,
            "memory, MiB": program.mebibytes,
        }
        for what, program in made.items()
    ]
    if options.no_parts or not case.parts:
        return rows, []
    return rows, shares(case, model, variables, given, options)


def peer(options: argparse.Namespace, what: str, name: str, variables: Any, *given: Any) -> Calls:
    """PyTorch's calls of a network with our variables, in a process of their own or in this one."""
    from benchmarks import _torch_segmenters

    make = getattr(_torch_segmenters, what)
    held = jax.tree.map(np.asarray, dict(variables))
    place = _torch.apart if options.apart else lambda make, *given: make(*given)
    found: Calls = place(make, name, held, *given, options.dtype)
    return found


def _columns(measured: Row, what: str) -> Row:
    return {
        "ours, ms": measured[f"ours {what}, ms"],
        "peer, ms": measured[f"torch {what}, ms"],
        "peer / ours": measured[f"torch / ours, {what}"],
    }


def shares(
    case: Case, model: Any, variables: Any, given: Any, options: argparse.Namespace
) -> list[Row]:
    """A row for each part of inference, and for the loss, each by itself."""
    images, labels = given
    images = whole_strides(images, list(model.trunk.strides().values())[-1])
    apply = model.apply
    functions = {
        "trunk": lambda held, labels, x: apply(held, x, method=_maps),
        "scores": lambda held, labels, *maps: apply(held, *maps, method=_scores),
        "pixels": lambda held, labels, *scores: apply(
            held, *scores, size=labels.shape[1:3], method=_pixels
        ),
        "loss": lambda held, labels, logits: jax.value_and_grad(mean_loss)(logits, labels),
    }
    calls, arrays, results = {}, {}, (images,)
    for part, f in functions.items():
        arrays[part] = [np.asarray(x) for x in results]
        made = _timing.compiled(f, variables, labels, *results)
        calls[part], out = made.call, made.call()
        results = tuple(out) if isinstance(out, tuple | list) else (out,)
    theirs: Calls = {}
    if not options.no_peer:
        theirs = peer(options, "part_calls", case.name, variables, arrays, np.asarray(labels))
    measured = _timing.against(calls, theirs, options.repeats)
    return [
        {"network": case.name, "part": PARTS[part], **_columns(measured, part)} for part in PARTS
    ]


def _maps(model: Any, images: jax.Array) -> list[jax.Array]:
    """Of the strides that are scored."""
    maps = model.trunk(images)
    last = list(model.trunk.strides())[-1]
    return [maps[last]] if isinstance(model, models.DeepLab) else [maps[k] for k in _scored(model)]


def _scored(model: Any) -> list[str]:
    """FCN-8s's maps of the strides 8, 16 and 32."""
    strides = list(model.trunk.strides().items())
    first = {stride: name for name, stride in reversed(strides)}
    return [first[8], first[16], strides[-1][0]]


def _scores(model: Any, *maps: jax.Array) -> list[jax.Array]:
    if isinstance(model, models.DeepLab):
        return [model.head(maps[0])]
    last = maps[2] if model.head is None else model.head(maps[2])
    return [model.score8(maps[0]), model.score16(maps[1]), model.score32(last)]


def _pixels(model: Any, *scores: jax.Array, size: tuple[int, int]) -> jax.Array:
    finest = scores[0]
    if len(scores) == 3:
        finest = model.up8(model.up16(scores[2]) + scores[1]) + finest
    return to_pixels(finest, 8, size)


def crf(options: argparse.Namespace) -> Row:
    """A row: a photograph's marginals, set-up included."""
    asked = dense_crf.case("wide", 0, CRF_AT, CLASSES)
    here = not options.no_peer and importlib.util.find_spec("pydensecrf")
    mine, theirs = dense_crf.ours(asked, options.dtype), dense_crf.peer(asked) if here else None
    times = dense_crf.timed(mine, theirs, options.repeats)
    part = f"a dense CRF, {CRF_AT[0]}x{CRF_AT[1]}, {dense_crf.ITERATIONS} iterations"
    columns = (key.replace("pydensecrf", "peer") for key in times)
    return {"network": "", "part": part, **dict(zip(columns, times.values(), strict=True))}


def slid(options: argparse.Namespace) -> Row:
    """A row: a classifier of patches as one network over a frame, and patch by patch."""
    model = fully_convolutional.PatchClassifier(CLASSES, WIDTH)
    side = fully_convolutional.PATCH
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, side, side, 3)))["params"]
    frame = np.random.default_rng(0).random((*FRAME, 3), np.float32)
    calls, patches = fully_convolutional.both_ways(model, params, jnp.asarray(frame))
    seconds = _timing.interleaved(calls, options.repeats)
    return {
        "frame": f"{FRAME[0]}x{FRAME[1]}",
        "patches": patches,
        "slid, ms": 1e3 * seconds["slid"],
        "one by one, 64 at once, ms": 1e3 * seconds["patches"],
        "one by one / slid": seconds["patches"] / seconds["slid"],
    }


if __name__ == "__main__":
    main()
