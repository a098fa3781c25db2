"""What detectors share: eight images learnt by heart, backbones, weights, what learns."""

import dataclasses
import json
from types import SimpleNamespace
from typing import get_args

import jax
import numpy as np
import pytest

from experiments import (
    _backbones,
    _detection,
    _detector_config,
    _detector_evaluation,
    _detector_training,
    detectors_study,
    faster_rcnn_bccd,
)
from experiments._detector_training import PROPOSER
from jaxstruct import data, losses, models
from jaxstruct.models import resnet
from jaxstruct.training import State, run

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
(JOINT,) = _detector_training.METHODS["joint"]
CANVAS = EIGHT.height, EIGHT.width
VGG16 = _backbones.backbone_of("vgg16", True)


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize(
    "changes",
    [
        {"method": "joint", "epochs": 120},
        {"method": "fast_rcnn", "pooling": "pool"},
        {"method": "sppnet", "epochs": 160},
        {"method": "four_step", "epochs": 280},
    ],
    ids=lambda changes: changes["method"],
)
def test_eight_images_are_learnt_by_heart(tmp_path, monkeypatch, changes):
    # One block a stage: a network of half the layers compiles in half the time.
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))
    with data.looking(imitations=True):
        square = {"height": 128, "width": 128}  # one canvas to compile for
        made = faster_rcnn_bccd.experiment(dataclasses.replace(EIGHT, **square, **changes))
        # The scores of a test set would compile the evaluation once more.
        found = run(
            dataclasses.replace(made, score=None, figures=None, best=None),
            tmp_path,
            devices=jax.devices()[:1],
        )
        reader = data.open_reader("bccd", "train[:8]")
        last = f"{made.stages[-1].name}/" if len(made.stages) > 1 else ""
        assert found.metrics[f"{last}ap50"] >= 0.95
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


@pytest.mark.parametrize(
    ("backbone", "frozen", "places"),
    [
        ("vgg16", 2, ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]),
        ("vgg16", 0, []),
        ("resnet18", 1, ["conv1"]),
        ("resnet18", 2, ["conv1", "layer1_0", "layer1_1"]),
        ("efficientnet_lite0", 0, []),
    ],
)
def test_frozen_parts(backbone, frozen, places):
    config = dataclasses.replace(EIGHT, backbone=backbone, frozen=frozen, weights="a file")
    model = _detection.network(config, 3)
    given = np.zeros((1, 64, 64, 3), np.float32), np.full((1, 2), 64)
    params = jax.eval_shape(model.init, jax.random.key(0), *given)["params"]
    trained, kept = _detection._parted(config, JOINT, params)
    assert sorted(kept.get("backbone", {})) == places
    assert set(trained["backbone"]) == set(params["backbone"]) - set(places)
    # Without weights there is nothing to keep.
    trained, kept = _detection._parted(dataclasses.replace(config, weights=""), JOINT, params)
    assert set(trained["backbone"]) == set(params["backbone"])
    assert not kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "vgg16", "frozen": 6},
            "--frozen is 6, expected at most 5, the blocks of vgg",
        ),
        ({"backbone": "resnet18", "frozen": 4}, "--frozen is 4, expected at most 3, the blocks of"),
        ({"backbone": "efficientnet_lite0", "frozen": 1}, "--frozen is 1, expected at most 0"),
        ({"weights": "imagenet"}, "--weights is imagenet, expected a file for resnet18"),
        ({"height": 600}, "--height is 600, expected a multiple of 16"),
        ({"width": 100}, "--width is 100, expected a multiple of 16"),
    ],
)
def test_what_no_network_has_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EIGHT, **changes)


