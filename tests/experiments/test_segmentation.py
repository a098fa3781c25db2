"""What segmenters share: eight images learnt by heart, stages that go on, what is scored."""

import dataclasses
import json
import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import (
    _backbones,
    _beside,
    _deeplab,
    _fcn,
    _segmentation,
    _segmenter_evaluation,
    _segmenter_pictures,
    deeplab_crf_camvid,
    fcn_camvid,
)
from experiments._segmenter_evaluation import Segmenter
from jaxstruct import data, figures, ops
from jaxstruct.data.sets import camvid
from jaxstruct.metrics import Confusion
from jaxstruct.models import resnet
from jaxstruct.training import State, batches_in_order, run

EIGHT = dataclasses.replace(
    fcn_camvid.SMOKE,
    train="train[:8]",
    validation="train[:8]",
    test="train[:8]",
    height=128,
    width=128,
    seen_height=128,
    seen_width=128,
    zoom=1.0,
    flip=0.0,
    color=0.0,
    balance=0.0,
    finest=(8,),
    epochs=(120.0,),
    learning_rate=5e-3,
    trunk_rate=1.0,
)


ROAD = camvid.CLASSES.index("road")  # around all shapes of the imitation


@pytest.fixture(autouse=True)
def small(monkeypatch):
    # One block a stage: a network of half the layers compiles in half the time.
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))


