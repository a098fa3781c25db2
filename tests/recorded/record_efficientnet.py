"""Records PyTorch's answers for EfficientNet-lite0: python -m tests.recorded.record_efficientnet

Needs torch, torchvision and efficientnet-lite-pytorch, which the tests do not. Writes
efficientnet.npz beside this file, as record_models.py does: the names and shapes of the weights,
the logits, and what the linear layer sees.
"""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

from tests.models import weights
from tests.recorded.record_models import answers


def main() -> None:
    """Asks PyTorch and writes the file."""
    images = weights.images(64, 96)
    model = EfficientNet.from_name("efficientnet-lite0")
    found = answers(model, images, {})
    model._fc = torch.nn.Identity()
    found["features"] = answers(model, images, {})["out"]
    recorded = {f"lite0:{name}": array for name, array in found.items()}
    versions = f"torch {torch.__version__}, efficientnet-lite-pytorch 0.1.0"
    path = Path(__file__).with_name("efficientnet.npz")
    np.savez_compressed(path, versions=np.array(versions), **recorded)
    print(versions)


if __name__ == "__main__":
    main()
