"""Faster R-CNN with a pyramid against torchvision's recorded answers, step by step."""

import json
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import data, losses, models
from jaxstruct.models.fast_rcnn import IMAGENET
from jaxstruct.ops import box_iou, match
from tests.models import detection_case as case

KEPT = ("kept", "longer", "resized")


@pytest.fixture(scope="module")
def answers():
    with np.load(Path(__file__).parents[1] / "recorded" / "detection.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def model():
    return models.faster_rcnn_fpn(case.CLASSES, epsilon=1e-5)


@pytest.fixture(scope="module")
def variables(answers, model):
    drawn = case.drawn(json.loads(str(answers["shapes"])))
    made, placed = models.faster_rcnn_from_torchvision(drawn, epsilon=1e-5)
    assert made == model
    assert len(jax.tree.leaves(placed)) == len(drawn)
    return placed


def test_the_published_file_has_older_names(answers, variables):
    drawn = case.drawn(json.loads(str(answers["shapes"])))
    old = {}
    for name, array in drawn.items():
        if name.startswith("rpn.head.conv.0.0."):
            name = name.replace("conv.0.0.", "conv.")
        if "_blocks." in name:
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        old[name] = array
    assert {"rpn.head.conv.weight", "backbone.fpn.inner_blocks.0.weight"} < set(old)
    assert len(old) == len(drawn)
    _, placed = models.faster_rcnn_from_torchvision(old)
    jax.tree.map(np.testing.assert_array_equal, placed, variables)
    with pytest.raises(ValueError, match="weights have layers that the variables lack: extra"):
        models.faster_rcnn_from_torchvision({**drawn, "extra.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"no roi_heads\.box_predictor\.cls_score\.bias, exp"):
        models.faster_rcnn_from_torchvision({"conv1.weight": np.zeros(3)})


@pytest.fixture(scope="module")
def found(model, variables):
    """Each step's result for each image; one compilation, since they have one canvas."""

    @jax.jit
    def steps(variables, canvas, sizes):
        maps = model.apply(variables, canvas, sizes, method="maps")
        said = model.apply(variables, maps, canvas.shape[1:3], method="propose_from")
        proposals = models.best_proposals(said, sizes)
        logits, deltas = model.apply(variables, maps, proposals.boxes, method="classify")
        detected = models.best_detections(logits, deltas, proposals, sizes)
        return maps, said._replace(levels=()), proposals, detected

    results = {}
    for name, image in case.images().items():
        canvas, size = models.torchvision_detection_input(
            image, shorter=case.SHORTER, longer=case.LONGER
        )
        results[name] = (canvas, size, *steps(variables, canvas, jnp.array([size])))
    return results


def test_the_lines_of_the_readme_detect(answers, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (lines,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if "faster_rcnn_from_torchvision" in block
    ]
    drawn = case.drawn(json.loads(str(answers["shapes"])))
    monkeypatch.setattr(data, "read_weights", lambda path: drawn)
    small = partial(models.detect_image, shorter=case.SHORTER, longer=case.LONGER)
    monkeypatch.setattr(models, "detect_image", small)
    space = {"image": case.images()["kept"]}
    exec(lines, space)
    assert space["found"].boxes.shape == (100, 4)
    assert bool(space["found"].valid.any())


@pytest.mark.parametrize("name", KEPT)
def test_the_input(answers, found, name):
    canvas, size, *_ = found[name]
    assert size == tuple(answers[f"{name}:size"])
    mean, deviation = (np.array(x, np.float32) for x in IMAGENET)
    inside = np.zeros(canvas.shape[1:3], bool)
    inside[: size[0], : size[1]] = True
    seen = np.where(inside[..., None], (np.asarray(canvas[0]) - mean) / deviation, 0)
    theirs = answers[f"{name}:input"].transpose(1, 2, 0)
    np.testing.assert_allclose(seen[::3, ::3], theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", KEPT)
def test_the_maps(answers, found, name):
    _, _, maps, *_ = found[name]
    for level, x in zip(("0", "1", "2", "3", "pool"), maps.values(), strict=True):
        theirs = answers[f"{name}:map {level}"]
        close = 1e-5 * np.abs(theirs).max()
        np.testing.assert_allclose(x[0, ..., :: case.EVERY], theirs, rtol=0, atol=close)


@pytest.mark.parametrize("name", KEPT)
def test_anchors_and_what_is_said_of_them(answers, found, name):
    _, _, _, said, *_ = found[name]
    np.testing.assert_array_equal(said.anchors[:: case.EVERY_ANCHOR], answers[f"{name}:anchors"])
    theirs = answers[f"{name}:logits"]
    np.testing.assert_allclose(said.logits[0, :: case.EVERY_ANCHOR], theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", KEPT)
def test_proposals_in_their_order(answers, found, name):
    *_, proposals, _ = found[name]
    theirs = answers[f"{name}:proposals"]
    assert int(proposals.valid.sum()) == len(theirs)
    assert bool(proposals.valid[0, : len(theirs)].all())
    np.testing.assert_allclose(proposals.boxes[0, : len(theirs)], theirs, rtol=0, atol=1e-2)
    scores = answers[f"{name}:objectness"]
    np.testing.assert_allclose(proposals.scores[0, : len(theirs)], scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", KEPT)
def test_detections_in_the_pixels_of_the_image(answers, found, model, variables, name):
    detected = models.detect_image(
        model, variables, case.images()[name], shorter=case.SHORTER, longer=case.LONGER
    )
    theirs = answers[f"{name}:boxes"]
    assert int(detected.valid.sum()) == len(theirs) == 100
    np.testing.assert_array_equal(detected.classes, answers[f"{name}:labels"])
    assert len(set(answers[f"{name}:labels"].tolist())) > 2
    np.testing.assert_allclose(detected.boxes, theirs, rtol=0, atol=1e-2)
    np.testing.assert_allclose(detected.scores, answers[f"{name}:scores"], rtol=0, atol=1e-4)


def test_losses_and_gradients_of_a_step(answers, model, variables):
    image, true_boxes, classes = case.training_example()
    canvas, size = models.torchvision_detection_input(
        image, shorter=case.SHORTER, longer=case.LONGER
    )
    boxes = jnp.array(true_boxes)
    valid = jnp.ones(len(boxes), bool)
    apply = lambda params, *a, method: model.apply(
        {**variables, "params": params}, *a, method=method
    )

    def loss(params, rpn_index, head_index):
        maps = apply(params, canvas, jnp.array([size]), method="maps")
        said = apply(params, maps, canvas.shape[1:3], method="propose_from")
        iou = box_iou(said.anchors, boxes)
        nearest, label = match(iou, valid=valid)
        expected = losses.sampled(
            rpn_index, jnp.ones(len(rpn_index), bool), said.anchors, nearest, label, boxes
        )
        proposals = models.best_proposals(said, jnp.array([size]), before=2000, after=2000)
        regions = jnp.concatenate([proposals.boxes[0], boxes])
        usable = jnp.concatenate([proposals.valid[0], valid])
        nearest, label = match(
            box_iou(regions, boxes),
            high=0.5,
            low=0.5,
            force_best=False,
            valid=valid,
            usable=usable,
        )
        # Theirs has no padding between the proposals and the true boxes.
        count = proposals.valid[0].sum()
        head_index = jnp.where(head_index < count, head_index, head_index - count + 2000)
        label = jnp.where(label > 0, jnp.array(classes)[nearest], label)
        chosen = losses.sampled(
            head_index,
            jnp.ones(len(head_index), bool),
            regions,
            nearest,
            label,
            boxes,
            weights=(10.0, 10.0, 5.0, 5.0),
        )
        logits, deltas = apply(params, maps, regions[head_index][None], method="classify")
        terms = {
            "loss_objectness": losses.objectness_loss(said.logits[0], expected),
            "loss_rpn_box_reg": losses.box_loss(said.deltas[0], expected, beta=1 / 9),
            "loss_classifier": losses.class_loss(logits[0], chosen),
            "loss_box_reg": losses.box_loss(deltas[0], chosen, beta=1 / 9),
        }
        means = {name: jnp.mean(x) for name, x in terms.items()}
        return sum(means.values()), (means, expected.label, chosen.label)

    index = {
        part: jnp.concatenate(
            [
                jnp.array(answers[f"step:{part} {kind}"], jnp.int32)
                for kind in ("positive", "negative")
            ]
        )
        for part in ("rpn", "head")
    }
    (_, (terms, *labels)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables["params"], index["rpn"], index["head"]
    )
    for part, label in zip(("rpn", "head"), labels, strict=True):
        positives = len(answers[f"step:{part} positive"])
        assert bool((label[:positives] > 0).all())
        assert not bool(label[positives:].any())
    for name, value in terms.items():
        assert float(value) == pytest.approx(float(answers[f"step:{name}"]), rel=1e-4)

    by_name = {}

    def note(path, gradient):
        place = ("params", *(key.key for key in path))
        known = models.torchvision_faster_rcnn_name(place)
        x = np.asarray(gradient)
        theirs = x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
        by_name[known] = theirs

    jax.tree_util.tree_map_with_path(note, gradients)
    names = answers["step:gradients of"].tolist()
    assert sorted(by_name) == sorted(names)
    for name, (norm, product) in zip(names, answers["step:gradients"], strict=True):
        ours = case.products(name, by_name[name])
        assert ours[0] == pytest.approx(norm, rel=1e-4), name
        assert ours[1] == pytest.approx(product, abs=1e-4 * norm), name


def test_maps_of_odd_sizes_are_enlarged_to_the_nearest_cell():
    fpn = models.FPN(4)
    maps = {"fine": jnp.zeros((1, 5, 7, 3)), "coarse": jnp.ones((1, 3, 4, 2))}
    variables = fpn.init(jax.random.key(0), maps)
    kernels = {name: jnp.zeros_like(of["kernel"]) for name, of in variables["params"].items()}
    # The coarse map's row and column numbers go through; 3x3 kernels pass their middle.
    kernels["inner_1"] = kernels["inner_1"].at[0, 0, 0, 0].set(1.0).at[0, 0, 1, 1].set(1.0)
    kernels["layer_0"] = kernels["layer_0"].at[1, 1].set(jnp.eye(4))
    params = {name: {"kernel": k, "bias": jnp.zeros(4)} for name, k in kernels.items()}
    rows, columns = jnp.meshgrid(jnp.arange(3.0), jnp.arange(4.0), indexing="ij")
    maps["coarse"] = jnp.stack([rows, columns], -1)[None]
    found = fpn.apply({"params": params}, maps)
    assert list(found) == ["fine", "coarse", "pooled"]
    assert found["fine"][0, :, 0, 0].tolist() == [0, 0, 1, 1, 2]
    assert found["fine"][0, 0, :, 1].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert found["pooled"].shape == (1, 2, 2, 4)


def test_regions_are_pooled_from_the_level_of_their_size():
    model = models.faster_rcnn_fpn(2, depth=18, norm="group")
    given = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    variables = jax.eval_shape(model.init, jax.random.key(0), *given)
    variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), variables)
    sides = [16, 8, 4, 2]
    maps = {f"conv{i + 2}": jnp.full((1, n, n, 256), i + 2.0) for i, n in enumerate(sides)}
    regions = jnp.array([[[0.0, 0, 30, 30], [0, 0, 120, 120], [0, 0, 230, 230], [0, 0, 500, 500]]])
    pooled = model.apply(variables, maps, regions / 8, method="pooled")
    np.testing.assert_allclose(pooled[0, :, 0, 0, 0], [2, 2, 2, 2], rtol=1e-6)
    far = {
        name: jnp.full((1, 8 * x.shape[1], 8 * x.shape[1], 256), x[0, 0, 0, 0])
        for name, x in maps.items()
    }
    pooled = model.apply(variables, far, regions, method="pooled")
    np.testing.assert_allclose(pooled[0, :, 0, 0, 0], [2, 3, 4, 5], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ("conv9",)}, "got levels .*'conv9'.*, expected some of conv1, conv2"),
        ({"scales": ((32.0,),)}, "got scales for 1 levels, expected some for each of the 5 maps"),
        ({"pooling": "max"}, "got pooling 'max', expected align, pool or pyramid"),
        ({"scales": ((32.0,), (1.0, 2.0))}, "expected as many on each level"),
    ],
)
def test_what_does_not_fit_together_is_named(changes, message):
    model = models.faster_rcnn_fpn(2, depth=18).clone(**changes)
    given = jnp.zeros((1, 64, 64, 3)), jnp.full((1, 2), 64)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), *given)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 5), np.uint8), ValueError, r"got image \(4, 5\), expected \[H, W, 3\]"),
        (np.zeros((4, 5, 3)), TypeError, "got image of float64, expected uint8"),
    ],
)
def test_an_image_of_another_kind(image, error, message):
    with pytest.raises(error, match=message):
        models.torchvision_detection_input(image)
    with pytest.raises(ValueError, match="shorter 0 and longer 9, expected at least 1"):
        models.torchvision_detection_input(np.zeros((4, 5, 3), np.uint8), shorter=0, longer=9)
