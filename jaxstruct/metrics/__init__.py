"""Totals and counts that add up over batches and devices, and the numbers they become."""

from jaxstruct.metrics.confusion import Confusion
from jaxstruct.metrics.frechet import Moments, frechet_distance
from jaxstruct.metrics.mean import Mean
from jaxstruct.metrics.parzen import parzen_log_likelihood

__all__ = [
    "Confusion",
    "Mean",
    "Moments",
    "frechet_distance",
    "parzen_log_likelihood",
]
