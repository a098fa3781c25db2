"""One round of the adversarial game in float64 NumPy, by hand: losses and every gradient.

Written from Goodfellow et al. 2014, algorithm 1, with a delta for every equation. Rows are
examples. Parameters are a flat dict from "maxout1/linear/kernel" and the like to arrays; the masks
of dropout are given, scaled, so that 0.8 kept is a mask of 0 and 1.25.
"""

import zlib

import numpy as np


def parameters(widths, seed=0):
    """Kernels and biases that depend on nothing but names, shapes and a seed."""
    made = {}
    for layer, (inputs, *outputs) in widths.items():
        rng = np.random.default_rng([seed, zlib.crc32(layer.encode())])
        made[f"{layer}/kernel"] = rng.normal(0, 0.5, (inputs, *outputs))
        made[f"{layer}/bias"] = rng.normal(0, 0.3, outputs)
    return made


def of_generator(latent, hidden, size, seed=0):
    layers = {"hidden1": (latent, hidden), "hidden2": (hidden, hidden), "output": (hidden, size)}
    return parameters(layers, seed)


def of_discriminator(size, hidden, pieces, seed=0):
    layers = {
        "maxout1/linear": (size, pieces, hidden),
        "maxout2/linear": (hidden, pieces, hidden),
        "logit": (hidden, 1),
    }
    return parameters(layers, seed)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def generate(p, z):
    """x [n, size], and a function from its delta to the gradient of every parameter."""
    a1 = z @ p["hidden1/kernel"] + p["hidden1/bias"]
    h1 = np.where(a1 > 0, a1, 0)
    a2 = h1 @ p["hidden2/kernel"] + p["hidden2/bias"]
    h2 = np.where(a2 > 0, a2, 0)
    x = sigmoid(h2 @ p["output/kernel"] + p["output/bias"])

    def back(d_x):
        d_output = d_x * x * (1 - x)
        d_a2 = (d_output @ p["output/kernel"].T) * (a2 > 0)
        d_a1 = (d_a2 @ p["hidden2/kernel"].T) * (a1 > 0)
        return {
            "output/kernel": h2.T @ d_output,
            "output/bias": d_output.sum(0),
            "hidden2/kernel": h1.T @ d_a2,
            "hidden2/bias": d_a2.sum(0),
            "hidden1/kernel": z.T @ d_a1,
            "hidden1/bias": d_a1.sum(0),
        }

    return x, back


def maxout(p, layer, x):
    """h [n, units] with a loop over examples and units, and its backward pass."""
    kernel, bias = p[f"{layer}/linear/kernel"], p[f"{layer}/linear/bias"]
    n, (_, _, units) = len(x), kernel.shape
    h, chosen = np.empty((n, units)), np.empty((n, units), int)
    for e in range(n):
        for i in range(units):
            values = x[e] @ kernel[:, :, i] + bias[:, i]
            chosen[e, i] = np.argmax(values)
            h[e, i] = values[chosen[e, i]]

    def back(d_h):
        d_kernel, d_bias, d_x = np.zeros_like(kernel), np.zeros_like(bias), np.zeros_like(x)
        for e in range(n):
            for i in range(units):
                j = chosen[e, i]
                d_kernel[:, j, i] += d_h[e, i] * x[e]
                d_bias[j, i] += d_h[e, i]
                d_x[e] += d_h[e, i] * kernel[:, j, i]
        return d_x, {f"{layer}/linear/kernel": d_kernel, f"{layer}/linear/bias": d_bias}

    return h, back


def judge(p, x, masks):
    """D(x) [n], and a function from the delta of the logits to those of x and all parameters."""
    x0 = x * masks[0]
    h1, back1 = maxout(p, "maxout1", x0)
    h1_kept = h1 * masks[1]
    h2, back2 = maxout(p, "maxout2", h1_kept)
    h2_kept = h2 * masks[2]
    logits = h2_kept @ p["logit/kernel"] + p["logit/bias"]

    def back(d_logits):
        d = d_logits[:, None]
        d_h2, of_2 = back2((d @ p["logit/kernel"].T) * masks[2])
        d_h1, of_1 = back1(d_h2 * masks[1])
        gradient = {"logit/kernel": h2_kept.T @ d, "logit/bias": d.sum(0), **of_1, **of_2}
        return d_h1 * masks[0], gradient

    return sigmoid(logits[:, 0]), back


def discriminator(p_d, p_g, x, z, masks_real, masks_generated):
    """The mean cross-entropy of n real and n generated examples, and its gradient."""
    made, _ = generate(p_g, z)
    real, back_real = judge(p_d, x, masks_real)
    fake, back_fake = judge(p_d, made, masks_generated)
    n = len(x) + len(z)
    loss = -(np.sum(np.log(real)) + np.sum(np.log(1 - fake))) / n
    # d log D / d logit = 1 - D, d log(1 - D) / d logit = -D.
    _, of_real = back_real(-(1 - real) / n)
    _, of_fake = back_fake(fake / n)
    return loss, {name: of_real[name] + of_fake[name] for name in of_real}


def generator(p_d, p_g, z, masks, kind):
    """The mean loss of the generator over n examples, and its gradient."""
    made, back = generate(p_g, z)
    fake, back_fake = judge(p_d, made, masks)
    if kind == "minimax":
        loss, d_logits = np.mean(np.log(1 - fake)), -fake / len(z)
    else:
        loss, d_logits = -np.mean(np.log(fake)), (fake - 1) / len(z)
    d_made, _ = back_fake(d_logits)
    return loss, back(d_made)