DEEPLAB = deeplab_crf_camvid.Config(
    **{name: value for name, value in vars(EIGHT).items() if name not in ("finest", "epochs")}
    | {"hidden": 64, "dropout": 0.0, "epochs": 120.0, "schedule": "cosine"}
)


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize(
    ("experiment", "config"),
    [(fcn_camvid, EIGHT), (deeplab_crf_camvid, DEEPLAB)],
    ids=["fcn", "deeplab"],
)
def test_eight_images_are_learnt_by_heart(experiment, config, tmp_path, monkeypatch):
    # Images that fill the canvas: scores of stride 8 say .964 of the truth of such shapes, and
    # .917 of smaller ones (see `_fcn.bound`).
    scene = camvid.masked_scene
    monkeypatch.setattr(camvid, "masked_scene", lambda i, size, *rest: scene(i, (128, 128), *rest))
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "prepared"))
    with data.looking(imitations=True):
        made = experiment.experiment(config)
        made = dataclasses.replace(made, score=None, figures=None, best=None, in_workdir=None)
        found = run(made, tmp_path / "run", devices=jax.devices()[:1])
        assert found.metrics["mean_iou"] >= 0.95
        example = data.open_reader("camvid", "train[:8]")(np.arange(1))
    image, truth = example["image"][0], example["class_map"][0]
    things = (truth != 255) & (truth != ROAD)
    larger = np.kron(image, np.ones((5, 5, 1), np.uint8))
    for given, step in ((image, 1), (larger, 5)):
        record, _ = made.predict(jax.random.key(0), found.state, given)
        assert record["class_map"].shape == given.shape[:2]
        said = record["class_map"][step // 2 :: step, step // 2 :: step]
        assert np.mean(said[things] == truth[things]) > 0.7


def test_a_finer_stage_begins_where_the_coarser_ended():
    config = dataclasses.replace(EIGHT, finest=(32, 16), epochs=(1.0, 1.0))
    with data.looking(imitations=True):
        first, second = fcn_camvid.experiment(config).stages
    key = jax.random.key(0)
    ended = first.init(key, None)
    ended = ended.replace(params=jax.tree.map(lambda x: x + 1, ended.params))
    begun = second.init(key, ended)
    shared = set(ended.params) & set(begun.params)
    assert shared == {"trunk", "score32"}
    for part in shared:
        jax.tree.map(np.testing.assert_array_equal, begun.params[part], ended.params[part])
    assert set(begun.params) - shared == {"score16", "up16"}
    assert not np.any(begun.params["score16"]["kernel"])
    jax.tree.map(
        np.testing.assert_array_equal, begun.model_state["stats"], ended.model_state["stats"]
    )


SEGMENTER = Segmenter(None, (8, 8), ((0.0,), (1.0,)), ("sky", "car", "cat"), ("car", "cat"))


def test_scores():
    counts = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    found = _segmenter_evaluation.scores(SEGMENTER, Confusion(counts))
    assert found["iou/sky"] == pytest.approx(6 / 9)
    assert found["mean_iou"] == found["iou/car"] == pytest.approx(3 / 6)
    assert found["mean_iou_all"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert found["accuracy"] == pytest.approx(9 / 12)
    assert found["classes"] == 2
    assert "iou/cat" not in found
    assert _segmenter_evaluation.scores(SEGMENTER, Confusion(0 * counts)) == {"classes": 0}
    every = SEGMENTER._replace(scored=SEGMENTER.classes)
    assert "mean_iou_all" not in _segmenter_evaluation.scores(every, Confusion(counts))


@pytest.mark.parametrize("size", [(8, 6), (24, 18), (13, 31), (3, 2)])
def test_classes_one_by_one_are_those_of_all_scores_at_once(size):
    values = np.random.default_rng(0).normal(size=(8, 6, 5)).astype(np.float32)
    values[..., 3] = values[..., 1]  # of equal scores the first one counts
    found = _segmenter_evaluation.class_map_of(jnp.asarray(values), size)
    assert found.dtype == np.uint8
    expected = np.argmax(ops.resize_bilinear(values, size), -1)
    np.testing.assert_array_equal(found, expected)


class Constant:
    """A network that says class 1 of every pixel."""

    def apply(self, variables, images):
        return jax.nn.one_hot(jnp.ones(images.shape[:3], int), 3)


def test_pixels_near_boundaries_are_scored_apart():
    class_map = np.zeros((2, 8, 8), np.uint8)
    class_map[:, :, 4:] = 1
    class_map[:, 0] = 255
    distance = np.where(np.arange(8) < 4, 4 - np.arange(8), np.arange(8) - 3)
    distance[:2] = 1  # of class 0: a band has more of one class than of the other
    distance = np.broadcast_to(distance, class_map.shape).astype(np.float32)
    batches = batches_in_order(
        {
            "image": np.zeros((2, 8, 8, 3), np.uint8),
            "class_map": class_map,
            "boundary_distance": distance,
        },
        2,
    )
    segmenter = SEGMENTER._replace(model=Constant(), scored=("sky", "car"))
    kept = []
    evaluate = _segmenter_evaluation.evaluation(
        segmenter, batches, [1, 2], cross_entropy=True, keep=kept.append
    )
    state = State.create(jax.random.key(0), {}, {}, {"frozen": {}, "stats": {}})
    found = evaluate(state)
    np.testing.assert_array_equal(kept, [[[0, 56, 0], [0, 56, 0], [0, 0, 0]]])
    assert found["mean_iou"] == pytest.approx(0.25)
    # Of the columns within 1 pixel, one of four is of class 1; within 2, two of six.
    assert found["mean_iou_1px"] == pytest.approx(1 / 4 / 2)
    assert found["mean_iou_2px"] == pytest.approx(2 / 6 / 2)
    assert found["accuracy"] == pytest.approx(0.5)
    # Of logits (0, 1, 0); half of the labelled pixels are of class 1.
    assert found["cross_entropy"] == pytest.approx(np.log(np.e + 2) - 0.5)


def test_a_set_that_was_scored_is_not_swept_again_for_its_confusion(monkeypatch):
    class Swept(Exception):
        pass

    def evaluation(segmenter, batches, *, keep):
        assert batches == "the test set"
        raise Swept

    monkeypatch.setattr(_segmenter_pictures, "evaluation", evaluation)
    sets = SimpleNamespace(test="the test set")
    counts = {"8s": np.eye(3), "16s": np.zeros((3, 3))}
    draw = partial(_segmenter_pictures.confusion, SEGMENTER, sets, counts, None)
    assert set(draw("8s")) == {"confusion"}
    assert draw("16s") == {}
    with pytest.raises(Swept):
        draw("32s")


@pytest.fixture
def objects(tmp_path):
    """An image, and what a detector says of it."""
    Image.new("RGB", (8, 6)).save(tmp_path / "car.png")
    thing = {"class": "car", "category_id": 7, "score": 0.9, "box": [1, 1, 5, 4.5]}
    told = {"image": "car.png", "size": [6, 8], "objects": [thing]}

    def write(**changes):
        (tmp_path / "car.json").write_text(json.dumps(told | changes))
        return _beside.Beside(tmp_path / "car.png", tmp_path / "car.json", tmp_path / "both.png")

    return write


def test_a_state_is_answered_for_by_the_network_that_it_is_of():
    """A run that has not ended has a coarser network than its last."""
    segmenters = {
        f"{finest}s": SEGMENTER._replace(model=SimpleNamespace(finest=finest))
        for finest in (32, 16, 8)
    }
    state = lambda *scores: SimpleNamespace(params={f"score{n}": 0 for n in scores})
    for scores, name in (((32,), "32s"), ((32, 16), "16s"), ((32, 16, 8), "8s")):
        assert _fcn.of_state(segmenters, state(*scores)) is segmenters[name]
    alone = {"8s": segmenters["8s"]}
    assert _fcn.of_state(alone, state(32, 16, 8)) is _fcn.of_state(alone, None) is alone["8s"]


def test_a_class_has_one_color_in_pictures_and_in_index_files():
    config = dataclasses.replace(EIGHT, finest=(8,))
    with data.looking(imitations=True):
        own, painted = (
            _fcn.experiment(config, "camvid", colors=colors) for colors in (None, [[1, 2, 3]] * 11)
        )
        deeplab = _deeplab.experiment(DEEPLAB, "camvid")
    for made in (own, deeplab):  # those of pictures without others
        np.testing.assert_array_equal(made.colors, figures.label_colors(11))
    np.testing.assert_array_equal(painted.colors, [[1, 2, 3]] * 11)


def test_classes_stand_beside_the_boxes_of_a_detector(objects, tmp_path, capsys):
    run = SimpleNamespace(state=State.create(None, {}, {}, {"frozen": {}, "stats": {}}))
    segmenter = SEGMENTER._replace(model=Constant())
    arguments = objects()
    boxes, classes, words = _beside.objects_of(segmenter, arguments.objects, (6, 8))
    assert boxes.tolist() == [[1, 1, 5, 4.5]]
    assert (classes.tolist(), words) == ([1], ["car 0.90"])
    for name in ("both.png", "both-2.png"):
        _beside.beside(segmenter, arguments, run)
        assert capsys.readouterr().out == f"{tmp_path / name}\n"
        assert Image.open(tmp_path / name).width > 500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": [8, 6]}, "of an image of (8, 6) pixels, expected (6, 8)"),
        ({"objects": [{"class": "cow", "score": 1, "box": [0, 0, 1, 1]}]}, "of class cow, exp"),
        ({"objects": [{"class": 7, "score": 1, "box": [0, 0, 1, 1]}]}, "of class 7, expected"),
        ({"objects": None}, "no objects, expected what a detector's predict wrote"),
    ],
)
def test_objects_of_another_kind_or_image_are_refused(changes, message, objects):
    path = objects(**changes).objects
    with pytest.raises(data.DataError, match=re.escape(message)):
        _beside.objects_of(SEGMENTER, path, (6, 8))


