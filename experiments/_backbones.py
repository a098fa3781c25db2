"""Trunks of networks, with ImageNet weights or without, and which of their parts are frozen.

What may be added: another backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxstruct import data, models
from jaxstruct.training import AXIS

Name = Literal["resnet18", "resnet50", "vgg16", "efficientnet_lite0"]


class Backbone(NamedTuple):
    """A module that ends with the map `level`, and the mean and deviation of pixels it expects."""

    module: Any
    level: str
    normal: tuple[tuple[float, ...], tuple[float, ...]] = models.faster_rcnn.IMAGENET


def backbone_of(name: str, trained: bool) -> Backbone:
    """The backbone up to its map of stride 16, of resnet18 of stride 8.

    A ResNet that is `trained` keeps its statistics; one from scratch learns them.
    """
    if name == "vgg16":
        return Backbone(models.VGG(16, last="conv5_3"), "conv5_3")
    if name == "efficientnet_lite0":
        normal = (127 / 255,) * 3, (128 / 255,) * 3
        return Backbone(models.EfficientNetLite0(last="blocks_10"), "blocks_10", normal)
    if name in ("resnet18", "resnet50"):
        depth = int(name.removeprefix("resnet"))
        level = "conv3" if depth == 18 else "conv4"
        norm: Any = "frozen" if trained else "batch"
        return Backbone(models.ResNet(depth, last=level, norm=norm, axis_name=AXIS), level)
    raise ValueError(
        f"backbone is {name!r}, expected resnet18, resnet50, vgg16 or efficientnet_lite0"
    )


def frozen_parts(name: str, blocks: int, params: Mapping[str, Any]) -> list[str]:
    """The places of the backbone's first blocks, of VGG, or stages, of a ResNet."""
    if name.startswith("resnet"):
        stages = tuple(f"layer{i}" for i in range(1, blocks))
        begin = ("conv1", "bn1", *stages) if blocks else ()
    else:
        begin = tuple(f"conv{i}_" for i in range(1, blocks + 1))
    return [f"backbone/{layer}" for layer in params["backbone"] if layer.startswith(begin)]


def with_weights(
    variables: Mapping[str, Any], name: str, path: str, *, head: bool
) -> Mapping[str, Any]:
    """The variables with what a file of ImageNet weights has for them, and says what it was.

    `head` is whether fc6 and fc7 are taken from a file of VGG's, which have 4096 units.
    """
    known = {
        "vgg16": models.torchvision_vgg_name,
        "efficientnet_lite0": models.pytorch_efficientnet_name,
    }.get(name, models.torchvision_resnet_name)

    def theirs(path: Sequence[str]) -> str:
        return known(["features" if part == "backbone" else part for part in path])

    weights = dict(data.read_weights(Path(path)))
    if not head:
        weights = {key: x for key, x in weights.items() if not key.startswith("classifier.")}
    placed = models.place_weights(variables, weights, theirs)
    print(placed)
    return placed.variables
