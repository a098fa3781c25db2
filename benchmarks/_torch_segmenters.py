"""The segmenters of benchmarks.segmentation in PyTorch, their parts under the names of ours.

Imported where PyTorch is there. What may be added: another network that is compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import _torch
from jaxstruct.models.efficientnet import _BLOCKS


class VGG16(nn.Module):
    """pool3, pool4 and pool5, the last ones dilated in place of a larger stride."""

    def __init__(self, stride: int = 32):
        super().__init__()
        self.stride, channels = stride, 3
        for block, (layers, width) in enumerate(
            zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True), 1
        ):
            rate = max(1, 2 ** (block - 1) // stride)
            for i in range(1, layers + 1):
                layer = nn.Conv2d(channels, width, 3, padding=rate, dilation=rate)
                setattr(self, f"conv{block}_{i}", layer)
                channels = width

    def forward(self, x: Any) -> list[Any]:
        maps = []
        for block, layers in enumerate((2, 2, 3, 3, 3), 1):
            for i in range(1, layers + 1):
                x = functional.relu(getattr(self, f"conv{block}_{i}")(x))
            if 2**block <= self.stride:
                x = functional.max_pool2d(x, 2, 2)
            else:
                x = functional.max_pool2d(x, 3, 1, 1)
            maps.append(x)
        return maps[2:]


class Head(nn.Module):
    """fc6 and fc7 as convolutions on a map of 512 channels."""

    def __init__(self, hidden: int, size: int, rate: int = 1):
        super().__init__()
        self.fc6 = nn.Conv2d(512, hidden, size, padding=rate * (size // 2), dilation=rate)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)

    def forward(self, x: Any) -> Any:
        return functional.relu(self.fc7(functional.relu(self.fc6(x))))


def add_normed(
    module: nn.Module, conv: str, norm: str, shape: tuple[int, int, int], stride: int = 1,
    groups: int = 1,
) -> None:  # fmt: skip
    """Gives a module a convolution (channels, features, size) without bias, and its norm."""
    channels, features, size = shape
    padding = 0 if stride > 1 else size // 2
    layer = nn.Conv2d(channels, features, size, stride, padding, groups=groups, bias=False)
    setattr(module, conv, layer)
    setattr(module, norm, nn.BatchNorm2d(features, eps=1e-3))


def normed(module: nn.Module, conv: str, norm: str, x: Any) -> Any:
    """Both in turn; a stride of 2 pads an even image as "SAME" does, by one more at the end."""
    layer = getattr(module, conv)
    if layer.stride[0] > 1:
        low = (layer.kernel_size[0] - 2) // 2
        x = functional.pad(x, (low, low + 1) * 2)
    return getattr(module, norm)(layer(x))


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, channels: int, features: int, size: int, stride: int, expansion: int):
        super().__init__()
        wide = expansion * channels
        self.expands, self.added = expansion > 1, stride == 1 and channels == features
        if self.expands:
            add_normed(self, "expand_conv", "bn0", (channels, wide, 1))
        add_normed(self, "depthwise_conv", "bn1", (wide, wide, size), stride, wide)
        add_normed(self, "project_conv", "bn2", (wide, features, 1))

    def forward(self, x: Any) -> Any:
        y = functional.relu6(normed(self, "expand_conv", "bn0", x)) if self.expands else x
        y = functional.relu6(normed(self, "depthwise_conv", "bn1", y))
        y = normed(self, "project_conv", "bn2", y)
        return x + y if self.added else y


class Lite0(nn.Module):
    """EfficientNet-lite0: the last maps of the strides 8, 16 and 32. The norm is frozen."""

    def __init__(self) -> None:
        super().__init__()
        add_normed(self, "conv_stem", "bn0", (3, 32, 3), 2)
        channels = 32
        for number, (features, size, stride, expansion) in enumerate(_BLOCKS):
            block = Block(channels, features, size, stride, expansion)
            setattr(self, f"blocks_{number}", block)
            channels = features

    def train(self, mode: bool = True) -> Any:
        """Training or not, a frozen norm is by its running statistics."""
        return super().train(False)

    def forward(self, x: Any) -> list[Any]:
        x, maps = functional.relu6(normed(self, "conv_stem", "bn0", x)), []
        for number in range(len(_BLOCKS)):
            x = getattr(self, f"blocks_{number}")(x)
            maps.append(x)
        return [maps[4], maps[10], maps[15]]


class FCN8s(nn.Module):
    """FCN-8s of maps of the strides 8, 16 and 32, of so many channels."""

    def __init__(self, trunk: nn.Module, channels: tuple[int, ...], head: Any, classes: int):
        super().__init__()
        self.trunk, self.head = trunk, head
        for stride, count in zip((8, 16, 32), channels, strict=True):
            setattr(self, f"score{stride}", nn.Conv2d(count, classes, 1))
        up = {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False}
        self.up16 = nn.ConvTranspose2d(classes, classes, **up)
        self.up8 = nn.ConvTranspose2d(classes, classes, **up)

    def forward(self, x: Any) -> Any:
        return answered(self, x, 32)

    def scores(self, map8: Any, map16: Any, map32: Any) -> tuple[Any, Any, Any]:
        """What each map says alone."""
        x = map32 if self.head is None else self.head(map32)
        return self.score8(map8), self.score16(map16), self.score32(x)

    def pixels(self, alone8: Any, alone16: Any, alone32: Any) -> Any:
        """The upconvolutions, and what is interpolated."""
        finest = self.up8(self.up16(alone32) + alone16) + alone8
        return interpolated(finest)


class LargeFOV(nn.Module):
    """DeepLab-LargeFOV on VGG16 with stride 8."""

    def __init__(self, classes: int):
        super().__init__()
        self.trunk, self.head = VGG16(8), nn.Module()
        self.head.fc = Head(1024, 3, 12)
        self.head.score = nn.Conv2d(1024, classes, 1)

    def forward(self, x: Any) -> Any:
        return answered(self, x, 8)

    def scores(self, *maps: Any) -> tuple[Any]:
        """Of the last map."""
        return (self.head.score(self.head.fc(maps[-1])),)

    def pixels(self, scores: Any) -> Any:
        return interpolated(scores)


def answered(model: Any, x: Any, stride: int) -> Any:
    """Logits of images that are padded to multiples of a stride by their last row and column."""
    height, width = x.shape[2:]
    if height % stride or width % stride:
        x = functional.pad(x, (0, -width % stride, 0, -height % stride), mode="replicate")
    return model.pixels(*model.scores(*model.trunk(x)))[:, :, :height, :width]


def interpolated(scores: Any) -> Any:
    """Scores at stride 8 for each pixel."""
    return functional.interpolate(scores, scale_factor=8, mode="bilinear", align_corners=False)


def loss(logits: Any, labels: Any) -> Any:
    """The mean cross-entropy of the labelled pixels."""
    return functional.cross_entropy(logits.float(), labels, ignore_index=255)


def state_dict(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Ours as PyTorch's tensors by the same names."""
    kinds = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    found = {}

    def note(path: Any, value: jax.Array) -> None:
        _, *place, kind = (key.key for key in path)
        x = np.asarray(value)
        if place[-1].startswith("up"):
            x = x[::-1, ::-1].transpose(2, 3, 0, 1)
        elif x.ndim == 4:
            x = x.transpose(3, 2, 0, 1)
        found[".".join([*place, kinds.get(kind, kind)])] = torch.from_numpy(np.array(x))

    jax.tree_util.tree_map_with_path(note, dict(variables))
    return found