def test_what_scores_of_a_stride_can_say():
    whole = np.zeros((32, 64), np.int32)
    whole[:, 32:] = 1
    np.testing.assert_array_equal(_segmenter_evaluation.of_stride(whole, 2, 32), whole)
    pole = np.zeros((32, 64), np.int32)
    pole[:, 20] = 1
    assert not _segmenter_evaluation.of_stride(pole, 2, 32).any()
    assert _segmenter_evaluation.of_stride(pole, 2, 1).tolist() == pole.tolist()
    void = np.full((20, 24), 255)
    assert (_segmenter_evaluation.of_stride(void, 2, 8) == 255).all()


def test_the_bound_of_a_stride_is_a_mean_iou():
    class Reader:
        size = 2

        def __call__(self, indices):
            whole = np.zeros((32, 64), np.uint8)
            whole[:, 32:] = 1
            pole = whole.copy()
            pole[:, 20] = 2
            return {"class_map": [[whole, pole][i] for i in indices]}

    segmenter = SEGMENTER._replace(scored=SEGMENTER.classes)
    coarse, fine = (_fcn.bound(segmenter, Reader(), stride) for stride in (32, 1))
    assert fine == 1
    ious = [(2 * 32 * 32 - 32) / (2 * 32 * 32), 1.0, 0.0]
    assert coarse == pytest.approx(np.mean(ious))
    assert _fcn.bound(SEGMENTER._replace(scored=("dog",)), Reader(), 32) is None


def test_pixels_are_counted_by_their_true_class():
    counts = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert _segmenter_evaluation.pixels(SEGMENTER, counts) == {"pixels/sky": 8, "pixels/car": 4}


