"""Average precision: VOC's rules by hand, COCO's numbers beside pycocotools'."""

import contextlib
import io

import numpy as np
import pytest

from jaxstruct.metrics import Detections, Truth, best_overlaps, coco_scores, voc_curves

NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("recall_1", "recall_10", "recall_100", "recall_small", "recall_medium", "recall_large"),
)


def found(*images):
    """Detections of images, each a list of (box, score) or (box, score, class)."""
    most = max(map(len, images))
    made = Detections(
        np.zeros((len(images), most, 4), np.float32),
        np.zeros((len(images), most), np.float32),
        np.ones((len(images), most), int),
        np.zeros((len(images), most), bool),
    )
    for i, boxes in enumerate(images):
        for j, (box, score, *of_class) in enumerate(boxes):
            made.boxes[i, j], made.scores[i, j], made.valid[i, j] = box, score, True
            made.classes[i, j] = of_class[0] if of_class else 1
    return made


def truth(*images, **more):
    """True boxes of images, each a list of boxes or of (box, class)."""
    made = found(*[[(b if len(b) == 4 else b[0], 0.0, 1 if len(b) == 4 else b[1]) for b in i]
                   for i in images])  # fmt: skip
    return Truth(made.boxes, made.classes, made.valid, **more)


A, B = (0, 0, 10, 10), (20, 0, 30, 10)
HALF = (0, 0, 10, 5)  # IoU .5 with A
FAR = (50, 50, 60, 60)


def voc(detections, true, **options):
    return voc_curves(detections, true, classes=[1], **options)[1]


def test_each_detection_in_the_order_of_scores():
    curve = voc(found([(FAR, 0.8), (A, 0.9)], [(B, 0.7)]), truth([A], [B, FAR]))
    assert curve.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.area() == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    # Recalls 0 to .3 have precision 1, .4 to .6 have 2/3, and those above have none.
    assert curve.eleven_points() == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


def test_a_second_match_is_wrong():
    curve = voc(found([(A, 0.9), (A, 0.8), (B, 0.7)]), truth([A, B]))
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])


def test_an_iou_that_just_suffices():
    assert voc(found([(HALF, 0.9)]), truth([A])).area() == 1
    assert voc(found([(HALF, 0.9)]), truth([A]), iou=0.51).area() == 0


def test_voc_compares_with_the_best_box_even_if_it_was_found():
    # Both true boxes overlap the second detection enough; the better one is taken already.
    near = (0, 0, 10, 9)
    curve = voc(found([(A, 0.9), (A, 0.8)]), truth([A, near]))
    assert curve.recall.tolist() == [0.5, 0.5]
    # COCO gives it the other one.
    scores, _ = coco_scores(found([(A, 0.9), (A, 0.8)]), truth([A, near]), classes=[1])
    assert scores["ap50"] == pytest.approx(1)


def test_difficult_boxes_are_neither_right_nor_wrong():
    true = truth([A, B], ignored=np.array([[True, False]]))
    curve = voc(found([(A, 0.9), (A, 0.8), (B, 0.7), (FAR, 0.6)]), true)
    assert curve.scores.tolist() == pytest.approx([0.7, 0.6])
    assert curve.recall.tolist() == [1, 1]
    assert curve.precision.tolist() == [1, 0.5]


def test_equal_scores_come_in_the_order_of_the_arrays():
    right_first = voc(found([(A, 0.5)], [(FAR, 0.5)]), truth([A], [B]))
    wrong_first = voc(found([(FAR, 0.5)], [(A, 0.5)]), truth([B], [A]))
    assert right_first.precision.tolist() == [1, 0.5]
    assert wrong_first.precision.tolist() == [0, 0.5]


def test_a_class_without_a_box_that_counts_has_no_number():
    true = truth([A, (B, 2)], ignored=np.array([[True, False]]))
    curves = voc_curves(found([(A, 0.9), (B, 0.9, 2), (B, 0.9, 3)]), true, classes=[1, 2, 3])
    assert list(curves) == [2]
    scores, by_class = coco_scores(found([(B, 0.9, 2)]), true, classes=[1, 2, 3])
    assert list(by_class) == [2]
    assert scores["ap"] == pytest.approx(1)
    assert "ap_medium" not in scores


