"""Records torchvision's and PyTorch's models: python -m tests.recorded.record_models

Needs torch and torchvision, which the tests do not. Writes models.npz beside this file: for each
case the names and shapes of the weights, which `tests.models.weights` draws from them; the outputs;
and every sixteenth channel of the maps. The images are its `images`.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import _utils

from tests.models import weights

DCGAN_FEATURES = 8


def answers(model: nn.Module, x: np.ndarray, layers: dict[str, str]) -> dict[str, np.ndarray]:
    """What the model makes of x with weights drawn from their names; maps of layers beside it."""
    state = model.state_dict()
    shapes = {name: list(t.shape) for name, t in state.items() if t.ndim}
    drawn = {name: torch.from_numpy(weights.draw(name, shape)) for name, shape in shapes.items()}
    model.load_state_dict(drawn, strict=False)
    model.eval()
    x = torch.from_numpy(np.moveaxis(x, -1, 1).copy() if x.ndim == 4 else x)
    found = {"shapes": np.array(json.dumps(shapes))}
    with torch.no_grad():
        maps = _utils.IntermediateLayerGetter(model, layers)(x) if layers else {}
        out = model(x)
    for name, array in {**maps, "out": out}.items():
        last = np.moveaxis(array.numpy(), 1, -1)
        found[name] = last if name == "out" else last[..., :: weights.EVERY]
    return found


def vgg_maps(x: np.ndarray) -> dict[str, np.ndarray]:
    """pool5 of VGG16 with poolings 4 and 5 as DeepLab has them: stride 8."""
    layers = list(torchvision.models.vgg16().features)
    for place in (23, 30):
        layers[place] = nn.MaxPool2d(3, 1, 1)
    for layer in layers[24:30]:
        if isinstance(layer, nn.Conv2d):
            layer.dilation, layer.padding = (2, 2), (2, 2)
    model = nn.Sequential()
    model.features = nn.Sequential(*layers)
    found = answers(model, x, {"features": "pool5"})
    del found["out"]
    return found


def generator() -> nn.Sequential:
    """DCGAN's, of 32x32 images, as PyTorch's examples write it."""
    f = DCGAN_FEATURES
    return nn.Sequential(
        nn.Unflatten(1, (100, 1, 1)),
        nn.ConvTranspose2d(100, 4 * f, 4, 1, 0, bias=False),
        nn.BatchNorm2d(4 * f),
        nn.ReLU(),
        nn.ConvTranspose2d(4 * f, 2 * f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * f),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * f, f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(f),
        nn.ReLU(),
        nn.ConvTranspose2d(f, 3, 4, 2, 1),
        nn.Tanh(),
    )


def discriminator() -> nn.Sequential:
    """DCGAN's, of 32x32 images, as PyTorch's examples write it."""
    f = DCGAN_FEATURES
    return nn.Sequential(
        nn.Conv2d(3, f, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(f, 2 * f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * f),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * f, 4 * f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(4 * f),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * f, 1, 4, 1, 0),
        nn.Flatten(),
    )


def main() -> None:
    """Asks PyTorch and writes the file."""
    models = torchvision.models
    stages = {f"layer{i}": f"conv{i + 1}" for i in range(1, 5)}
    image = weights.images(64, 96)
    dilated = [False, True, True]
    cases = {
        "vgg16": answers(models.vgg16(), image, {}),
        "vgg16/8": vgg_maps(image),
        "resnet18": answers(models.resnet18(), image, stages),
        "resnet50": answers(models.resnet50(), image, stages),
        "resnet50/8": answers(
            models.resnet50(replace_stride_with_dilation=dilated), image, {"layer4": "conv5"}
        ),
        "generator": answers(generator(), weights.noise(2, 100), {}),
        "discriminator": answers(discriminator(), weights.images(32, 32), {}),
    }
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    recorded = {"versions": np.array(versions)}
    for case, arrays in cases.items():
        recorded |= {f"{case}:{name}": array for name, array in arrays.items()}
    np.savez_compressed(Path(__file__).with_name("models.npz"), **recorded)
    print(f"{len(cases)} cases, {versions}")


if __name__ == "__main__":
    main()