def loaded(make: Callable[[], nn.Module], variables: Mapping[str, Any]) -> nn.Module:
    """A network with our weights, each of which has to find its place."""
    model = make()
    missing, strange = model.load_state_dict(state_dict(variables), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or strange:
        raise SystemExit(f"PyTorch's network has {missing}, ours has {strange}")
    return model


NETWORKS = {
    "FCN-8s VGG16": lambda: FCN8s(VGG16(), (256, 512, 4096), Head(4096, 7), 21),
    "DeepLab-LargeFOV VGG16": lambda: LargeFOV(21),
    "FCN-8s EfficientNet-lite0": lambda: FCN8s(Lite0(), (40, 112, 320), None, 21),
}
Calls = dict[str, Callable[[], Any]]


def network_calls(
    name: str,
    variables: Mapping[str, Any],
    images: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    value: float,
    dtype: str,
) -> Calls:
    """Inference and a step, as `_torch.network` has them, once logits and loss agree with ours."""
    make = lambda: loaded(NETWORKS[name], variables)
    target = torch.from_numpy(labels).long()
    model = _torch.placed(make(), dtype).eval()
    first = next(model.parameters())
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1))).to(first)
    with torch.inference_mode():
        found = model(x.to(memory_format=torch.channels_last))
        _torch.agree(name, logits, found, dtype)
        different = abs(float(loss(found, target.to(first.device))) / value - 1)
    if different > 1e-4 and dtype == "float32":
        raise SystemExit(f"{name}: PyTorch's loss differs by {different:.1e}")
    del model
    mean = lambda model, x: loss(model(x), target.to(x.device))
    sgd = lambda p: torch.optim.SGD(p, lr=1e-9, momentum=0.9, fused=True)
    return _torch.network(make, mean, sgd, images, dtype, inference=True)


def part_calls(
    name: str,
    variables: Mapping[str, Any],
    given: Mapping[str, list[np.ndarray]],
    labels: np.ndarray,
    dtype: str,
) -> Calls:
    """The parts, by their names, and the loss with its gradient, eager and compiled."""
    model = _torch.placed(loaded(NETWORKS[name], variables), dtype).eval()
    first = next(model.parameters())

    def tensor(array: np.ndarray) -> Any:
        moved = torch.from_numpy(np.array(np.moveaxis(array, -1, 1), np.float32)).to(first)
        return moved.contiguous(memory_format=torch.channels_last)

    x = {part: [tensor(a) for a in arrays] for part, arrays in given.items()}
    logits = x["loss"][0].requires_grad_()
    target = torch.from_numpy(np.array(labels)).long().to(first.device)
    functions = {part: getattr(model, part) for part in ("trunk", "scores", "pixels")}
    found: Calls = {}
    for how, change in {"eager": lambda f: f, "compiled": torch.compile}.items():
        for part, f in functions.items():
            found[f"{part} {how}"] = functools.partial(_predicted, change(f), x[part])
        found[f"loss {how}"] = functools.partial(_pulled, change(loss), logits, target)
    return found


def _predicted(f: Callable[..., Any], given: list[Any]) -> None:
    with torch.inference_mode():
        f(*given)
    _torch.wait()


def _pulled(f: Callable[..., Any], logits: Any, target: Any) -> None:
    logits.grad = None
    f(logits, target).backward()
    _torch.wait()
