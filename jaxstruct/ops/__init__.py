"""Pure functions of arrays; this floor imports jax and numpy, and nothing else."""

from jaxstruct.ops.anchors import anchor_grid
from jaxstruct.ops.assignment import match, sample_balanced
from jaxstruct.ops.boxes import box_area, box_iou, clip_boxes, decode_boxes, encode_boxes
from jaxstruct.ops.region_alignment import roi_align
from jaxstruct.ops.region_pooling import roi_pool, spatial_pyramid_pool
from jaxstruct.ops.sampling import bilinear_sample, resize_bilinear
from jaxstruct.ops.suppression import batched_nms, nms

__all__ = [
    "anchor_grid",
    "batched_nms",
    "bilinear_sample",
    "box_area",
    "box_iou",
    "clip_boxes",
    "decode_boxes",
    "encode_boxes",
    "match",
    "nms",
    "resize_bilinear",
    "roi_align",
    "roi_pool",
    "sample_balanced",
    "spatial_pyramid_pool",
]
