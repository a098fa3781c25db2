"""Totals and counts that add up over batches and devices, and the numbers they become."""

from jaxstruct.metrics.boundaries import boundary_band, boundary_distance
from jaxstruct.metrics.confusion import Confusion
from jaxstruct.metrics.detection import (
    Detections,
    PrecisionRecall,
    Truth,
    best_overlaps,
    coco_scores,
    voc_curves,
)
from jaxstruct.metrics.frechet import Moments, frechet_distance
from jaxstruct.metrics.mean import Mean
from jaxstruct.metrics.nearest import nearest_examples
from jaxstruct.metrics.parzen import parzen_log_likelihood

__all__ = [
    "Confusion",
    "Detections",
    "Mean",
    "Moments",
    "PrecisionRecall",
    "Truth",
    "best_overlaps",
    "boundary_band",
    "boundary_distance",
    "coco_scores",
    "frechet_distance",
    "nearest_examples",
    "parzen_log_likelihood",
    "voc_curves",
]