def test_frozen_blocks_of_a_real_set_have_weights():
    real = SimpleNamespace(absent=False, source=SimpleNamespace(origin="official"))
    imitated = SimpleNamespace(absent=False, source=SimpleNamespace(origin="imitation"))
    for allowed in ((0, "", real), (2, "file.pth", real), (2, "", imitated)):
        _backbones.check_start(*allowed)
    with data.looking(imitations=True):  # --smoke
        _backbones.check_start(2, "", real)
    with pytest.raises(ValueError, match=r"--weights is empty, and --frozen 2 .* --frozen 0"):
        _backbones.check_start(2, "", real)


@pytest.mark.parametrize(
    ("hidden", "head", "taken"), [(4096, True, True), (512, True, False), (4096, False, False)]
)
@pytest.mark.parametrize("frozen", [0, 2])
def test_weights_fill_the_trunk_and_a_head_of_full_width(monkeypatch, hidden, head, taken, frozen):
    asked = []

    def with_weights(variables, trunk, weights, *, head, place):
        asked.append((weights, head, place))
        params = {part: jax.tree.map(jnp.ones_like, x) for part, x in variables["params"].items()}
        return {**variables, "params": params}

    monkeypatch.setattr(_segmentation, "with_weights", with_weights)
    config = dataclasses.replace(
        EIGHT, trunk="vgg16", weights="a file", hidden=hidden, frozen=frozen
    )
    layers = ("conv1_1", "conv2_1", "conv3_1")
    params = {"trunk": {layer: {"kernel": jnp.zeros(1)} for layer in layers}}
    kept = {"frozen": {}, "stats": {"batch_stats": jnp.zeros(1)}}
    begun = State.create(jax.random.key(0), params, (), kept)
    state = _segmentation.from_weights(config, begun, head=head)
    assert asked == [("a file", taken, "trunk")]
    still = {f"trunk/{layer}" for layer in layers[:frozen]}
    assert {"/".join(path[:2]) for path in paths(state.model_state["frozen"])} == still
    assert all(x == 1 for x in jax.tree.leaves(_backbones.variables_of(state)["params"]))
    assert state.model_state["stats"] == kept["stats"]


def paths(tree, *before):
    """The places of the leaves of nested dicts."""
    if not isinstance(tree, dict):
        return [before]
    return [place for key, x in tree.items() for place in paths(x, *before, key)]


def test_the_first_stage_alone_begins_with_weights():
    config = dataclasses.replace(
        EIGHT, trunk="vgg16", weights="a file", finest=(32, 16), epochs=(1.0, 1.0)
    )
    with data.looking(imitations=True):
        first, second = fcn_camvid.experiment(config).stages
    assert first.start is not None
    assert second.start is None


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_trunk_has_a_rate_of_its_own(optimizer):
    config = dataclasses.replace(
        EIGHT, optimizer=optimizer, schedule="constant", learning_rate=0.1, trunk_rate=0.25
    )
    made = _segmentation.optimizer_of(config, 10)
    params = {"trunk": {"bias": jnp.ones(2)}, "score8": {"bias": jnp.ones(2)}}
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = made.update(gradients, made.init(params), params)
    np.testing.assert_allclose(updates["score8"]["bias"], -0.1, rtol=1e-4)
    np.testing.assert_allclose(updates["trunk"]["bias"], -0.025, rtol=1e-4)


def test_the_rate_falls_to_0_by_the_power_of_the_poly_schedule():
    config = dataclasses.replace(EIGHT, optimizer="sgd", schedule="poly", learning_rate=0.1)
    made = _segmentation.optimizer_of(config, 4)
    params = {"score8": {"bias": jnp.zeros(1)}}
    state, moved = made.init(params), []
    for _ in range(4):
        updates, state = made.update({"score8": {"bias": jnp.ones(1)}}, state, params)
        moved.append(float(updates["score8"]["bias"][0]))
    momentum, expected = 0.0, []
    for step in range(4):
        momentum = 0.9 * momentum + 1
        expected.append(-0.1 * (1 - step / 4) ** 0.9 * momentum)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "imagenet"}, "--weights is imagenet, expected a file for resnet18"),
        ({"epochs": (1.0, 1.0)}, "expected one, or one for each of --finest"),
        ({"finest": (8, 16), "epochs": (1.0, 1.0)}, "expected the coarser strides first"),
        ({"zoom": 0.5}, "--zoom is 0.5, expected at least 1"),
        ({"frozen": 6}, "--frozen is 6, expected at most 5, the blocks of resnet18"),
    ],
)
def test_what_no_segmenter_has_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EIGHT, **changes)
