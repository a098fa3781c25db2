"""Pure functions of arrays; this floor imports jax and numpy, and nothing else."""

from jaxstruct.ops.anchors import anchor_grid
from jaxstruct.ops.assignment import match, sample_balanced
from jaxstruct.ops.boxes import box_area, box_iou, clip_boxes, decode_boxes, encode_boxes
from jaxstruct.ops.suppression import batched_nms, nms

__all__ = [
    "anchor_grid",
    "batched_nms",
    "box_area",
    "box_iou",
    "clip_boxes",
    "decode_boxes",
    "encode_boxes",
    "match",
    "nms",
    "sample_balanced",
]
