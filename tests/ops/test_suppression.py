"""nms and batched_nms against hand-worked cases, a slow reference, torchvision, and themselves."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from jaxstruct.ops import _greedy, _sorting, batched_nms, nms, suppression

RECORDED = np.load(Path(__file__).parents[1] / "recorded" / "ops_boxes.npz")
COUNT = 45  # one size for most tests: a program each
PLAIN = functools.partial(nms, iou_threshold=0.5, max_outputs=COUNT)
CLASSES = functools.partial(batched_nms, iou_threshold=0.5, max_outputs=COUNT)


def slow(boxes, scores, threshold, labels=None, valid=None):
    """Indices that are kept, in float32, box by box, as the equations are written."""
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    valid = np.ones(len(boxes), bool) if valid is None else valid
    labels = np.zeros(len(boxes)) if labels is None else labels
    rank = np.where(np.isnan(scores), np.inf, scores)
    waiting = sorted(np.flatnonzero(valid), key=lambda i: (not np.isnan(scores[i]), -rank[i], i))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    with np.errstate(all="ignore"):
        while waiting:
            i, *waiting = waiting
            kept.append(i)
            low = np.fmax(boxes[i, :2], boxes[:, :2])
            high = np.fmin(boxes[i, 2:], boxes[:, 2:])
            side = np.fmax(np.float32(0), high - low)
            inter = side[:, 0] * side[:, 1]
            iou = (inter / (area[i] + area - inter)).astype(np.float64)
            waiting = [j for j in waiting if not (iou[j] > threshold and labels[i] == labels[j])]
    return np.array(kept, int)


def kept(result):
    index, valid = map(np.asarray, result)
    assert index.dtype == np.int32
    assert valid.dtype == bool
    count = int(valid.sum())
    assert valid[:count].all()
    assert (index[count:] == 0).all()
    return index[:count]


def example(seed, count=COUNT, extent=60):
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, extent, (count, 2)), rng.uniform(8, 40, (count, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
    scores = np.round(rng.random(count), 1).astype(np.float32)
    return boxes, scores, rng.integers(-2, 3, count).astype(np.int32)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_by_hand():
    boxes = jnp.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [0, 5, 10, 15.0]])
    scores = jnp.array([0.5, 0.9, 0.5, 0.1])
    # Box 1 comes first; box 0 overlaps it by 50 / 100, and box 3 by 50 / 150.
    index, valid = nms(boxes, scores, iou_threshold=0.4, max_outputs=5)
    np.testing.assert_array_equal(index, [1, 2, 3, 0, 0])
    np.testing.assert_array_equal(valid, [True, True, True, False, False])
    # An IoU that equals the threshold does not suppress.
    assert kept(nms(boxes, scores, iou_threshold=0.5, max_outputs=5)).tolist() == [1, 0, 2, 3]
    assert kept(nms(boxes, scores, iou_threshold=0.4, max_outputs=2)).tolist() == [1, 2]


def test_the_threshold_is_a_double():
    # 80 / 100 in float32 is 0.800000012, above 0.8.
    boxes = jnp.array([[0, 0, 10, 10], [0, 0, 10, 8.0]])
    assert kept(nms(boxes, jnp.ones(2), iou_threshold=0.8, max_outputs=2)).tolist() == [0]


@pytest.mark.parametrize("name", ["crowded", "spread", "pixels"])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_equals_torchvision_ties_included(name, threshold):
    boxes, scores = RECORDED[f"nms_{name}_boxes"], RECORDED[f"nms_{name}_scores"]
    result = nms(boxes, scores, iou_threshold=threshold, max_outputs=len(boxes))
    np.testing.assert_array_equal(kept(result), RECORDED[f"nms_{name}_{threshold}"])


def test_equals_torchvision_to_the_last_digit():
    boxes, scores = RECORDED["digits_boxes"], RECORDED["digits_scores"]
    expected = RECORDED["digits_kept"]
    # A pair is one or two: neither is rare, so that a rounding that differs would show.
    assert 0.2 < (len(expected) - 600) / 600 < 0.8
    labels = np.repeat(np.arange(600), 2)
    for size in (1200, 500):  # class by class, and all classes together
        result = batched_nms(boxes, scores, labels, iou_threshold=0.7, max_outputs=size)
        np.testing.assert_array_equal(kept(result), expected[:size])


@pytest.mark.parametrize("size", [1100, 100])
def test_classes_equal_torchvision(size):
    arguments = [RECORDED[f"classes_{name}"] for name in ("boxes", "scores", "labels")]
    result = batched_nms(*arguments, iou_threshold=0.5, max_outputs=size)
    np.testing.assert_array_equal(kept(result), RECORDED["classes_kept"][:size])


def test_the_tiles_of_an_accelerator_give_the_same():
    boxes, scores, labels = (RECORDED[f"classes_{name}"] for name in ("boxes", "scores", "labels"))
    usable = jnp.ones(scores.shape, bool)
    words = (_sorting.descending(jnp.asarray(scores), usable),)
    options = _greedy.Options(0.5, 1100, None)
    tiles = suppression._ACCELERATOR._replace(block=512)
    run = jax.jit(functools.partial(_greedy.suppress, options, tiles))
    np.testing.assert_array_equal(
        kept(run(jnp.asarray(boxes), words, usable, jnp.asarray(labels))), RECORDED["classes_kept"]
    )
    plain = nms(boxes, scores, iou_threshold=0.5, max_outputs=1100)
    same(run(jnp.asarray(boxes), words, usable, None), plain)


@pytest.mark.parametrize("count", [COUNT, 600])  # all classes together, and class by class
@pytest.mark.parametrize("tiles", [suppression._CPU, _greedy.Tiles(512, 256, radix=False)])
def test_a_second_word_decides_among_equal_scores(count, tiles):
    boxes, scores, labels = example(11, count, extent=200)
    usable = jnp.ones(scores.shape, bool)
    area = jnp.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    words = tuple(_sorting.descending(jnp.asarray(by), usable) for by in (scores, area))
    options = _greedy.Options(0.5, count, None)
    found = kept(
        jax.jit(functools.partial(_greedy.suppress, options, tiles))(
            jnp.asarray(boxes), words, usable, jnp.asarray(labels)
        )
    )
    order = np.lexsort((-np.asarray(area), -scores))
    expected = order[slow(boxes[order], scores[order], 0.5, labels[order])]
    np.testing.assert_array_equal(found, expected)
    today = kept(batched_nms(boxes, scores, labels, iou_threshold=0.5, max_outputs=count))
    assert found.tolist() != today.tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_slow_reference(seed):
    boxes, scores, labels = example(seed)
    valid = np.random.default_rng(seed).random(COUNT) < 0.8
    np.testing.assert_array_equal(kept(PLAIN(boxes, scores)), slow(boxes, scores, 0.5))
    np.testing.assert_array_equal(
        kept(CLASSES(boxes, scores, labels, valid=valid)), slow(boxes, scores, 0.5, labels, valid)
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_permutation_and_translation(seed):
    boxes, _, _ = example(seed)
    boxes, rng = np.round(boxes), np.random.default_rng(seed)
    scores = (rng.permutation(COUNT) / COUNT).astype(np.float32)
    order = rng.permutation(COUNT)
    before = kept(PLAIN(boxes, scores))
    np.testing.assert_array_equal(order[kept(PLAIN(boxes[order], scores[order]))], before)
    # Whole pixels are exact.
    np.testing.assert_array_equal(kept(PLAIN(boxes + np.float32(37), scores)), before)


def test_few_outputs_are_the_first_of_many():
    boxes, scores, labels = example(3)
    for call, arguments in ((nms, ()), (batched_nms, (labels,))):
        many = call(boxes, scores, *arguments, iou_threshold=0.5, max_outputs=COUNT + 6)
        few = call(boxes, scores, *arguments, iou_threshold=0.5, max_outputs=7)
        np.testing.assert_array_equal(kept(few), kept(many)[:7])
        assert many[1].shape == (COUNT + 6,)


def test_none_one_and_nothing_valid():
    index, valid = nms(jnp.zeros((0, 4)), jnp.zeros(0), iou_threshold=0.5, max_outputs=3)
    assert index.tolist() == [0, 0, 0]
    assert not valid.any()
    one = nms(jnp.ones((1, 4)), jnp.ones(1), iou_threshold=0.5, max_outputs=3)
    assert kept(one).tolist() == [0]
    boxes, scores, labels = example(4)
    assert len(kept(PLAIN(boxes, scores, valid=np.zeros(COUNT, bool)))) == 0
    assert len(kept(CLASSES(boxes, scores, labels, valid=np.zeros(COUNT, bool)))) == 0


def test_what_is_not_valid_suppresses_nothing():
    boxes, scores, _ = example(5)
    valid = np.arange(COUNT) % 3 > 0
    expected = np.flatnonzero(valid)[kept(PLAIN(boxes[valid], scores[valid]))]
    np.testing.assert_array_equal(kept(PLAIN(boxes, scores, valid=valid)), expected)


def test_score_threshold_is_exclusive():
    boxes, scores, _ = example(6)
    result = kept(PLAIN(boxes, scores, score_threshold=0.3))
    np.testing.assert_array_equal(result, slow(boxes, scores, 0.5, valid=scores > np.float32(0.3)))
    assert (scores == np.float32(0.3)).any()


def test_degenerate_boxes_and_nan():
    boxes, scores, labels = example(7)
    boxes[3, 1] = boxes[20, 2] = np.nan
    boxes[5] = boxes[6] = [4, 4, 4, 9]  # no area: 0 / 0 with itself
    boxes[7] = boxes[7, [2, 3, 0, 1]]  # malformed
    boxes[8] = [0, 0, np.inf, np.inf]
    expected = slow(boxes, scores, 0.5)
    assert {3, 20, 5, 6} <= set(expected.tolist())
    np.testing.assert_array_equal(kept(PLAIN(boxes, scores)), expected)
    np.testing.assert_array_equal(
        kept(CLASSES(boxes, scores, labels)), slow(boxes, scores, 0.5, labels)
    )


def test_scores_of_nan_infinity_and_two_zeros():
    boxes = np.arange(COUNT, dtype=np.float32)[:, None] * 100 + np.float32([0, 0, 9, 9])
    scores = np.full(COUNT, -1, np.float32)
    scores[[4, 9, 2, 7, 11, 30]] = [-0.0, 0.0, np.inf, np.nan, -np.inf, np.nan]
    result = kept(PLAIN(boxes, scores))
    assert result[:5].tolist() == [7, 30, 2, 4, 9]  # NaN, NaN, infinity, and the zeros as a tie
    assert result[-1] == 11
    assert kept(PLAIN(boxes, scores, score_threshold=-0.5)).tolist() == [2, 4, 9]


def test_batch_jit_vmap_pmap_and_shard_map_are_the_loop():
    batch = [
        np.stack(v) for v in zip(*(example(i, extent=20 * i + 5) for i in range(8)), strict=True)
    ]
    mesh, spec = Mesh(np.array(jax.devices()[:8]), ("d",)), PartitionSpec("d")
    for call, arguments in ((PLAIN, batch[:2]), (CLASSES, batch)):
        loop = [call(*one) for one in zip(*arguments, strict=True)]
        loop = [np.stack(v) for v in zip(*loop, strict=True)]
        sharded = jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec)
        for form in (call, jax.jit(jax.vmap(call)), jax.pmap(call), jax.jit(sharded)):
            same(list(form(*arguments)), loop)
        mapped = jax.jit(jax.vmap(jax.vmap(call)))
        twice = mapped(*(v.reshape(2, 4, *v.shape[1:]) for v in arguments))
        same([v.reshape(8, COUNT) for v in twice], loop)


def test_vmap_over_scores_alone():
    boxes, scores, _ = example(9)
    several = np.stack([scores, scores[::-1], -scores])
    result = jax.vmap(PLAIN, in_axes=(None, 0))(boxes, several)
    same([v[1] for v in result], list(PLAIN(boxes, several[1])))


def test_gradients_pass_by_the_choice():
    boxes, scores, _ = example(10)

    def total(boxes, scores):
        index, valid = PLAIN(boxes, scores)
        return jnp.sum(jnp.where(valid, scores[index] * boxes[index, 2], 0))

    chosen = kept(PLAIN(boxes, scores))
    expected = np.zeros((COUNT, 4), np.float32), np.zeros(COUNT, np.float32)
    expected[0][chosen, 2], expected[1][chosen] = scores[chosen], boxes[chosen, 2]
    for derive in (jax.grad, jax.jacfwd):
        same(jax.jit(derive(total, argnums=(0, 1)))(boxes, scores), expected)
    batch = jax.jit(jax.grad(lambda b, s: jax.vmap(total)(b, s).sum(), argnums=(0, 1)))
    same(tuple(v[0] for v in batch(boxes[None], scores[None])), expected)


def test_dtypes():
    boxes, scores, labels = example(11)
    narrow = [jnp.asarray(v, jnp.bfloat16) for v in (boxes, scores)]
    np.testing.assert_array_equal(
        kept(PLAIN(*narrow)), slow(*(np.asarray(v, np.float32) for v in narrow), 0.5)
    )
    with jax.enable_x64(True):
        same(PLAIN(boxes, scores), PLAIN(boxes.astype(np.float64), scores))
        double = [v.astype(np.float64) for v in (boxes, scores)]
        same(CLASSES(*double, labels), CLASSES(boxes, scores, labels))
        assert len(kept(batched_nms(*double, labels, iou_threshold=0.5, max_outputs=600)))
        # 1/3 + 1e-12 is above a third in float64 alone.
        pair = jnp.array([[0, 0, 2, 1], [1 - 1e-11, 0, 3 - 1e-11, 1]], jnp.float64)
        ones = jnp.ones(2)
        assert len(kept(nms(pair, ones, iou_threshold=1 / 3, max_outputs=2))) == 1
        single = pair.astype(jnp.float32)
        assert len(kept(nms(single, ones, iou_threshold=0.34, max_outputs=2))) == 2


@pytest.mark.parametrize("count", [COUNT, 600])  # 600: class by class
def test_labels_of_64_bits_are_not_cut(count):
    boxes, scores, labels = example(12, count)
    wide = labels + 5 + 2**32 * (np.arange(count) % 2)
    assert wide.dtype == np.int64
    expected = slow(boxes, scores, 0.5, wide)
    assert len(expected) > len(slow(boxes, scores, 0.5, wide.astype(np.int32)))
    call = functools.partial(batched_nms, iou_threshold=0.5, max_outputs=count)
    for values in (wide, wide.astype(np.uint64), wide - 2**40):
        np.testing.assert_array_equal(kept(call(boxes, scores, values)), expected)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(kept(jax.jit(call)(boxes, scores, wide)), expected)


def test_the_threshold_is_rounded_down():
    for threshold in (0.1, 0.3, 0.5, 0.7, 1 / 3, 0.0, 1.0):
        floor = _greedy._floor(threshold, np.dtype(np.float32))
        assert floor.dtype == np.float32
        assert float(floor) <= threshold < float(np.nextafter(floor, np.float32(2)))


@pytest.mark.parametrize("count", [1, 2, 45, 1100])
def test_radix_order_is_the_stable_order(count):
    rng = np.random.default_rng(count)
    words = [rng.integers(0, high, count).astype(np.uint32) for high in (3, 2**32)]
    words[1][count // 2 :] = words[1][: count - count // 2]
    expected = np.lexsort(words[::-1])
    for radix in (True, False):
        order = _sorting.order([jnp.asarray(w) for w in words], radix)
        np.testing.assert_array_equal(order, expected)


def test_errors_name_what_was_given():
    boxes, scores, labels = example(0)
    with pytest.raises(ValueError, match=r"boxes has shape \(45, 3\), expected \[N, 4\]"):
        PLAIN(boxes[:, :3], scores)
    with pytest.raises(ValueError, match=r"scores \(44,\), expected one score"):
        PLAIN(boxes, scores[1:])
    with pytest.raises(ValueError, match=r"valid \(1,\)"):
        PLAIN(boxes, scores, valid=np.ones(1, bool))
    with pytest.raises(TypeError, match="boxes has dtype int32, expected a floating dtype"):
        PLAIN(boxes.astype(np.int32), scores)
    with pytest.raises(TypeError, match="labels has dtype float32, expected an integer dtype"):
        CLASSES(boxes, scores, labels.astype(np.float32))
    with pytest.raises(TypeError, match="valid has dtype int32"):
        PLAIN(boxes, scores, valid=np.ones(45, np.int32))
    for options, error, text in (
        (
            {"iou_threshold": 1.5},
            ValueError,
            r"iou_threshold is 1.5, expected a number in \[0, 1\]",
        ),
        ({"iou_threshold": float("nan")}, ValueError, "iou_threshold is nan"),
        ({"iou_threshold": jnp.ones(())}, TypeError, "known when tracing"),
        ({"max_outputs": 0}, ValueError, "max_outputs is 0, expected an integer of at least 1"),
        ({"max_outputs": 1.0}, TypeError, r"max_outputs is 1.0"),
        ({"score_threshold": "high"}, TypeError, "score_threshold is 'high'"),
    ):
        with pytest.raises(error, match=text):
            PLAIN(boxes, scores, **options)