def test_nothing_found():
    curve = voc(found([]), truth([A]))
    assert (curve.area(), curve.eleven_points()) == (0, 0)
    scores, _ = coco_scores(found([]), truth([A]), classes=[1])
    assert scores["ap"] == scores["recall_100"] == 0


def test_truth_as_its_own_detection_is_perfect():
    _, true = random_case(3)
    own = Detections(true.boxes, np.ones(true.valid.shape), true.classes, true.valid)
    assert coco_scores(own, Truth(*true[:3]), classes=range(4))[0]["ap"] == pytest.approx(1)
    for curve in voc_curves(own, Truth(*true[:3]), classes=range(4)).values():
        assert curve.area() == curve.eleven_points() == 1


def random_case(seed, images=12, most=130, boxes=9):
    """Detections around true boxes and elsewhere, with equal scores, crowds, and areas apart."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 150, (images, boxes, 2))
    sides = np.exp(rng.uniform(np.log(4), np.log(160), (images, boxes, 2)))
    true_boxes = np.concatenate([low, low + sides], -1).astype(np.float32)
    classes = rng.integers(0, 3, (images, boxes))
    valid = rng.random((images, boxes)) < 0.7
    areas = np.prod(sides, -1) * rng.uniform(0.4, 1, (images, boxes))
    crowd = rng.random((images, boxes)) < 0.15
    true = Truth(true_boxes, classes, valid, None, crowd, areas)
    chosen = rng.integers(0, boxes, (images, most))
    moved = np.take_along_axis(true_boxes, chosen[..., None], 1) + rng.normal(
        0, 4, (images, most, 4)
    )
    scores = (rng.integers(1, 40, (images, most)) / 40).astype(np.float32)
    of_class = np.where(
        rng.random((images, most)) < 0.8,
        np.take_along_axis(classes, chosen, 1),
        rng.integers(0, 4, (images, most)),
    )
    usable = rng.random((images, most)) < 0.95
    usable[0] = False
    valid[1] = False
    moved[..., 2:] = np.maximum(moved[..., 2:], moved[..., :2] + 1)
    return Detections(moved, scores, of_class, usable), true


def of_pycocotools(detections, true, classes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(box):
        return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]

    images = range(len(true.boxes))
    annotations = [
        {
            "image_id": i,
            "category_id": int(true.classes[i, j]),
            "bbox": xywh(true.boxes[i, j].astype(float)),
            "area": float(true.areas[i, j]),
            "iscrowd": int(true.crowd[i, j]),
        }
        for i in images
        for j in np.flatnonzero(true.valid[i])
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    found = [
        {
            "image_id": i,
            "category_id": int(detections.classes[i, j]),
            "bbox": xywh(detections.boxes[i, j].astype(float)),
            "score": float(detections.scores[i, j]),
        }
        for i in images
        for j in np.flatnonzero(detections.valid[i])
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in images],
            "annotations": annotations,
            "categories": [{"id": c} for c in classes],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools(seed):
    detections, true = random_case(seed)
    judge = of_pycocotools(detections, true, range(4))
    scores, by_class = coco_scores(detections, true, classes=range(4))
    # What has no number is -1 there.
    assert {name: scores.get(name, -1) for name in NAMES} == pytest.approx(
        dict(zip(NAMES, judge.stats, strict=True)), abs=1e-9
    )
    assert sorted(by_class) == [0, 1, 2]
    for c, numbers in by_class.items():
        of_class = judge.eval["precision"][:, :, c, 0, -1]
        assert numbers["ap"] == pytest.approx(of_class.mean(), abs=1e-9)
        assert numbers["ap75"] == pytest.approx(of_class[5].mean(), abs=1e-9)


def slow_voc(detections, true, c, iou):
    """The devkit's loop, one detection after the other."""
    listed = [
        (-detections.scores[i, j], i, j)
        for i, j in zip(*np.nonzero(detections.valid & (detections.classes == c)), strict=True)
    ]
    taken, right = set(), []
    for _, i, j in sorted(listed):
        best, at = -1.0, None
        for k in np.flatnonzero(true.valid[i] & (true.classes[i] == c)):
            a, b = detections.boxes[i, j].astype(float), true.boxes[i, k].astype(float)
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if w > 0 and h > 0:
                union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - w * h
                if w * h / union > best:
                    best, at = w * h / union, (i, k)
        if best >= iou and true.crowd[at]:
            continue
        right.append(best >= iou and at not in taken)
        if best >= iou:
            taken.add(at)
    hits = np.cumsum(right)
    return hits / np.sum(true.valid & (true.classes == c) & ~true.crowd), hits / np.arange(
        1, len(right) + 1
    )


