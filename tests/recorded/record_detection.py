"""Records the answers of torchvision's Faster R-CNN: python -m tests.recorded.record_detection

Needs torch 2.14 and torchvision 0.29. Writes detection.npz beside this file.
"""

from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from tests.models import detection_case as case

torch.set_num_threads(2)


def network(classes):
    model = fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=case.SHORTER,
        max_size=case.LONGER,
        trainable_backbone_layers=5,
    )
    state = model.state_dict()
    drawn = case.drawn({name: x.shape for name, x in state.items() if x.ndim})
    model.load_state_dict({**state, **{k: torch.from_numpy(v) for k, v in drawn.items()}})
    return model.eval()


def inference(answers):
    model = network(case.CLASSES)
    kept = {}
    forward = model.rpn.filter_proposals

    def watched(*arguments):
        kept["logits"] = arguments[1]
        boxes, scores = forward(*arguments)
        kept["proposals"], kept["objectness"] = boxes[0], scores[0]
        return boxes, scores

    model.rpn.filter_proposals = watched
    for name, image in case.images().items():
        given = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            images, _ = model.transform([given])
            maps = model.backbone(images.tensors)
            found = model([given])[0]
            anchors = model.rpn.anchor_generator(images, list(maps.values()))[0]
        answers[f"{name}:size"] = np.array(images.image_sizes[0])
        answers[f"{name}:input"] = images.tensors[0, :, ::3, ::3].numpy()
        answers[f"{name}:anchors"] = anchors.numpy()[:: case.EVERY_ANCHOR]
        for level, x in maps.items():
            answers[f"{name}:map {level}"] = x[0, :: case.EVERY].permute(1, 2, 0).numpy()
        answers[f"{name}:logits"] = kept["logits"].reshape(-1).numpy()[:: case.EVERY_ANCHOR]
        answers[f"{name}:proposals"] = kept["proposals"].numpy()
        answers[f"{name}:objectness"] = kept["objectness"].numpy()
        for key in ("boxes", "scores", "labels"):
            answers[f"{name}:{key}"] = found[key].numpy()
        print(name, images.tensors.shape, len(kept["proposals"]), found["scores"][:5])
    answers["shapes"] = case.stored_shapes(model.state_dict())


def training(answers):
    model = network(case.CLASSES)
    model.train()
    # Batch norm by its statistics, as the published weights have it.
    model.backbone.body.eval()
    sampled = []
    for part in (model.rpn, model.roi_heads):
        sampler = part.fg_bg_sampler

        def watched(labels, sampler=sampler):
            positive, negative = sampler(labels)
            sampled.append((positive[0].nonzero()[:, 0], negative[0].nonzero()[:, 0]))
            return positive, negative

        part.fg_bg_sampler = watched
    torch.manual_seed(0)
    image, boxes, labels = case.training_example()
    losses = model(
        [torch.from_numpy(image).permute(2, 0, 1).float() / 255],
        [{"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels)}],
    )
    sum(losses.values()).backward()
    for name, value in losses.items():
        answers[f"step:{name}"] = value.detach().numpy()
        print(name, value.item())
    for part, (positive, negative) in zip(("rpn", "head"), sampled, strict=True):
        answers[f"step:{part} positive"], answers[f"step:{part} negative"] = (
            positive.numpy(),
            negative.numpy(),
        )
        print(part, len(positive), len(negative))
    names, products = [], []
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and ".bn" not in name and "downsample.1" not in name:
            names.append(name)
            products.append(case.products(name, parameter.grad.numpy()))
    answers["step:gradients of"] = np.array(names)
    answers["step:gradients"] = np.array(products)


if __name__ == "__main__":
    answers = {}
    inference(answers)
    training(answers)
    path = Path(__file__).parent / "detection.npz"
    np.savez_compressed(path, **answers)
    print(path, path.stat().st_size)
