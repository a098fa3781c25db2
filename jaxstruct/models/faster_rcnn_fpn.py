"""torchvision's Faster R-CNN with a ResNet-50 and a feature pyramid: its parts, names and input.

What may be added: another of torchvision's detectors that has these parts.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype
from jax.typing import ArrayLike

from jaxstruct import ops
from jaxstruct.models.fast_rcnn import Detected
from jaxstruct.models.faster_rcnn import FasterRCNN, anchor_scales
from jaxstruct.models.pyramid import FPN, torchvision_fpn_name
from jaxstruct.models.resnet import Norm, ResNet, torchvision_resnet_name
from jaxstruct.models.torchvision import from_torchvision
from jaxstruct.models.vgg import VGGHead

_STRIDE = 32  # of the coarsest map of the backbone
_NAMES = {
    "rpn_conv": "rpn.head.conv.0.0",
    "rpn_logits": "rpn.head.cls_logits",
    "rpn_deltas": "rpn.head.bbox_pred",
    "fc6": "roi_heads.box_head.fc6",
    "fc7": "roi_heads.box_head.fc7",
    "class_logits": "roi_heads.box_predictor.cls_score",
    "class_deltas": "roi_heads.box_predictor.bbox_pred",
}


def faster_rcnn_fpn(
    classes: int = 90,
    *,
    depth: int = 50,
    norm: Norm = "frozen",
    epsilon: float = 0.0,
    dtype: Dtype | None = None,
) -> FasterRCNN:
    """torchvision's fasterrcnn_resnet50_fpn; its published weights have frozen norm, 90 classes.

    Args:
        classes: without the background.
        depth: of the ResNet.
        norm: of the ResNet.
        epsilon: of its norm; 0 is that of the published weights, 1e-5 that of others.
        dtype: the compute dtype; None is what images and parameters promote to.

    Source: Lin et al. 2017 (Feature pyramid networks), section 4; torchvision 0.29 for the values.
    """
    return FasterRCNN(
        classes,
        backbone=ResNet(depth, norm=norm, epsilon=epsilon, dtype=dtype),
        levels=("conv2", "conv3", "conv4", "conv5"),
        neck=FPN(256, dtype=dtype),
        head=VGGHead(1024, dropout=0.0, dtype=dtype),
        scales=anchor_scales(32, 5),
        rpn_features=256,
        pooling="align",
        dtype=dtype,
    )


def faster_rcnn_from_torchvision(
    weights: Mapping[str, ArrayLike], *, epsilon: float = 0.0
) -> tuple[FasterRCNN, Any]:
    """A detector with the weights of torchvision's fasterrcnn_resnet50_fpn (published, say).

    Args:
        weights: arrays by name, of `data.read_weights`; names of older versions of torchvision, as
            fasterrcnn_resnet50_fpn_coco-258fb6c6.pth has them, are known, too. The number of
            classes is that of the weights.
        epsilon: see `faster_rcnn_fpn`.

    Returns:
        the module and its variables, for `detect_image`.

    Raises:
        ValueError: a name is missing, has another shape, or belongs to another network.
    """
    renamed = {_renamed(name): array for name, array in weights.items()}
    last = "roi_heads.box_predictor.cls_score.bias"
    if last not in renamed:
        raise ValueError(f"weights have no {last}, expected those of fasterrcnn_resnet50_fpn")
    model = faster_rcnn_fpn(np.shape(renamed[last])[0] - 1, epsilon=epsilon)
    given = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *given)
    return model, from_torchvision(shapes, renamed, torchvision_faster_rcnn_name, left_out=())


def _renamed(name: str) -> str:
    """What today's torchvision calls a layer whose name had a part less before."""
    name = re.sub(r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1", name)
    return re.sub(
        r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", name
    )


def torchvision_faster_rcnn_name(path: Sequence[str]) -> str:
    """What torchvision calls a variable of `faster_rcnn_fpn`: for `from_torchvision`.

    Args:
        path: its place, e.g. ("params", "neck", "inner_0", "kernel").

    Returns:
        e.g. "backbone.fpn.inner_blocks.0.0.weight".

    Source: torchvision.models.detection, as of 0.29.
    """
    collection, part, *rest = path
    if part == "backbone":
        return f"backbone.body.{torchvision_resnet_name((collection, *rest))}"
    if part == "neck":
        return f"backbone.fpn.{torchvision_fpn_name(path)}"
    *_, layer, kind = path
    return f"{_NAMES.get(layer, layer)}.{'weight' if kind == 'kernel' else kind}"


def torchvision_detection_input(
    image: np.ndarray, *, shorter: int = 800, longer: int = 1333
) -> tuple[jax.Array, tuple[int, int]]:
    """An image as torchvision's detectors see it: resized, on a canvas of multiples of 32 pixels.

    Its shorter side becomes `shorter`, unless the longer one would become more than `longer`. It
    is interpolated bilinearly, and nothing is smoothed before it is made smaller.

    Args:
        image: uint8 [H, W, 3].
        shorter, longer: in pixels.

    Returns:
        float32 [1, H', W', 3] in [0, 1], and the image's (height, width) on it, at the top left.

    Raises:
        ValueError: the image has another shape, or an option is below 1. TypeError: it is not
            uint8.

    Source: torchvision.models.detection.transform, as of 0.29.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"got image {image.shape}, expected [H, W, 3]")
    if image.dtype != np.uint8:
        raise TypeError(f"got image of {image.dtype}, expected uint8")
    if min(shorter, longer) < 1:
        raise ValueError(f"got shorter {shorter} and longer {longer}, expected at least 1")
    sides = image.shape[:2]
    # In float32 as there: at a whole number a rounding decides.
    scale = min(np.float32(shorter) / np.float32(min(sides)), np.float32(longer) / max(sides))
    height, width = (max(1, math.floor(side * float(np.float32(scale)))) for side in sides)
    pixels = jnp.asarray(image, jnp.float32) / 255
    resized = ops.resize_bilinear(pixels, (height, width))
    down, across = (-side % _STRIDE for side in (height, width))
    return jnp.pad(resized, ((0, down), (0, across), (0, 0)))[None], (height, width)


def detect_image(
    model: FasterRCNN,
    variables: Mapping[str, Any],
    image: np.ndarray,
    *,
    shorter: int = 800,
    longer: int = 1333,
    **options: Any,
) -> Detected:
    """What there is in one image, in its own pixels; one compilation for each canvas.

    Args:
        model: of `faster_rcnn_fpn`, say.
        variables: its variables.
        image: uint8 [H, W, 3] of any size.
        shorter, longer: see `torchvision_detection_input`.
        options: of `FasterRCNN.detect`.

    Returns:
        boxes [K, 4], scores [K], classes [K] and valid [K].
    """
    canvas, size = torchvision_detection_input(image, shorter=shorter, longer=longer)
    found = _detect(model, tuple(sorted(options.items())), variables, canvas, jnp.array([size]))
    found = jax.tree.map(lambda x: x[0], found)
    ratio = np.array([side / on for side, on in zip(image.shape, size, strict=False)], np.float32)
    return found._replace(boxes=found.boxes * ratio[None, [1, 0, 1, 0]])


@partial(jax.jit, static_argnums=(0, 1))
def _detect(
    model: FasterRCNN,
    options: tuple[tuple[str, Any], ...],
    variables: Any,
    images: jax.Array,
    sizes: jax.Array,
) -> Detected:
    found = model.apply(variables, images, sizes, method="detect", **dict(options))
    return Detected(*found)
