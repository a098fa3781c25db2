"""One forward and backward pass of the variational auto-encoder in float64 NumPy, by hand.

Written from Kingma & Welling 2014, appendices B and C, with a delta for every equation. Rows are
examples. Parameters are a flat dict from "encoder/mean/kernel" and the like to arrays.
"""

import zlib

import numpy as np


def parameter(name, shape, seed=0):
    """A weight that depends on nothing but its name and a seed."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.normal(0, 0.3, shape)


def parameters(size, hidden, latent, decoder_heads):
    widths = {
        "encoder/hidden_layer": (size, hidden),
        "encoder/mean": (hidden, latent),
        "encoder/log_variance": (hidden, latent),
        "decoder/hidden_layer": (latent, hidden),
        **{f"decoder/{head}": (hidden, size) for head in decoder_heads},
    }
    made = {}
    for layer, (inputs, outputs) in widths.items():
        made[f"{layer}/kernel"] = parameter(f"{layer}/kernel", (inputs, outputs))
        made[f"{layer}/bias"] = parameter(f"{layer}/bias", (outputs,))
    return made


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def linear(p, layer, inputs):
    return inputs @ p[f"{layer}/kernel"] + p[f"{layer}/bias"]


def linear_back(p, layer, inputs, delta, gradient):
    """Stores the gradients of a linear layer and returns the one of its inputs."""
    gradient[f"{layer}/kernel"] = inputs.T @ delta
    gradient[f"{layer}/bias"] = delta.sum(0)
    return delta @ p[f"{layer}/kernel"].T


def bernoulli(p, h, x, gradient):
    """sum log p(x | z) and its gradient by h; x log y + (1 - x) log(1 - y)."""
    y = sigmoid(linear(p, "decoder/logits", h))
    total = np.sum(x * np.log(y) + (1 - x) * np.log(1 - y))
    return total, linear_back(p, "decoder/logits", h, x - y, gradient)


def gaussian(p, h, x, gradient, bound=None):
    """sum log p(x | z) and its gradient by h; the mean behind a sigmoid, the variance bounded."""
    mean = sigmoid(linear(p, "decoder/mean", h))
    raw = linear(p, "decoder/log_variance", h)
    log_variance, slope = raw, np.ones_like(raw)
    if bound is not None:
        log_variance = bound + np.log(1 + np.exp(raw - bound))
        slope = sigmoid(raw - bound)
    variance = np.exp(log_variance)
    total = np.sum(-np.log(2 * np.pi * variance) / 2 - (x - mean) ** 2 / (2 * variance))
    d_mean = (x - mean) / variance
    d_log_variance = -1 / 2 + (x - mean) ** 2 / (2 * variance)
    return total, (
        linear_back(p, "decoder/mean", h, d_mean * mean * (1 - mean), gradient)
        + linear_back(p, "decoder/log_variance", h, d_log_variance * slope, gradient)
    )


def negative_bound(p, x, noise, likelihood):
    """-L / M over M examples with one sample each, and its gradient by every parameter."""
    h_encoder = np.tanh(linear(p, "encoder/hidden_layer", x))
    mean = linear(p, "encoder/mean", h_encoder)
    log_variance = linear(p, "encoder/log_variance", h_encoder)
    sigma = np.exp(log_variance / 2)
    z = mean + sigma * noise
    h_decoder = np.tanh(linear(p, "decoder/hidden_layer", z))

    ascent = {}
    log_likelihood, d_h = likelihood(p, h_decoder, x, ascent)
    d_z = linear_back(p, "decoder/hidden_layer", z, d_h * (1 - h_decoder**2), ascent)
    # Appendix B: -KL = 1/2 sum 1 + log sigma^2 - mu^2 - sigma^2.
    negative_kl = np.sum(1 + log_variance - mean**2 - sigma**2) / 2
    d_mean = d_z - mean
    d_log_variance = d_z * noise * sigma / 2 + (1 - sigma**2) / 2
    d_h = linear_back(p, "encoder/mean", h_encoder, d_mean, ascent)
    d_h = d_h + linear_back(p, "encoder/log_variance", h_encoder, d_log_variance, ascent)
    linear_back(p, "encoder/hidden_layer", x, d_h * (1 - h_encoder**2), ascent)

    examples = len(x)
    bound = (log_likelihood + negative_kl) / examples
    return -bound, {name: -value / examples for name, value in ascent.items()}
