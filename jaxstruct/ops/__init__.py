"""Pure functions of arrays; this layer imports jax and numpy, and nothing else."""

from jaxstruct.ops import crf, gaussian
from jaxstruct.ops.anchors import anchor_grid
from jaxstruct.ops.assignment import match, sample_balanced
from jaxstruct.ops.boxes import (
    box_area,
    box_iou,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    pyramid_level,
    window_cells,
)
from jaxstruct.ops.convolution import atrous_conv, conv
from jaxstruct.ops.corruption import gaussian_noise, masking_noise, salt_and_pepper_noise
from jaxstruct.ops.crf import dense_crf, mean_field
from jaxstruct.ops.gaussian import gaussian_filter
from jaxstruct.ops.permutohedral import PermutohedralLattice
from jaxstruct.ops.pooling import adaptive_mean_pool, max_pool
from jaxstruct.ops.region_alignment import roi_align
from jaxstruct.ops.region_pooling import roi_pool, spatial_pyramid_pool
from jaxstruct.ops.sampling import bilinear_sample, resize_bilinear
from jaxstruct.ops.suppression import batched_nms, nms
from jaxstruct.ops.upconvolution import bilinear_kernel, torch_upconv_kernel, upconv

__all__ = [
    "PermutohedralLattice",
    "adaptive_mean_pool",
    "anchor_grid",
    "atrous_conv",
    "batched_nms",
    "bilinear_kernel",
    "bilinear_sample",
    "box_area",
    "box_iou",
    "clip_boxes",
    "conv",
    "crf",
    "decode_boxes",
    "dense_crf",
    "encode_boxes",
    "gaussian",
    "gaussian_filter",
    "gaussian_noise",
    "masking_noise",
    "match",
    "max_pool",
    "mean_field",
    "nms",
    "pyramid_level",
    "resize_bilinear",
    "roi_align",
    "roi_pool",
    "salt_and_pepper_noise",
    "sample_balanced",
    "spatial_pyramid_pool",
    "torch_upconv_kernel",
    "upconv",
    "window_cells",
]