@pytest.mark.parametrize("backbone", get_args(_backbones.Name))
def test_every_block_has_layers_and_its_map_divides_the_canvas(backbone):
    found = _backbones.backbone_of(backbone, True)
    module = found.module
    images = np.zeros((1, 64, 64, 3), np.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    for blocks in range(1, len(found.blocks) + 1):
        fewer, more = (
            _backbones.frozen_parts(found, n, {"backbone": params}) for n in (blocks - 1, blocks)
        )
        assert set(fewer) < set(more)
    assert _detector_config.STRIDE % module.strides()[found.level] == 0


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


def test_the_head_takes_the_weights_of_fc6_and_fc7_if_it_has_their_width(tmp_path):
    from safetensors.numpy import save_file

    path = str(tmp_path / "vgg.safetensors")
    rng = np.random.default_rng(0)
    shapes = {
        "features.0.weight": (64, 3, 3, 3),
        "classifier.0.weight": (8, 3 * 7 * 7),
        "classifier.6.bias": (10,),
    }
    weights = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, path)
    variables = {
        "params": {
            "backbone": {"conv1_1": {"kernel": np.zeros((3, 3, 3, 64), np.float32)}},
            "head": {"fc6": {"kernel": np.zeros((7, 7, 3, 8), np.float32)}},
        }
    }
    with_head = _backbones.with_weights(variables, VGG16, path, head=True)["params"]
    expected = weights["classifier.0.weight"].reshape(8, 3, 7, 7).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(with_head["head"]["fc6"]["kernel"], expected)
    without = _backbones.with_weights(variables, VGG16, path, head=False)["params"]
    np.testing.assert_array_equal(without["head"]["fc6"]["kernel"], 0)
    for found in (with_head, without):
        expected = weights["features.0.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(found["backbone"]["conv1_1"]["kernel"], expected)


def test_the_authors_optimizer():
    config = dataclasses.replace(EIGHT, optimizer="sgd", learning_rate=0.1)
    optimizer = _detector_training.optimizer_of(config, 7)
    params = {"kernel": jax.numpy.ones((2, 2)), "bias": jax.numpy.ones(2)}
    gradients = jax.tree.map(jax.numpy.ones_like, params)
    state, kernel, bias, momenta = optimizer.init(params), 1.0, 1.0, np.zeros(2)
    for step in range(7):
        updates, state = optimizer.update(gradients, state, params)
        params = jax.tree.map(lambda x, y: x + y, params, updates)
        rate = 0.1 if step < 5 else 0.01
        momenta = 0.9 * momenta + [1 + 5e-4 * kernel, 1.0]
        kernel, bias = kernel - rate * momenta[0], bias - rate * momenta[1]
        np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5)
        np.testing.assert_allclose(params["bias"], bias, rtol=1e-5)
    with pytest.raises(ValueError, match="--optimizer is lamb, expected one of adam, sgd"):
        dataclasses.replace(EIGHT, optimizer="lamb")


def test_units_are_dropped_by_the_key_of_the_image():
    config = dataclasses.replace(EIGHT, hidden=16, dropout=0.5)
    model = _detection.network(config, 3)
    images, sizes = np.zeros((2, 64, 64, 3), np.float32), np.full((2, 2), 64)
    variables = jax.jit(model.init)(jax.random.key(0), images, sizes)
    maps = {"conv3": jax.random.normal(jax.random.key(1), (2, 8, 8, 128))}
    regions = np.tile(np.array([0.0, 0, 60, 60], np.float32), (2, 5, 1))
    keys = jax.random.split(jax.random.key(2), 2)
    classified = jax.jit(_detector_training.classified, static_argnums=0)
    found, _ = classified(model, variables, maps, regions, keys)
    # Each image has draws of its own, whatever batch it is in; those of its regions differ.
    alone, _ = classified(model, variables, {"conv3": maps["conv3"][1:]}, regions[1:], keys[1:])
    np.testing.assert_allclose(found[1], alone[0], rtol=1e-5)
    assert len(np.unique(np.asarray(found[0, :, 0]))) == 5
    whole = _detection.network(dataclasses.replace(config, dropout=0.0), 3)
    found, _ = classified(whole, variables, maps, regions, keys)
    expected, _ = model.apply(variables, maps, regions, method="classify")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_detector_of_given_proposals_finds_among_them_alone():
    config = dataclasses.replace(EIGHT, method="fast_rcnn", proposals=4)
    model = _detection.network(config, 3)
    assert not isinstance(model, models.FasterRCNN)
    given = np.array([[10, 10, 60, 50], [20, 5, 70, 55]], np.float32)
    detector = _detector_evaluation.Detector(model, CANVAS, 4, ("a", "b", "c"), (), "a kind")
    batch, scale = _detector_evaluation.batch_of(detector, np.zeros((60, 80, 3), np.uint8), given)
    assert batch["proposals_valid"].tolist() == [[True, True, False, False]]
    np.testing.assert_allclose(batch["proposals"][0, :2], given * scale)
    proposals = _detector_evaluation.stored_proposals(batch)
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"], batch["size"], proposals)
    assert not any(part.startswith("rpn") for part in variables["params"])
    found, _ = _detector_evaluation.detect(detector, variables, batch)
    np.testing.assert_array_equal(found.boxes, batch["proposals"])


