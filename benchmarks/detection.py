"""Faster R-CNN against torchvision's: inference, the training step, and what their parts cost.

python -m benchmarks.detection             # both; needs the extra `bench`
python -m benchmarks.detection --no-peer   # ours alone

One image of 600x800 at a time. R50-FPN is torchvision's fasterrcnn_resnet50_fpn with frozen norm,
VGG16 a detector on conv5_3 with torchvision's FasterRCNN around torchvision's features. Both have
the same weights, which are drawn, so that proposals differ as widely as a trained network's and
non-maximum suppression leaves as many as a row says; the columns "regions" say what either head
classified. The peer runs eagerly, since its post-processing is no graph. The step is forward,
gradients of all parameters, and SGD with momentum.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import _timing, _torch
from jaxstruct import losses, models
from jaxstruct.models import FasterRCNN

HEIGHT, WIDTH, CLASSES, BOXES = 600, 800, 20, 8
CANVAS = 608, 800  # a multiple of 32
BEFORE = 6000  # of a level's proposals, before suppression, as in the paper
SPREAD = 0.5  # the deviation of the proposal network's deltas
RATE = 1e-9  # of a step, so small that the drawn weights stay as they are
SAMPLED = {"r50-fpn": 512, "vgg16": 128}


def main() -> None:
    """Measures and prints."""
    parser = _timing.parser("detection", __doc__, batch_size="1", peer="torchvision")
    options = parser.parse_args()
    _torch.begin(options)
    rows, parts, growth = [], [], []
    for name in ("vgg16", "r50-fpn"):
        model, variables = network(name)
        for proposals in (300, 1000):
            rows.append(inference(name, model, variables, proposals, options))
        rows.append(step(name, model, variables, options))
        parts += shares(name, model, variables, options)
        growth += sizes(name, model, variables, options)
    _timing.print_table(rows)
    print()
    _timing.print_table(parts)
    print()
    _timing.print_table(growth)


def network(name: str) -> tuple[FasterRCNN, Any]:
    """A detector and its variables."""
    if name == "r50-fpn":
        model = models.faster_rcnn_fpn(CLASSES, epsilon=1e-5)
    else:
        model = FasterRCNN(
            CLASSES,
            backbone=models.VGG(16, last="conv5_3"),
            levels=("conv5_3",),
            head=models.VGGHead(4096, dropout=0.0),
            pooling="align",
        )
    given = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    variables = jax.jit(model.init)(jax.random.key(0), *given)
    size = jnp.array([[HEIGHT, WIDTH]])
    apply: Any = partial(model.apply, variables)
    said = jax.jit(
        lambda x: apply(apply(x, size, method="maps"), CANVAS, method="propose_from")[:2]
    )
    logits, deltas = said(image())
    params = dict(variables["params"])
    for layer, values in {"rpn_logits": logits, "rpn_deltas": deltas}.items():
        kernel = params[layer]["kernel"] * (SPREAD / jnp.std(values))
        params[layer] = {**params[layer], "kernel": kernel}
    return model, {**variables, "params": params}


def image(height: int = CANVAS[0], width: int = CANVAS[1]) -> jax.Array:
    """Noise in [0, 1] that is smooth over eight pixels."""
    coarse = np.random.default_rng(0).random((1, height // 8, width // 8, 3), np.float32)
    return jnp.asarray(coarse.repeat(8, 1).repeat(8, 2))


def inference(
    name: str, model: FasterRCNN, variables: Any, proposals: int, options: argparse.Namespace
) -> dict[str, Any]:
    """A row: from the image on its canvas to the detections."""
    sizes = jnp.array([[HEIGHT, WIDTH]])
    detect = partial(model.apply, method="detect", before=BEFORE, after=proposals)
    made = _timing.compiled(lambda v, x, s: tuple(detect(v, x, s)), variables, image(), sizes)
    propose: Any = partial(model.apply, method="propose", before=BEFORE, after=proposals)
    regions = int(jax.jit(propose)(variables, image(), sizes).valid.sum())
    other = None if options.no_peer else Peer(name, variables, BEFORE, proposals)
    peer = {"inference": other.inference} if other else {}
    return {
        "network": name,
        "what": f"inference, {proposals} proposals",
        **_timing.against({"inference": made.call}, peer, options.repeats),
        "regions, ours": regions,
        "regions, torchvision": other.regions if other else "",
        "compiling, s": made.seconds,
        "memory, MiB": made.mebibytes,
    }


def truth() -> tuple[np.ndarray, np.ndarray]:
    """True boxes [BOXES, 4] and their classes."""
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 300, (BOXES, 2))
    boxes = np.concatenate([low, low + rng.uniform(40, 280, (BOXES, 2))], 1)
    return boxes.astype(np.float32), rng.integers(1, CLASSES + 1, BOXES)


def loss_of(name: str, model: FasterRCNN) -> Callable[..., jax.Array]:
    """The four terms of a step, summed, of parameters, other variables, image and key."""
    boxes, classes = (jnp.asarray(x) for x in truth())
    valid, size = jnp.ones(BOXES, bool), jnp.array([[HEIGHT, WIDTH]])

    def loss(params: Any, others: Any, images: jax.Array, key: jax.Array) -> jax.Array:
        apply: Any = partial(model.apply, {"params": params, **others})
        maps = apply(images, size, method="maps")
        said: Any = apply(maps, images.shape[1:3], method="propose_from")
        proposals = models.best_proposals(said, size, before=BEFORE, after=2000)
        keys = jax.random.split(key)
        anchors = losses.sample_anchors(keys[0], said.anchors, boxes, valid)
        regions, chosen = losses.sample_proposals(
            keys[1], proposals.boxes[0], proposals.valid[0], boxes, valid, classes,
            size=SAMPLED[name],
        )  # fmt: skip
        found: Any = apply(maps, regions[None], method="classify")
        terms = (
            losses.objectness_loss(said.logits[0], anchors),
            losses.box_loss(said.deltas[0], anchors, beta=1 / 9),
            losses.class_loss(found[0][0], chosen),
            losses.box_loss(found[1][0], chosen, beta=1 / 9),
        )
        return sum((jnp.mean(term) for term in terms), jnp.zeros(()))

    return loss


def step(
    name: str, model: FasterRCNN, variables: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """A row: a whole training step, proposals and sampling included."""
    optimizer, loss = optax.sgd(RATE, momentum=0.9), loss_of(name, model)
    others = {kind: tree for kind, tree in variables.items() if kind != "params"}

    def update(params: Any, opt_state: Any, images: jax.Array, key: jax.Array) -> Any:
        value, gradients = jax.value_and_grad(loss)(params, others, images, key)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    params = variables["params"]
    given = params, optimizer.init(params), image(), jax.random.key(0)
    made = _timing.compiled(update, *given)
    other = None if options.no_peer else Peer(name, variables, BEFORE, 2000)
    peer = {"step": other.step} if other else {}
    found = _timing.against({"step": made.call}, peer, options.repeats)
    return {
        "network": name,
        "what": "training step",
        **{key.replace("step", "inference"): value for key, value in found.items()},
        "regions, ours": SAMPLED[name],
        "regions, torchvision": other.regions if other else "",
        "compiling, s": made.seconds,
        "memory, MiB": made.mebibytes,
    }


def shares(
    name: str, model: FasterRCNN, variables: Any, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """What the parts of inference with 300 proposals cost, each by itself."""
    size, picture = jnp.array([[HEIGHT, WIDTH]]), image()
    apply: Any = partial(model.apply, variables)
    maps: Any = jax.jit(lambda x: apply(x, size, method="maps"))(picture)
    said = lambda maps: apply(maps, CANVAS, method="propose_from")[:2]
    anchors = apply(maps, CANVAS, method="propose_from")
    kept = partial(models.best_proposals, sizes=size, before=BEFORE, after=300)
    proposals = jax.jit(lambda logits, deltas: kept(anchors._replace(logits=logits, deltas=deltas)))
    regions = proposals(anchors.logits, anchors.deltas)
    pooled = lambda maps, boxes: apply(maps, boxes, method="pooled")
    classify = lambda maps, boxes: apply(maps, boxes, method="classify")
    found: Any = jax.jit(classify)(maps, regions.boxes)
    last = lambda logits, deltas: tuple(models.best_detections(logits, deltas, regions, size))
    calls = {
        "backbone": _timing.compiled(lambda x: apply(x, size, method="maps"), picture).call,
        "proposal network": _timing.compiled(said, maps).call,
        "top-k and NMS": _timing.compiled(
            lambda a, b: tuple(proposals(a, b)), anchors.logits, anchors.deltas
        ).call,
        "pooling of regions": _timing.compiled(pooled, maps, regions.boxes).call,
        "pooling and head": _timing.compiled(classify, maps, regions.boxes).call,
        "detections": _timing.compiled(last, *found).call,
    }
    seconds = _timing.interleaved(calls, options.repeats)
    whole = sum(s for part, s in seconds.items() if part != "pooling of regions")
    return [
        {"network": name, "part": part, "ms": 1e3 * s, "share": f"{s / whole:.0%}"}
        for part, s in seconds.items()
    ]


def sizes(
    name: str, model: FasterRCNN, variables: Any, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """How inference grows with the image and with the number of proposals."""
    rows = []
    for canvas in ((320, 416), (480, 640), CANVAS):
        for proposals in (100, 1000):
            detect = partial(model.apply, method="detect", before=BEFORE, after=proposals)
            given = variables, image(*canvas), jnp.array([canvas])
            made = _timing.compiled(lambda v, x, s, f=detect: tuple(f(v, x, s)), *given)
            seconds = _timing.interleaved({"": made.call}, max(options.repeats // 2, 1))[""]
            rows.append(
                {
                    "network": name,
                    "image": f"{canvas[0]}x{canvas[1]}",
                    "proposals": proposals,
                    "ours, ms": 1e3 * seconds,
                }
            )
    return rows


class Peer:
    """torchvision's detector with the same parts."""

    def __init__(self, name: str, variables: Any, before: int, after: int):
        import torch
        from torchvision.models import vgg16
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        from torchvision.ops import MultiScaleRoIAlign
        from torchvision.ops.misc import FrozenBatchNorm2d

        size = {"min_size": HEIGHT, "max_size": WIDTH}
        limits = {
            f"rpn_{when}_nms_top_n_{mode}": count
            for when, count in {"pre": before, "post": after}.items()
            for mode in ("test", "train")
        }
        if name == "r50-fpn":
            backbone = resnet_fpn_backbone(
                backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d,
                trainable_layers=5,
            )  # fmt: skip
            model = FasterRCNN(backbone, CLASSES + 1, **size, **limits)
        else:
            features = vgg16(weights=None).features[:-1]
            features.out_channels = 512
            pool = MultiScaleRoIAlign(["0"], 7, 2)
            anchors = AnchorGenerator(((128, 256, 512),), ((0.5, 1.0, 2.0),))
            from torchvision.models.detection.faster_rcnn import TwoMLPHead

            model = FasterRCNN(
                features, None, rpn_anchor_generator=anchors, box_roi_pool=pool,
                box_head=TwoMLPHead(512 * 49, 4096), box_batch_size_per_image=SAMPLED[name],
                box_predictor=_predictor(4096), **size, **limits,
            )  # fmt: skip
        model.load_state_dict(state_dict(name, variables))
        self._model = _torch.placed(model, "float32")
        self.regions = 0  # that the head was given last
        self._model.roi_heads.box_head.register_forward_pre_hook(self._count)
        boxes, classes = truth()
        picture = np.moveaxis(np.asarray(image())[0, :HEIGHT], -1, 0)
        self._image = torch.from_numpy(np.ascontiguousarray(picture))
        self._truth = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(classes)}
        self._optimizer = torch.optim.SGD(self._model.parameters(), RATE, momentum=0.9)

    def _count(self, module: Any, given: Any) -> None:
        self.regions = len(given[0])

    def inference(self) -> None:
        """From the image to the detections."""
        import torch

        self._model.eval()
        with torch.inference_mode():
            self._model([self._image])
        _torch.wait()

    def step(self) -> None:
        """Losses, gradients and SGD."""
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        found = self._model([self._image], [self._truth])
        sum(found.values()).backward()
        self._optimizer.step()
        _torch.wait()


def state_dict(name: str, variables: Any) -> dict[str, Any]:
    """Ours as torchvision's tensors by its names."""
    import torch

    found = {}

    def note(path: Any, value: jax.Array) -> None:
        place = [key.key for key in path]
        known = models.torchvision_faster_rcnn_name(place)
        if name == "vgg16" and place[1] == "backbone":
            known = models.torchvision_vgg_name(place).replace("features", "backbone")
        x = np.asarray(value)
        x = x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
        x = x.reshape(len(x), -1) if ".fc" in known and x.ndim == 4 else x
        found[known] = torch.from_numpy(np.array(x))

    jax.tree_util.tree_map_with_path(note, variables)
    return found


def _predictor(hidden: int) -> Any:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    return FastRCNNPredictor(hidden, CLASSES + 1)


if __name__ == "__main__":
    main()
