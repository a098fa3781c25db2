"""One step of DCGAN's game at 16x16 in NumPy, float64: every layer forward and backward by hand.

Radford et al. 2016, section 3: generator and discriminator of two (up)convolutions of 5x5 with
stride 2; Goodfellow et al. 2014, algorithm 1, with the generator's -log D(G(z)). A layer returns
its result and a function from the result's gradient to those of its input and its parameters.
"""

import numpy as np

SLOPE, EPSILON = 0.2, 1e-5


def dense(x, w, b=0.0):
    return x @ w + b, lambda g: (g @ w.T, {"kernel": x.T @ g, "bias": g.sum(0)})


def conv(x, kernel):
    """ "SAME" with stride 2: of the 5 - 2 = 3 rows that are missing, one is before the image."""
    n, half = x.shape[1], x.shape[1] // 2
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    at = [(i, j) for i in range(5) for j in range(5)]
    seen = {(i, j): padded[:, i : i + n : 2, j : j + n : 2] for i, j in at}
    assert seen[4, 4].shape[1] == half

    def back(g):
        pulled, by_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for i, j in at:
            by_kernel[i, j] = np.tensordot(seen[i, j], g, ((0, 1, 2), (0, 1, 2)))
            pulled[:, i : i + n : 2, j : j + n : 2] += g @ kernel[i, j].T
        return pulled[:, 1:-2, 1:-2], by_kernel

    return sum(seen[t] @ kernel[t] for t in at), back


def upconv(x, kernel):
    """Every pixel q adds to the pixels 2 q + 3 - t, for the taps t of the kernel."""
    b, n, _, depth = len(x), x.shape[1], x.shape[2], kernel.shape[3]
    pairs = [
        (q, 2 * q + 3 - t, t) for q in range(n) for t in range(5) if 0 <= 2 * q + 3 - t < 2 * n
    ]
    out = np.zeros((b, 2 * n, 2 * n, depth))
    for q, p, t in pairs:
        for r, s, u in pairs:
            out[:, p, s] += x[:, q, r] @ kernel[t, u]

    def back(g):
        by_x, by_kernel = np.zeros_like(x), np.zeros_like(kernel)
        for q, p, t in pairs:
            for r, s, u in pairs:
                by_x[:, q, r] += g[:, p, s] @ kernel[t, u].T
                by_kernel[t, u] += x[:, q, r].T @ g[:, p, s]
        return by_x, by_kernel

    return out, back


def batch_norm(x, scale, bias):
    """Also the batch's mean and variance, for the running ones."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    deviation = np.sqrt(variance + EPSILON)
    normal = (x - mean) / deviation

    def back(g):
        inner = g * scale
        centered = inner - inner.mean(axes) - normal * (inner * normal).mean(axes)
        return centered / deviation, {"scale": (g * normal).sum(axes), "bias": g.sum(axes)}

    return normal * scale + bias, back, (mean, variance)


def leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x), lambda g: np.where(x > 0, g, slope * g)


def generator(params, z):
    """Images in [-1, 1], a function from their gradient to the parameters', and statistics."""
    stats = {}
    x, back_project = dense(z, params["project"]["kernel"])
    x = x.reshape(len(z), 4, 4, -1)
    x, back_norm0, stats["project_norm"] = batch_norm(x, **params["project_norm"])
    x, back_relu0 = leaky_relu(x, 0.0)
    x, back_up1 = upconv(x, params["upconv1"]["kernel"])
    x, back_norm1, stats["norm1"] = batch_norm(x, **params["norm1"])
    x, back_relu1 = leaky_relu(x, 0.0)
    x, back_up2 = upconv(x, params["upconv2"]["kernel"])
    images = np.tanh(x + params["upconv2"]["bias"])

    def back(g):
        found = {}
        g = g * (1 - images**2)
        bias = g.sum((0, 1, 2))
        g, kernel = back_up2(g)
        found["upconv2"] = {"kernel": kernel, "bias": bias}
        g, found["norm1"] = back_norm1(back_relu1(g))
        g, kernel = back_up1(g)
        found["upconv1"] = {"kernel": kernel}
        g, found["project_norm"] = back_norm0(back_relu0(g))
        found["project"] = {"kernel": back_project(g.reshape(len(z), -1))[1]["kernel"]}
        return found

    return images, back, stats


def discriminator(params, images):
    """Logits, a function from their gradient to those of images and parameters, and statistics."""
    x, back_conv1 = conv(images, params["conv1"]["kernel"])
    x, back_relu1 = leaky_relu(x + params["conv1"]["bias"], SLOPE)
    x, back_conv2 = conv(x, params["conv2"]["kernel"])
    x, back_norm2, stats = batch_norm(x, **params["norm2"])
    x, back_relu2 = leaky_relu(x, SLOPE)
    shape = x.shape
    logits, back_logits = dense(x.reshape(len(x), -1), **_named(params["logits"]))

    def back(g):
        found = {}
        g, found["logits"] = back_logits(g[:, None])
        g, found["norm2"] = back_norm2(back_relu2(g.reshape(shape)))
        g, kernel = back_conv2(g)
        found["conv2"] = {"kernel": kernel}
        g = back_relu1(g)
        bias = g.sum((0, 1, 2))
        g, kernel = back_conv1(g)
        found["conv1"] = {"kernel": kernel, "bias": bias}
        return g, found

    return logits[:, 0], back, {"norm2": stats}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def moved(params, gradients, rate):
    """A step of gradient descent."""
    return {
        layer: {name: value - rate * gradients[layer][name] for name, value in of.items()}
        for layer, of in params.items()
    }


def step(params, real, noises, rate):
    """What a step of gradient descent makes of params {player: ...}: (params, losses, stats).

    real [b, 16, 16, 3] in [-1, 1]; noises: z of the discriminator's move, z of the generator's.
    stats: {player: what its batch norms saw, in the order of the moves}.
    """
    of_g, of_d = params["generator"], params["discriminator"]
    stats = {"generator": [], "discriminator": []}
    count = 2 * len(real)

    images, _, seen = generator(of_g, noises[0])
    stats["generator"].append(seen)
    on_real, back_real, seen = discriminator(of_d, real)
    stats["discriminator"].append(seen)
    on_made, back_made, seen = discriminator(of_d, images)
    stats["discriminator"].append(seen)
    loss_d = -(np.log(sigmoid(on_real)).sum() + np.log(sigmoid(-on_made)).sum()) / count
    _, first = back_real((sigmoid(on_real) - 1) / count)
    _, second = back_made(sigmoid(on_made) / count)
    by_d = {n: {k: first[n][k] + second[n][k] for k in first[n]} for n in first}
    of_d = moved(of_d, by_d, rate)

    images, back_images, seen = generator(of_g, noises[1])
    stats["generator"].append(seen)
    logits, back_logits, seen = discriminator(of_d, images)
    stats["discriminator"].append(seen)
    loss_g = -np.log(sigmoid(logits)).mean()
    by_g = back_images(back_logits((sigmoid(logits) - 1) / len(logits))[0])
    of_g = moved(of_g, by_g, rate)
    return (
        {"generator": of_g, "discriminator": of_d},
        {"generator": loss_g, "discriminator": loss_d},
        stats,
    )


def _named(layer):
    return {"w": layer["kernel"], "b": layer["bias"]}
