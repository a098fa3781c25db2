"""Patches and whole frames: the same answers, the right labels; ImageNet's in photographs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import fully_convolutional as slid
from experiments import slid_efficientnet as efficientnet
from experiments._segmenter_sets import CAMVID_COLORS
from jaxstruct import data, models

MODEL = slid.PatchClassifier(classes=5, width=4)


def trained():
    params = jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 60, 60, 3)))["params"]
    return jax.tree.map(lambda x: x + 0.01, params)


@pytest.mark.parametrize("size", [(92, 84), (95, 99)])
def test_a_frame_as_one_network_says_what_its_patches_say(size):
    params = trained()
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    apply = jax.jit(lambda x: MODEL.apply({"params": params}, x))
    whole = apply(image[None])[0]
    windows = models.slid_windows(*size, size=slid.PATCH, stride=slid.STRIDE).astype(int)
    assert whole.shape[:2] == windows.shape[:2] == tuple((n - 60) // 8 + 1 for n in size)
    cut = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in windows.reshape(-1, 4)]
    alone = apply(np.stack(cut))[:, 0, 0].reshape(whole.shape)
    np.testing.assert_allclose(whole, alone, rtol=1e-5, atol=1e-6)
    assert np.ptp(alone) > 1e-3


def test_the_label_of_a_patch_is_that_of_its_middle():
    class_map = np.arange(100 * 90).reshape(100, 90)
    found = slid.middles(class_map)
    assert found.shape == (6, 4)
    assert found[0, 0] == class_map[30, 30]
    assert found[5, 3] == class_map[70, 54]
    assert slid.middles(class_map[None])[0].tolist() == found.tolist()


def test_patches_are_cut_and_mirrored_with_their_labels():
    ramp = np.arange(70 * 80).reshape(70, 80)
    image = np.stack([ramp // 80, ramp % 80, ramp * 0], -1).astype(np.uint8)
    draw = np.random.default_rng(0)
    found = slid.patches(40, draw, {"image": image, "class_map": ramp})
    assert found["image"].shape == (40, 60, 60, 3)
    seen = set()
    for patch, label in zip(found["image"], found["label"], strict=True):
        row, column, _ = patch[30, 30].astype(int)
        assert label == row * 80 + column
        assert abs(patch[0, 59, 1].astype(int) - patch[0, 0, 1]) == 59
        seen.add((bool(patch[0, 1, 1] < patch[0, 0, 1]), int(patch[0, 0, 0])))
    assert {mirrored for mirrored, _ in seen} == {True, False}
    assert {row for _, row in seen} == set(range(11))


def test_a_user_s_image_is_answered_where_a_patch_has_its_middle():
    state = dataclasses.make_dataclass("State", ["params"])(trained())
    image = np.random.default_rng(1).integers(0, 256, (77, 70, 3), np.uint8)
    record, _ = slid.predict(MODEL, list("abcde"), None, state, image)
    found = record["class_map"]
    assert found.shape == (77, 70)
    # Three rows of two patches, of 8x8 pixels around the middles; 255 elsewhere.
    assert (found != 255).sum() == 3 * 2 * 64
    assert (found[26:50, 26:42] != 255).all()
    answers = np.argmax(slid.slid(MODEL, state.params, jnp.asarray(image, jnp.float32) / 255), -1)
    np.testing.assert_array_equal(found[30:50:8, 30:42:8], answers)
    assert sum(record["shares"].values()) == pytest.approx(1, abs=1e-3)
    small, _ = slid.predict(MODEL, list("abcde"), None, state, image[:, :50])
    assert small["class_map"].shape == (77, 50)
    assert (small["class_map"] != 255).sum() == 3 * 1 * 64


def test_a_user_s_image_that_is_larger_than_a_frame_is_shrunk_to_its_size():
    state = dataclasses.make_dataclass("State", ["params"])(trained())
    image = np.random.default_rng(1).integers(0, 256, (64, 480, 3), np.uint8)
    whole, _ = slid.predict(MODEL, list("abcde"), None, state, image)
    twice = np.kron(image, np.ones((2, 2, 1), np.uint8))
    for turned in (twice, twice.transpose(1, 0, 2)):
        found, _ = slid.predict(MODEL, list("abcde"), None, state, turned)
        assert found["class_map"].shape == turned.shape[:2]
        assert found["size"] == list(turned.shape[:2])
    found, _ = slid.predict(MODEL, list("abcde"), None, state, twice)
    alike = found["class_map"][::2, ::2] == whole["class_map"]
    assert alike.mean() > 0.8


@pytest.mark.optimized
def test_shifts_make_a_finer_stride_of_the_same_answers():
    image = efficientnet.at_width(efficientnet.photograph("coffee"), 384)[:, 48:336]
    number, _ = efficientnet.SOUGHT["coffee"]
    fine = efficientnet.seen(image, 2)[..., number]
    assert fine.shape == (2, 4)
    shifted = [efficientnet.seen(image[:240, x : x + 272], 1)[..., number] for x in (0, 16)]
    assert shifted[0].shape == (1, 2)
    np.testing.assert_allclose(fine[0, 0::2], shifted[0][0], rtol=1e-3)
    np.testing.assert_allclose(fine[0, 1::2], shifted[1][0], rtol=1e-3)
    assert fine.max() > 0.05


@pytest.mark.parametrize("shifts", [1, 2, 4])
def test_the_middles_of_windows_cover_an_image(shifts, monkeypatch):
    """A network that answers with the pixel in the middle of each window."""
    middles = lambda model, variables, x: x[:, 112:-111:32, 112:-111:32]
    monkeypatch.setattr(efficientnet, "imagenet", lambda: (None, None))
    monkeypatch.setattr(efficientnet, "_slid", middles)
    rows, columns = np.indices((70, 101))
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    found = efficientnet.seen(efficientnet.surrounded(image, shifts), shifts) * 128 + 127
    step = 32 // shifts
    assert found.shape == (3 * shifts, 4 * shifts, 3)
    inside = found[: 70 // step, : 101 // step]
    y, x = np.indices(inside.shape[:2]) * step + step // 2
    np.testing.assert_allclose(inside, np.stack([y, x, 0 * y], -1), atol=1e-3)


def test_an_image_keeps_its_shape_at_a_width():
    assert efficientnet.at_width(np.zeros((20, 100, 3), np.uint8), 300).shape == (60, 300, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shifts": 3}, "--shifts is 3, expected one of 1, 2, 4"),
        ({"classes": (1000,)}, "--classes is 1000, expected at least 0 and at most 999"),
        ({"scales": ()}, "--scales is empty"),
        ({"width": 20}, "--width is 20, expected at least 32"),
    ],
)
def test_what_cannot_be_looked_at_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        efficientnet.Config(**changes)


@pytest.mark.parametrize(
    "changes", [{"photographs": ("coffee", "coffee")}, {"scales": (1.0, 2.0, 1.0)}]
)
def test_a_photograph_is_shown_once(changes):
    with pytest.raises(ValueError, match="expected different values"):
        efficientnet.Config(**changes)


def test_classes_have_the_colors_of_the_set():
    with data.looking(imitations=True):
        made = slid.experiment(slid.SMOKE)
    np.testing.assert_array_equal(made.colors, CAMVID_COLORS)
