"""What detectors share: eight images learnt by heart, boxes that follow their images."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import _detection, _detections, faster_rcnn_bccd
from jaxstruct import data, models
from jaxstruct.models import resnet
from jaxstruct.training import run

EIGHT = dataclasses.replace(
    faster_rcnn_bccd.SMOKE,
    train="train[:8]",
    validation="train[:8]",
    test="train[:8]",
    height=96,
    width=128,
    scales=(16.0, 32.0, 64.0),
    hidden=64,
    rpn_features=64,
    proposals=60,
    regions=32,
    batch_size=4,
    epochs=80,
    learning_rate=1e-3,
    flip=0.0,
    resize=0.0,
    color=0.0,
    evaluations=1,
    most=8,
)
CANVAS = EIGHT.height, EIGHT.width


@pytest.fixture(autouse=True)
def no_real_data(monkeypatch):
    monkeypatch.delenv("JAXSTRUCT_DATA", raising=False)


@pytest.mark.slow
@pytest.mark.optimized
def test_eight_images_are_learnt_by_heart(tmp_path, monkeypatch):
    # One block a stage: a network of half the layers compiles in half the time.
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))
    with data.looking(imitations=True):
        made = faster_rcnn_bccd.experiment(EIGHT)
        # The scores of a test set would compile the evaluation once more.
        found = run(
            dataclasses.replace(made, score=None, figures=None, best=None),
            tmp_path,
            devices=jax.devices()[:1],
        )
        reader = data.open_reader("bccd", "train[:8]")
        assert found.metrics["ap50"] >= 0.95
        # The same through predict, in the pixels of the images.
        image = reader(np.arange(1))["image"][0]
        boxes = reader(np.arange(1))["boxes"][0]
        record, _ = made.predict(jax.random.key(0), found.state, image)
    predicted = np.array([thing["box"] for thing in record["objects"]])
    assert len(predicted) >= len(boxes)
    far = np.abs(predicted[:, None] - boxes[None]).max(-1).min(0)
    assert (far < 8).all()
    (results,) = made.collect([{"image": "a.png", **record}]).values()
    assert results[0]["bbox"][2] == pytest.approx(predicted[0][2] - predicted[0][0], abs=0.02)
    json.dumps(results)


def photograph():
    """An image with a bright square, and the square's box."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[12:36, 20:50] = 255
    return {
        "image": image,
        "boxes": np.array([[20, 12, 50, 36]], np.float32),
        "classes": np.array([1]),
        "difficult": np.array([True]),
    }


@pytest.mark.parametrize("seed", range(6))
def test_boxes_follow_their_images(seed):
    config = dataclasses.replace(EIGHT, flip=0.5, resize=0.4)
    moved = _detection._example(config, CANVAS, np.random.default_rng(seed), photograph())
    assert moved["image"].shape == (96, 128, 3)
    assert moved["size"].tolist() == [96, 128]
    assert moved["classes"].tolist() == [2, *[0] * 7]
    assert moved["difficult"].tolist() == [True, *[False] * 7]
    if moved["boxes_valid"][0]:
        bright = moved["image"].mean(-1) > 190
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(moved["boxes"][0], around, atol=1.01)


def test_an_evaluation_places_images_at_the_top_left():
    placed = _detection._example(EIGHT, CANVAS, None, photograph())
    assert placed["size"].tolist() == [96, 128]
    np.testing.assert_allclose(placed["boxes"][0] / placed["scale"], [20, 12, 50, 36], atol=1e-4)
    wide = photograph() | {"image": np.zeros((30, 80, 3), np.uint8)}
    assert _detection._example(EIGHT, CANVAS, None, wide)["size"].tolist() == [48, 128]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(60, 80), (30, 90)], (96, 128)),
        ([(80, 60)], (128, 96)),
        ([(80, 60), (60, 80)], (128, 128)),
        ([(70, 70)], (96, 128)),
    ],
)
def test_the_canvas_turns_with_the_images_of_a_batch(monkeypatch, sizes, expected):
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    assert _detections.shared_canvas(images, CANVAS) == expected
    assert _detections.shared_canvas(images, CANVAS[::-1]) == (
        (128, 96) if sizes == [(70, 70)] else expected
    )
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert _detections.shared_canvas(images, CANVAS) == (128, 128)


class Upright:
    """A reader of photographs of 80x60 pixels, and of 60x80 at odd places."""

    size = 4
    source = None

    def __call__(self, indices):
        wide = photograph()
        tall = wide | {
            "image": wide["image"].transpose(1, 0, 2),
            "boxes": wide["boxes"][:, [1, 0, 3, 2]],
        }
        examples = [wide if i % 2 else tall for i in indices]
        return {key: [one[key] for one in examples] for key in wide}