@pytest.mark.parametrize("method", ["fast_rcnn", "sppnet"])
def test_background_begins_at_the_overlap_that_is_asked_for(method, monkeypatch):
    asked = []

    def sample(*given, background, **options):
        asked.append(background)
        raise StopIteration

    monkeypatch.setattr(losses, "sample_proposals", sample)
    monkeypatch.setattr(_detector_training, "maps_of", lambda *_: None)
    shapes = {"proposals": (2, 3, 4), "boxes": (2, 5, 4), "classes": (2, 5), "difficult": (2, 5)}
    valid = {"proposals_valid": (2, 3), "boxes_valid": (2, 5)}
    batch = {name: np.ones(shape, np.int32) for name, shape in shapes.items()}
    batch |= {name: np.ones(shape, bool) for name, shape in valid.items()}
    for background in (0.0, 0.3):
        config = dataclasses.replace(EIGHT, method=method, background=background, backbone="vgg16")
        for learning in _detector_training.METHODS[method]:
            loss = _detector_training.loss_of(config, _detection.network(config, 3), learning)
            keys = jax.random.split(jax.random.key(0), 2)
            with pytest.raises(StopIteration):
                loss({}, {"frozen": {}, "stats": {}}, batch, keys)
    stages = len(_detector_training.METHODS[method])
    assert asked == [0.0] * stages + [0.3] * stages


@pytest.mark.parametrize(("method", "head"), [("joint", True), ("sppnet", False)])
def test_fc6_behind_a_pyramid_is_in_no_file(monkeypatch, method, head):
    asked = []

    def with_weights(variables, *given, head):
        asked.append(head)
        return variables

    monkeypatch.setattr(_detection, "with_weights", with_weights)
    config = dataclasses.replace(EIGHT, method=method, hidden=4096, weights="a file")
    learning = _detector_training.METHODS[method][0]
    parts = ("backbone", "head", "class_logits", "class_deltas", *PROPOSER)
    params = {part: {"kernel": np.zeros(1)} for part in parts}
    state = State.create(jax.random.key(0), params, (), {"frozen": {}, "stats": {}})
    _detection.from_weights(config, learning, state)
    assert asked == [head]


@pytest.mark.parametrize("stored", ["selective_search-fast-24", "mine"])
def test_proposals_are_searched_before_the_first_step_and_not_to_predict(
    tmp_path, monkeypatch, stored
):
    box, found = np.array([[0, 0, 9, 9]], np.float32), []
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path))  # where nothing is stored
    monkeypatch.setattr(data.proposals, "selective_search", lambda *_, **__: found.append(1) or box)
    with data.looking(imitations=True):
        config = dataclasses.replace(
            faster_rcnn_bccd.SMOKE, method="fast_rcnn", stored=stored, test="test[:2]"
        )
        made = faster_rcnn_bccd.experiment(config)
    (stage,) = made.stages
    assert found == []
    state = State.create(jax.random.key(0), {}, None, {"frozen": {}, "stats": {}})
    if stored == "mine":
        with pytest.raises(data.DataError, match=r"make them with: .* propose bccd --split train "):
            stage.prepare(state)
        with pytest.raises(data.DataError, match=r"make them with: .* propose bccd --split train "):
            made.score({})
        return
    assert stage.prepare(state) is stage.batches
    assert len(found) == sum(stage.batches.read.prepared.splits.values())
    stage.prepare(state)  # on resuming
    assert len(found) == sum(stage.batches.read.prepared.splits.values())


def test_sppnet_begins_with_weights_or_not_at_all(monkeypatch):
    config = dataclasses.replace(faster_rcnn_bccd.SMOKE, method="sppnet")
    with data.looking(imitations=True):
        faster_rcnn_bccd.experiment(config)  # of an imitation it may
        assert not _backbones.is_real(data.open_reader("bccd", "train"))
        monkeypatch.setattr(_detection, "is_real", lambda reader: True)
        with pytest.raises(ValueError, match="expected weights of ImageNet: --weights FILE"):
            faster_rcnn_bccd.experiment(config)
        faster_rcnn_bccd.experiment(dataclasses.replace(config, weights="vgg16.pth"))
        faster_rcnn_bccd.experiment(dataclasses.replace(config, method="joint"))


def test_a_method_is_studied_once():
    with pytest.raises(ValueError, match=r"--methods is .*, expected different values"):
        detectors_study.Config(methods=("joint", "joint"), epochs=(1.0, 2.0))


@pytest.mark.parametrize(
    ("absent", "origin", "real"), [(False, "raw files", True), (True, "", False)]
)
def test_a_set_is_real_where_it_is(absent, origin, real):
    reader = SimpleNamespace(absent=absent, source=SimpleNamespace(origin=origin))
    assert _backbones.is_real(reader) == real
    with data.looking(imitations=True):
        assert not _backbones.is_real(reader)
