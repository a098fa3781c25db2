"""What a detector is scored by, and the pictures of its scores."""

from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import _detector_evaluation, _detector_pictures, detectors_study
from jaxstruct import data, figures, ops
from jaxstruct.training import State, batches_in_order


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
    detector = _detector_evaluation.Detector(None, (8, 8), 1, classes, scored or classes)
    return _detector_evaluation.scores(detector, rows)


def test_scores():
    found = scores(rows(), ("cat", "dog", "cow"))
    assert found["ap50/cat"] == found["ap50/dog"] == found["ap50"] == found["ap50_11"] == 1
    assert found["ap"] == pytest.approx(1)
    assert (found["recall50"], found["recall70"]) == (0.5, 0.5)
    assert "ap50/cow" not in found
    # Half of the dogs are found: at 6 of 11 recalls, and over half of the area.
    two = rows(found_valid=np.array([[True, True, False]]), difficult=np.zeros((1, 3), bool))
    found = scores(two, ("cat", "dog"), ("dog",))
    assert (found["ap50"], found["ap50_11"]) == (0.5, pytest.approx(6 / 11))
    missed = rows(found_valid=np.array([[True, False, False]]))
    found = scores(missed, ("cat", "dog"))
    assert (found["ap50/cat"], found["ap50/dog"], found["ap50"]) == (1, 0, 0.5)
    assert scores(missed, ("cat", "dog"), ("cat",))["ap50"] == 1
    assert "ap50" not in scores(missed, ("cat", "dog", "cow"), ("cow",))


@pytest.mark.parametrize(("scored", "drawn"), [(("cat",), True), (("cow",), False)])
def test_precision_is_drawn_where_there_is_a_class(monkeypatch, scored, drawn):
    detector = _detector_evaluation.Detector(None, (8, 8), 1, ("cat", "dog", "cow"), scored)
    monkeypatch.setattr(_detector_pictures, "swept", lambda detector: lambda *given: rows())
    batches = batches_in_order({"image": np.zeros((1, 8, 8, 3), np.uint8)}, 1)
    state = State.create(jax.random.key(0), {}, (), {"frozen": {}, "stats": {}})
    found = _detector_pictures._precision_recall(detector, batches, state)
    assert ("precision_recall" in found) == drawn


def test_a_study_without_a_precision_has_no_bars():
    assert detectors_study.draw_metrics({"joint": {"test/seconds": 1.0}}) == {}
    both = {"joint": {"test/seconds": 1.0, "test/ap50": 0.5}, "sppnet": {"test/seconds": 2.0}}
    assert [*detectors_study.draw_metrics(both)] == ["precision_and_time"]


def test_a_method_with_svms_has_a_bar_for_its_softmax_too(monkeypatch):
    seen = []
    monkeypatch.setattr(detectors_study.figures, "bar_panels", lambda bars: seen.append(bars))
    of = lambda name, ap50: {f"{name}/ap50": ap50, f"{name}/seconds": 0.75}
    svms = {**of("test_softmax", 0.6), **of("test", 0.5)}
    search = {f"{name}/search_seconds": 0.5 for name in ("test", "test_softmax")}
    detectors_study.draw_metrics({"joint": of("test", 0.4), "fast_rcnn": svms | search})
    (bars,) = seen
    assert bars["AP50"] == {"joint": 0.4, "fast_rcnn, softmax": 0.6, "fast_rcnn, SVMs": 0.5}
    of_search = {"network": 0.25, "Selective Search": 0.5}
    assert bars["seconds an image"] == {
        "joint": {"network": 0.75, "Selective Search": 0},
        "fast_rcnn, softmax": of_search,
        "fast_rcnn, SVMs": of_search,
    }


@pytest.mark.parametrize("searching", [0.5, None])
def test_what_a_user_searched_has_no_seconds(monkeypatch, searching):
    class Stored(data.ReaderWithProposals):
        seconds = searching

        def __init__(self):
            pass

        def __call__(self, indices):
            return {"image": np.zeros((1, 8, 8, 3), np.uint8), "proposals": [np.zeros((1, 4))]}

    monkeypatch.setattr(_detector_evaluation, "median_seconds", lambda work: 0.25)
    found = _detector_evaluation.seconds(None, None, Stored())
    unknown = {"network_seconds": 0.25}
    assert found == ({"seconds": 0.75, "search_seconds": 0.5} if searching else unknown)
    scores = {"test/ap50": 0.5, **{f"test/{name}": value for name, value in found.items()}}
    seen = []
    monkeypatch.setattr(detectors_study.figures, "bar_panels", lambda bars: seen.append(bars))
    detectors_study.draw_metrics({"fast_rcnn": scores})
    expected = {"network": 0.25, "Selective Search": searching or 0}
    assert seen[0]["seconds an image"] == {"fast_rcnn": expected}


@pytest.mark.parametrize(
    ("stored", "given", "said"),
    [
        ("selective_search-fast-320", [[1, 2, 3, 4]], "1 objects in 2.00 s after 1.00 s of {}\n"),
        ("", None, "1 objects in 2.00 s\n"),
    ],
)
def test_predict_says_how_long_the_search_took(monkeypatch, capsys, stored, given, said):
    box = np.array([[2, 3, 12, 13]], np.float32)
    regions, times = [], iter([0.0, 1.0, 10.0, 12.0] if stored else [0.0, 10.0, 12.0])

    def found(detector, state, image, proposals):
        regions.append(proposals)
        return box, np.array([2]), np.array([0.75]), None

    monkeypatch.setattr(data, "searched", lambda kind, image: given if kind == stored else None)
    monkeypatch.setattr(_detector_evaluation, "in_image", found)
    monkeypatch.setattr(_detector_evaluation.time, "perf_counter", lambda: next(times))
    detector = _detector_evaluation.Detector(None, (8, 8), 1, ("cat", "dog"), (), stored)
    image = np.zeros((20, 30, 3), np.uint8)
    record, _ = _detector_evaluation.predict(detector, None, State(0, {}, (), {}, None), image)
    assert capsys.readouterr().out == said.format(stored)
    assert regions == [given, given]
    thing = {"class": "dog", "category_id": 2, "score": 0.75, "box": [2.0, 3.0, 12.0, 13.0]}
    assert record == {"size": [20, 30], "objects": [thing]}


@pytest.mark.parametrize("pooling", ["align", "pool"])
def test_regions_are_drawn_as_the_detector_pools_them(monkeypatch, pooling):
    values = np.random.default_rng(0).random((8, 8, 2), np.float32)
    backbone = SimpleNamespace(strides=lambda: {"last": 16})
    model = SimpleNamespace(pooling=pooling, levels=("last",), backbone=backbone, sampling_ratio=2)
    monkeypatch.setattr(_detector_pictures, "call", lambda *_: {"last": values[None]})
    drawn = []
    monkeypatch.setattr(figures, "region_pooling", lambda *given, **_: drawn.append(given))
    detector = _detector_evaluation.Detector(model, (128, 128), 1, ("cat",), ())
    box = np.array([[16, 20, 100, 90]], np.float32)
    state = State.create(None, {}, (), {"frozen": {}, "stats": {}})
    _detector_pictures._pooling(detector, state, np.zeros((128, 128, 3), np.uint8), box, box)
    op = ops.roi_pool if pooling == "pool" else partial(ops.roi_align, sampling_ratio=2)
    for pooled, cells in zip(drawn[0][3], (3, 4), strict=True):
        expected = op(values, np.repeat(box, 2, 0) / 16, output_size=cells)
        np.testing.assert_allclose(pooled, expected, rtol=1e-5)