@pytest.mark.parametrize("train", [True, False])
def test_upright_images_have_an_upright_canvas(train):
    batches = _detection.batches_of(
        dataclasses.replace(EIGHT, batch_size=1), Upright(), train=train
    )
    for index, shape in enumerate([(128, 96), (96, 128)]):
        draws = [np.random.default_rng(0)]
        batch = batches.augment(draws, batches.read(np.array([index])))
        (image,), (boxes,), (scale,) = batch["image"], batch["boxes"], batch["scale"]
        assert image.shape[:2] == shape
        if not train:
            assert scale == pytest.approx(1.6)
            expected = [12, 20, 36, 50] if index == 0 else [20, 12, 50, 36]
            np.testing.assert_allclose(boxes[0] / scale, expected, atol=1e-4)


def test_more_boxes_than_configured_are_named():
    example = photograph()
    example["boxes"] = np.repeat(example["boxes"], 9, 0)
    example["classes"] = np.repeat(example["classes"], 9)
    example["difficult"] = np.repeat(example["difficult"], 9)
    with pytest.raises(ValueError, match="got 9 values, expected at most 8"):
        _detection._example(EIGHT, CANVAS, None, example)


def rows(**changes):
    """One image in which two of three true boxes are found; the third is difficult."""
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]]], np.float32)
    made = {
        "scale": np.array([0.5], np.float32),
        "boxes": boxes,
        "boxes_valid": np.ones((1, 3), bool),
        "classes": np.array([[1, 2, 2]]),
        "difficult": np.array([[False, False, True]]),
        "found_boxes": boxes,
        "found_scores": np.array([[0.9, 0.8, 0.7]], np.float32),
        "found_classes": np.array([[1, 2, 2]]),
        "found_valid": np.ones((1, 3), bool),
        "proposals": boxes[:, :1],
        "proposals_valid": np.ones((1, 1), bool),
    }
    return made | changes


def scores(rows, classes, scored=()):
    detector = _detections.Detector(None, (8, 8), 1, classes, scored or classes)
    return _detections.scores(detector, rows)


def test_scores():
    found = scores(rows(), ("cat", "dog", "cow"))
    assert found["ap50/cat"] == found["ap50/dog"] == found["ap50"] == 1
    assert found["ap"] == pytest.approx(1)
    assert (found["recall50"], found["recall70"]) == (0.5, 0.5)
    assert "ap50/cow" not in found
    missed = rows(found_valid=np.array([[True, False, False]]))
    found = scores(missed, ("cat", "dog"))
    assert (found["ap50/cat"], found["ap50/dog"], found["ap50"]) == (1, 0, 0.5)
    assert scores(missed, ("cat", "dog"), ("cat",))["ap50"] == 1
    assert "ap50" not in scores(missed, ("cat", "dog", "cow"), ("cow",))


@pytest.mark.parametrize(
    ("backbone", "frozen", "places"),
    [
        ("vgg16", 2, ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]),
        ("vgg16", 0, []),
        ("resnet18", 1, ["bn1", "conv1"]),
        ("resnet18", 2, ["bn1", "conv1", "layer1_0", "layer1_1"]),
    ],
)
def test_frozen_parts(backbone, frozen, places):
    config = dataclasses.replace(EIGHT, backbone=backbone, frozen=frozen)
    model = _detection.network(config, 3)
    given = np.zeros((1, 64, 64, 3), np.float32), np.full((1, 2), 64)
    params = jax.eval_shape(model.init, jax.random.key(0), *given)["params"]
    found = _detection.frozen_parts(config, params)
    assert sorted(found) == [f"backbone/{place}" for place in places]


def test_weights_of_the_backbone_are_placed(tmp_path):
    from safetensors.numpy import save_file

    config = dataclasses.replace(
        EIGHT, backbone="resnet18", weights=str(tmp_path / "w.safetensors")
    )
    shapes = {"conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,), "fc.bias": (1000,)}
    rng = np.random.default_rng(0)
    weights = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, config.weights)
    with data.looking(imitations=True):
        made = faster_rcnn_bccd.experiment(config)
    (stage,) = made.stages
    state = stage.start(stage.init(jax.random.key(0), None))
    kernel = state.params["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, weights["conv1.weight"].transpose(2, 3, 1, 0))
    mean = state.model_state["stats"]["batch_stats"]["backbone"]["bn1"]["mean"]
    np.testing.assert_array_equal(mean, weights["bn1.running_mean"])
    assert isinstance(made.model, models.FasterRCNN)
