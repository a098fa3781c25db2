"""Losses: pure functions of predictions and targets that return one value per example.

Vectors lie along the last axis, any axes before it are examples; the caller sums and divides.
"""

from jaxstruct.losses.adversarial import (
    log_generated,
    log_real,
    minimax_loss,
    non_saturating_loss,
    optimal_discriminator,
)
from jaxstruct.losses.boxes import smooth_l1
from jaxstruct.losses.detection import (
    Sampled,
    box_loss,
    class_loss,
    objectness_loss,
    sample_anchors,
    sample_proposals,
    sampled,
)
from jaxstruct.losses.likelihoods import (
    bernoulli_log_likelihood,
    gaussian_log_likelihood,
    standard_normal_log_density,
)
from jaxstruct.losses.reconstruction import squared_error
from jaxstruct.losses.variational import (
    importance_weighted_bound,
    kl_to_standard_normal,
    reparameterize,
)

__all__ = [
    "Sampled",
    "bernoulli_log_likelihood",
    "box_loss",
    "class_loss",
    "gaussian_log_likelihood",
    "importance_weighted_bound",
    "kl_to_standard_normal",
    "log_generated",
    "log_real",
    "minimax_loss",
    "non_saturating_loss",
    "objectness_loss",
    "optimal_discriminator",
    "reparameterize",
    "sample_anchors",
    "sample_proposals",
    "sampled",
    "smooth_l1",
    "squared_error",
    "standard_normal_log_density",
]
