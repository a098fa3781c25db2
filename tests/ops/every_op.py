"""A call of every op on arrays of a few numbers, for what has to hold of all of them."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstruct import ops


class Call(NamedTuple):
    """f(*arrays), and the name of the op that it calls."""

    op: str
    f: Any
    arrays: tuple[Any, ...]


def calls(*, batch: int = 2, channels: int = 3) -> list[Call]:
    """Calls with a batch of so many examples, of so many channels or columns of values."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    key = jax.random.key(0)
    keys = jax.random.split(key, batch) if batch else key[None][:0]
    image, kernel = normal(batch, 6, 7, channels), normal(3, 3, channels, 2)
    boxes = normal(batch, 5, 4) * 3 + jnp.array([0.0, 0, 8, 8])[None, None]
    scores, points = normal(batch, 5), normal(40, 3)
    iou = jnp.abs(normal(batch, 5, 4)) / 4
    unary, photo = normal(batch, 5, 6, channels), jnp.abs(normal(batch, 5, 6, 3)) * 60
    values = normal(40, channels)
    lattice = partial(ops.PermutohedralLattice.build, capacity=40)
    labels = jnp.asarray(rng.integers(0, 2, (batch, 5)), jnp.int32)
    exact = ops.gaussian.ExactGaussian(points)

    def made(name: str, *arrays: Any, **options: Any) -> Call:
        return Call(name, partial(getattr(ops, name), **options), arrays)

    return [
        Call("PermutohedralLattice", lambda values: lattice(points)(values), (values,)),
        made("adaptive_mean_pool", image, size=(2, 4)),
        Call("anchor_grid", lambda: ops.anchor_grid(2, 3, stride=16, scales=[8], ratios=[1]), ()),
        made("atrous_conv", image, kernel, rate=2),
        made("batched_nms", boxes, scores, labels, iou_threshold=0.5, max_outputs=3),
        Call("bilinear_kernel", partial(ops.bilinear_kernel, 2, 3), ()),
        made("bilinear_sample", image, boxes[..., :2]),
        made("bilinear_sample", image, boxes[..., :2], outside="edge"),
        made("box_area", boxes),
        made("box_iou", boxes, boxes),
        Call("clip_boxes", lambda boxes: ops.clip_boxes(boxes, 6, 7), (boxes,)),
        made("conv", image, kernel),
        made("conv", image, kernel, stride=2),
        made("conv", image, kernel[:1, :1]),
        made("conv", image, normal(3, 3, 1, channels), groups=channels),
        made("conv", image, normal(9, 9, channels, 2)),
        made("decode_boxes", boxes / 9, boxes),
        made("dense_crf", unary, photo, capacity=30, iterations=2),
        made("dense_crf", unary, photo, filter="exact", iterations=2),
        made("encode_boxes", boxes, boxes),
        made("gaussian_filter", values, points, capacity=40),
        made("gaussian_filter", values, normal(40, 10), capacity=40),
        made("gaussian_filter", values, points, filter="exact"),
        made("gaussian_filter", values, normal(40, 10), filter="exact"),
        Call("gaussian_noise", lambda x: ops.gaussian_noise(key, x, 0.1), (values,)),
        Call("masking_noise", lambda x: ops.masking_noise(key, x, 0.4), (values,)),
        made("match", iou),
        made("max_pool", image, window=2, stride=2),
        made("max_pool", image, window=3, stride=2),
        Call(
            "mean_field",
            lambda unary: ops.mean_field(unary, [ops.crf.Kernel(exact, 2.0)], iterations=2),
            (values,),
        ),
        made("nms", boxes, scores, iou_threshold=0.5, max_outputs=3),
        made("pyramid_level", boxes),
        made("resize_bilinear", image, size=(12, 14)),
        made("resize_bilinear", image, size=(4, 9), align_corners=True),
        made("roi_align", image, boxes, output_size=2),
        made("roi_align", image, boxes, output_size=2, sampling_ratio=2, aligned=True),
        made("roi_pool", image, boxes, output_size=2),
        Call("salt_and_pepper_noise", lambda x: ops.salt_and_pepper_noise(key, x, 0.4), (values,)),
        Call(
            "sample_balanced",
            lambda label: ops.sample_balanced(keys, label, size=4, positive_fraction=0.5),
            (labels,),
        ),
        made("spatial_pyramid_pool", image, boxes, levels=(2, 1)),
        made("torch_upconv_kernel", normal(channels, 2, 3, 3)),
        made("upconv", image, normal(4, 4, channels, 2), stride=2),
        made("upconv", image, kernel, stride=2),
        made("upconv", image, normal(4, 4, channels, 9), stride=2),
        made("window_cells", boxes, stride=4),
    ]