@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_equal_to_the_devkit_s_loop(iou):
    detections, true = random_case(7)
    curves = voc_curves(detections, true, classes=range(4), iou=iou)
    assert sorted(curves) == [0, 1, 2]
    for c, curve in curves.items():
        recall, precision = slow_voc(detections, true, c, iou)
        np.testing.assert_array_equal(curve.recall, recall)
        np.testing.assert_array_equal(curve.precision, precision)


def test_the_best_overlap_of_each_true_box():
    proposals = np.array([[A, HALF, B], [FAR, A, A]], float)
    valid = np.array([[False, True, True], [True, False, False]])
    ignored = np.array([[False, False], [True, False]])
    overlaps = best_overlaps(proposals, valid, truth([A, B], [A, B], ignored=ignored))
    assert overlaps.tolist() == [0.5, 1, 0]
    assert best_overlaps(proposals[:, :0], valid[:, :0], truth([A], [A])).tolist() == [0, 0]


def test_shapes_that_do_not_fit_are_named():
    detections, true = random_case(0)
    with pytest.raises(ValueError, match=r"found.scores is \[12, 129\], expected \[12, 130\]"):
        voc_curves(detections._replace(scores=detections.scores[:, 1:]), true, classes=[1])
    with pytest.raises(ValueError, match=r"truth.crowd is \[12, 8\], expected \[12, 9\]"):
        coco_scores(detections, true._replace(crowd=true.crowd[:, 1:]), classes=[1])
    with pytest.raises(ValueError, match=r"truth.valid is \[11, 9\], expected \[12, 9\]"):
        coco_scores(detections, Truth(*(x[1:] for x in true[:3])), classes=[1])
    with pytest.raises(ValueError, match=r"proposals \(12, 130, 4\) of valid \(12, 129\)"):
        best_overlaps(detections.boxes, detections.valid[:, 1:], true)


def test_best_overlaps_of_the_first_proposals():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (3, 40, 2))
    proposals = np.concatenate([corner, corner + rng.uniform(5, 40, (3, 40, 2))], -1)
    valid = rng.random((3, 40)) < 0.7
    valid[2] = False
    corner = rng.uniform(0, 50, (3, 4, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (3, 4, 2))], -1)
    there = rng.random((3, 4)) < 0.8
    truth = Truth(boxes, np.ones((3, 4), int), there)
    numbers = (1, 3, 10, 1000)
    found = best_overlaps(proposals, valid, truth, numbers=numbers)
    for row, number in zip(found, numbers, strict=True):
        first = valid & (np.cumsum(valid, axis=1) <= number)
        np.testing.assert_array_equal(row, best_overlaps(proposals, first, truth))
    assert (np.diff(found, axis=0) >= 0).all()
    assert found[0].mean() < 0.5 * found[-1].mean()
    np.testing.assert_array_equal(found[-1], best_overlaps(proposals, valid, truth))
    with pytest.raises(ValueError, match=r"numbers are \[5, 0\], expected numbers from 1 on"):
        best_overlaps(proposals, valid, truth, numbers=(5, 0))
