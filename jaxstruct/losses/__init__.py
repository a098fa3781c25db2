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
from jaxstruct.losses.class_weights import median_frequency_weights
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
    BERNOULLI,
    GAUSSIAN,
    Likelihood,
    bernoulli_log_likelihood,
    gaussian_log_likelihood,
    standard_normal_log_density,
)
from jaxstruct.losses.penalties import r1_penalty
from jaxstruct.losses.reconstruction import squared_error
from jaxstruct.losses.segmentation import segmentation_loss
from jaxstruct.losses.variational import (
    importance_sampled_likelihood,
    importance_weighted_bound,
    kl_to_standard_normal,
    reparameterize,
)

__all__ = [
    "BERNOULLI",
    "GAUSSIAN",
    "Likelihood",
    "Sampled",
    "bernoulli_log_likelihood",
    "box_loss",
    "class_loss",
    "gaussian_log_likelihood",
    "importance_sampled_likelihood",
    "importance_weighted_bound",
    "kl_to_standard_normal",
    "log_generated",
    "log_real",
    "median_frequency_weights",
    "minimax_loss",
    "non_saturating_loss",
    "objectness_loss",
    "optimal_discriminator",
    "r1_penalty",
    "reparameterize",
    "sample_anchors",
    "sample_proposals",
    "sampled",
    "segmentation_loss",
    "smooth_l1",
    "squared_error",
    "standard_normal_log_density",
]
