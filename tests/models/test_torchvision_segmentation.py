"""fcn_resnet50 and deeplabv3_resnet50 against torchvision's recorded answers, and their names."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import data, models
from jaxstruct.models import resnet, torchvision_segmentation
from tests.models import segmentation_case as case


@pytest.fixture(scope="module")
def answers():
    with np.load(Path(__file__).parents[1] / "recorded" / "segmentation.npz") as stored:
        return dict(stored)


def drawn_of(answers, name):
    return case.drawn(json.loads(str(answers[f"{name}:shapes"])))


@pytest.mark.slow
@pytest.mark.parametrize("name", case.NETWORKS)
def test_logits_are_torchvisions_at_odd_and_even_sizes(answers, name):
    drawn = drawn_of(answers, name)
    model, variables = models.segmentation_from_torchvision(drawn)
    assert len(jax.tree.leaves(variables)) == len(drawn)
    apply = jax.jit(lambda variables, image: model.apply(variables, image, method="outputs"))
    for size in case.SIZES:
        found = apply(variables, case.image(*size))
        assert set(found) == {"out", "aux"}
        for key, logits in found.items():
            assert logits.shape == (1, *size, case.CLASSES)
            theirs = answers[f"{name}:{size[0]}:{key}"]
            error = np.abs(logits[0, :: case.EVERY, :: case.EVERY] - theirs).max()
            assert error < 1e-5 * np.abs(theirs).max(), (size, key)
            assert np.std(theirs, (0, 1)).min() > 0.05 * np.abs(theirs).max()


def test_the_files_say_which_network_they_are_of(answers, monkeypatch):
    # As names alone: the arrays are placed above.
    placed = lambda shapes, weights, name, left_out: {
        name([key.key for key in path]): None
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
    }
    monkeypatch.setattr(torchvision_segmentation, "from_torchvision", placed)
    for name, make in zip(case.NETWORKS, (models.fcn_resnet, models.deeplabv3_resnet), strict=True):
        weights = drawn_of(answers, name)
        model, names = models.segmentation_from_torchvision(weights)
        assert model == make(case.CLASSES)
        assert set(names) == set(weights)
        alone = {key: x for key, x in weights.items() if not key.startswith("aux_")}
        model, names = models.segmentation_from_torchvision(alone)
        assert model == make(case.CLASSES, auxiliary=False)
        assert set(names) == set(alone)


def test_the_lines_of_the_page_segment(answers, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "segmentation.md").read_text()
    (lines,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "segmentation_from_torchvision" in block
    ]
    # With one block in each stage, which compiles in less time.
    monkeypatch.setitem(resnet._BLOCKS, 50, (1, 1, 1, 1))
    drawn = drawn_of(answers, "deeplabv3_resnet50")
    short = {name: x for name, x in drawn.items() if not re.search(r"layer\d\.[1-9]", name)}
    monkeypatch.setattr(data, "read_weights", lambda path: short)
    image = np.random.default_rng(0).integers(0, 256, (33, 40, 3)).astype(np.uint8)
    space = {"image": image}
    exec(lines, space)
    assert space["labels"].shape == (33, 40)
    assert len(np.unique(space["labels"])) > 1


def test_other_weights_are_refused(answers):
    with pytest.raises(ValueError, match=r"no classifier\.4\.bias, expected those of fcn_resnet50"):
        models.segmentation_from_torchvision({"fc.bias": np.zeros(5)})
    weights = drawn_of(answers, "fcn_resnet50")
    with pytest.raises(ValueError, match=r"variables lack: backbone\.layer3\.6\.conv1; expected"):
        models.segmentation_from_torchvision(weights | {"backbone.layer3.6.conv1.weight": 0})
    with pytest.raises(ValueError, match=r"weights have no backbone\.layer3\.\d+\.bn1"):
        models.segmentation_from_torchvision(weights, depth=101)


@pytest.mark.parametrize("head", [models.FCNHead(5), models.DeepLabV3Head(5, features=4)])
def test_heads_in_training_drop_units_and_count_statistics(head):
    x = jnp.asarray(np.random.default_rng(0).random((2, 5, 6, 8)), jnp.float32)
    variables = jax.jit(head.init)(jax.random.key(0), x)
    train = jax.jit(
        lambda key: head.apply(
            variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
    )
    scores, state = train(jax.random.key(1))
    assert scores.shape == (2, 5, 6, 5)
    assert np.any(scores != train(jax.random.key(2))[0])
    means = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state["batch_stats"])
        if path[-1].key == "mean"
    ]
    assert len(means) == (1 if isinstance(head, models.FCNHead) else 7)
    assert all(np.any(mean) for mean in means)
    frozen = head.clone(norm="frozen")
    shapes = jax.eval_shape(frozen.init, jax.random.key(0), x)
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(shapes["params"])}
    assert names == {"kernel", "bias"}
