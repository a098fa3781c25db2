"""Records torchvision's segmentation networks: python -m tests.recorded.record_segmentation

Needs torch 2.14 and torchvision 0.29. Writes segmentation.npz beside this file: of each network the
names and shapes of its weights, which `tests.models.segmentation_case` draws from them, and some
pixels of its logits and of those of its auxiliary head, for an image of odd and one of even sides.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision

from tests.models import segmentation_case as case


def main():
    answers = {"versions": np.array(f"torch {torch.__version__}, {torchvision.__version__}")}
    for name in case.NETWORKS:
        model = getattr(torchvision.models.segmentation, name)(
            weights=None, weights_backbone=None, num_classes=case.CLASSES, aux_loss=True
        )
        shapes = {key: tuple(x.shape) for key, x in model.state_dict().items() if x.ndim}
        drawn = {key: torch.from_numpy(x) for key, x in case.drawn(shapes).items()}
        model.load_state_dict(drawn, strict=False)
        model.eval()
        answers[f"{name}:shapes"] = np.array(json.dumps(shapes))
        for size in case.SIZES:
            image = torch.from_numpy(np.moveaxis(case.image(*size), -1, 1).copy())
            with torch.no_grad():
                found = model(image)
            for key, logits in found.items():
                pixels = np.moveaxis(logits.numpy(), 1, -1)[0, :: case.EVERY, :: case.EVERY]
                answers[f"{name}:{size[0]}:{key}"] = pixels
                print(name, size, key, logits.std((0, 2, 3)), logits.abs().max())
    path = Path(__file__).with_name("segmentation.npz")
    np.savez_compressed(path, **answers)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
