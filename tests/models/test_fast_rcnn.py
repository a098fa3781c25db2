"""Fast R-CNN: equal to Faster R-CNN with its regions; the pyramid by a slow reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstruct import models
from tests.models import detection_layers as layers

CANVAS, CLASSES = (64, 96), 3
SIZES = jnp.array([[64, 96], [52, 60]])


def network_of(pooling="pool", **options):
    vgg = models.VGG(11, last="conv3_2")
    head = models.VGGHead(16, size=1 if pooling == "pyramid" else 7, dropout=0.0)
    given = {"backbone": vgg, "levels": ("conv3_2",), "head": head, "pooling": pooling}
    return models.FastRCNN(CLASSES, **{**given, **options})


def drawn(*shape):
    return jnp.array(np.random.default_rng(3).random(shape), jnp.float32)


def proposals_of(seed=0, number=20):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 64, (2, number, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2) + 2], axis=-1).astype(np.float32)
    valid = np.arange(number) < np.array([[number], [number - 5]])
    return models.Proposals(jnp.array(boxes), jnp.ones((2, number)), jnp.array(valid))


def test_detects_what_faster_rcnn_detects_among_its_own_proposals():
    images = drawn(2, *CANVAS, 3)
    parts = {"backbone": models.VGG(11, last="conv3_2"), "levels": ("conv3_2",)}
    head = models.VGGHead(16, dropout=0.0)
    faster = models.FasterRCNN(CLASSES, **parts, head=head, scales=((16.0, 32.0),))
    variables = jax.jit(faster.init)(jax.random.key(0), images, SIZES)
    proposals = faster.apply(variables, images, SIZES, method="propose", before=100, after=30)
    expected = faster.apply(variables, images, SIZES, before=100, after=30, method="detect")
    fast = network_of()
    own = jax.eval_shape(fast.init, jax.random.key(0), images, SIZES, proposals)["params"]
    assert {*own} == {"backbone", "head", "class_logits", "class_deltas"}
    kept = {"params": {name: variables["params"][name] for name in own}}
    found = fast.apply(kept, images, SIZES, proposals)
    assert np.any(expected.valid)
    for name, x in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), x, err_msg=name)


def test_padding_of_proposals_is_not_detected():
    images, proposals = drawn(2, *CANVAS, 3), proposals_of()
    fast = network_of()
    variables = jax.jit(fast.init)(jax.random.key(0), images, SIZES, proposals)
    boxes = jnp.where(proposals.valid[..., None], proposals.boxes, jnp.array([1.0, 2, 40, 30]))
    found, other = (
        fast.apply(variables, images, SIZES, proposals._replace(boxes=b))
        for b in (boxes, proposals.boxes)
    )
    np.testing.assert_array_equal(found.boxes, other.boxes)
    np.testing.assert_array_equal(found.scores, other.scores)


def test_pyramid_pools_the_cells_whose_centres_a_region_holds():
    proposals, fast = proposals_of(1), network_of("pyramid")
    maps = {"conv3_2": drawn(2, 16, 24, 5)}  # of stride 4
    variables = {"params": {}}
    pooled = np.asarray(fast.apply(variables, maps, proposals.boxes, method="pooled"))
    assert pooled.shape == (2, 20, 1, 1, 250)
    for image in range(2):
        for region in range(20):
            grid, window = np.asarray(maps["conv3_2"][image]), proposals.boxes[image, region]
            expected = layers.pyramid(grid, window.tolist(), layers.PYRAMID, 1 / 4)
            np.testing.assert_array_equal(pooled[image, region, 0, 0], expected.reshape(-1))


def test_pyramid_learns_and_detects():
    images, proposals = drawn(2, *CANVAS, 3), proposals_of()
    fast = network_of("pyramid")
    variables = jax.jit(fast.init)(jax.random.key(0), images, SIZES, proposals)
    assert variables["params"]["head"]["fc6"]["kernel"].shape == (1, 1, 50 * 256, 16)
    found = jax.jit(fast.apply)(variables, images, SIZES, proposals)
    assert found.boxes.shape == (2, 100, 4)
    assert np.any(found.valid)

    def cost(params):
        maps = fast.apply({"params": params}, images, SIZES, method="maps")
        logits, _ = fast.apply({"params": params}, maps, proposals.boxes, method="classify")
        return jax.nn.log_softmax(logits)[..., 1].sum()

    gradients = jax.jit(jax.grad(cost))(variables["params"])
    for part in ("backbone", "head", "class_logits"):
        assert all(np.any(x) for x in jax.tree.leaves(gradients[part])), part


def test_refuses_other_poolings_and_pyramids_of_several_levels():
    images, proposals = jnp.zeros((2, *CANVAS, 3)), proposals_of()
    with pytest.raises(ValueError, match="got pooling 'mean', expected align, pool or pyramid"):
        network_of("mean").init(jax.random.key(0), images, SIZES, proposals)
    levels = ("conv2_1", "conv3_2")
    with pytest.raises(ValueError, match=r"got levels \(.*\) of pooling 'pyramid', expected one"):
        network_of("pyramid", levels=levels).init(jax.random.key(0), images, SIZES, proposals)


def test_a_region_where_nothing_is_seen_keeps_gradients_finite():
    fast, proposals = network_of("pyramid"), proposals_of(1)
    given = drawn(2, *CANVAS, 3), SIZES, proposals
    params = fast.init(jax.random.key(0), *given)["params"]
    parts = {"params": {name: x for name, x in params.items() if name != "backbone"}}

    def total(values):
        _, deltas = fast.apply(parts, {"conv3_2": values}, proposals.boxes, method="classify")
        return jnp.sum((deltas - 1) ** 2)

    seen = drawn(2, 16, 24, params["class_deltas"]["kernel"].shape[0] // 50).at[1].set(0)
    gradient = jax.grad(total)(seen)
    assert np.isfinite(gradient).all()
    assert np.any(gradient[0])
