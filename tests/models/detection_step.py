"""One training step of a detector, watched, and its comparison with a reference."""

import contextlib
from functools import partial
from zlib import crc32

import jax
import numpy as np
import pytest

from experiments import _detector_evaluation, _detector_training
from jaxstruct import models
from jaxstruct.models import vgg
from tests.models import detection_reference as reference

CANVAS, STRIDE, CLASSES = (64, 96), 16, 3
CELLS = CANVAS[0] // STRIDE, CANVAS[1] // STRIDE
BLOCKS = 1, 1, 1, 1, 3
SMALLER = {"rpn_deltas": 0.05, "class_deltas": 0.3, "logits": 0.2}
SEED = 22

near = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


@contextlib.contextmanager
def small_trunk():
    """A VGG16 that compiles quickly, whose last layer still is conv5_3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "_WIDTHS", (4, 4, 8, 8, 8))
        patch.setitem(vgg._LAYERS, 16, BLOCKS)
        yield


def weights_of(model, *given):
    """Float32 weights, drawn from their names, of sizes that leave no value about 0 everywhere."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *given)

    def drawn(path, like):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng([SEED, crc32(name.encode())])
        deviation = np.sqrt(2 / np.prod(like.shape[:-1])) if like.ndim > 1 else 0.1
        factor = next((factor for part, factor in SMALLER.items() if part in name), 1.0)
        return (factor * deviation * rng.standard_normal(like.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(drawn, shapes["params"])


def step_of(loss, taught):
    """A function to the terms, what passed through, and gradients by weights and by the map.

    `taught(seen, batch, keys)` is what the loss draws, of what passed through.
    """
    call, best_proposals = _detector_training.call, models.best_proposals

    def total(trained, added, frozen, batch, keys):
        seen = {}

        def watched(model, variables, method, *given, **options):
            found = call(model, variables, method, *given, **options)
            if method == "maps":
                found = {name: x + added for name, x in found.items()}
            elif method == "classify":
                seen["regions"] = given[1]
                seen["pooled"] = call(model, variables, "pooled", *given)
            seen[method] = found
            return found

        def watched_proposals(*given, **options):
            seen["proposals"] = best_proposals(*given, **options)
            return seen["proposals"]

        with pytest.MonkeyPatch.context() as patch:
            for module in (_detector_training, _detector_evaluation):
                patch.setattr(module, "call", watched)
            patch.setattr(models, "best_proposals", watched_proposals)
            means, _ = loss(trained, {"frozen": frozen, "stats": {}}, batch, keys)
        terms = {name: mean.value for name, mean in means.items()}
        return sum(terms.values()), (terms, seen, taught(seen, batch, keys))

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))


def regions_of(found, places, candidates, boxes, classes, size, background=0.0):
    """The reference's regions, as `Drawn` has them, of the rows that ours drew from one image.

    Row `places[i]` of ours is candidate i.
    """
    label, nearest = reference.label_proposals(candidates, boxes, classes, background)
    pairs = zip(found.rows, found.valid, strict=True)
    rows = [places.index(row) if v else 0 for row, v in pairs]
    assert reference.admissible(label, rows, found.valid, size, 0.25)
    tens = reference.HEAD_WEIGHTS
    return [
        (candidates[row], *reference.expected(row, label, nearest, candidates, boxes, tens))
        for row, v in zip(rows, found.valid, strict=True)
        if v
    ]


def same_rows(found, rows):
    """Asserts that labels and targets of ours [S] are those of rows, as `Drawn` has them."""
    count = len(rows)
    _, label, target = zip(*rows, strict=True)
    assert found.label.tolist() == [*label, *[0] * (len(found.label) - count)]
    near(found.target[:count], [np.zeros(4) if t is None else t for t in target])


def agrees(function, at, gradient, rng, name):
    """Asserts that the difference along a direction is the gradient's product with it."""
    direction = jax.tree.map(lambda x: rng.standard_normal(x.shape), at)
    moved = (
        jax.tree.map(lambda x, d, sign=sign: x + sign * 1e-6 * d, at, direction) for sign in (1, -1)
    )
    ahead, behind = (function(x) for x in moved)
    products = jax.tree.map(np.vdot, gradient, direction)
    found = sum(jax.tree.leaves(products))
    assert found == pytest.approx((ahead - behind) / 2e-6, rel=1e-4), name
