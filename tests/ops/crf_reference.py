"""A slow fully connected CRF, from the formulas of Krähenbühl and Koltun (NIPS 2011), in float64.

N pixels have one of L labels each. A kernel m is (features [N, D_m], compatibility): the features
are divided by their sigmas already, and the compatibility says what a pair of labels costs,

    w        -w where the labels are equal, else 0 (Potts);
    [L]      that where both are this label, else 0, so that negative values attract;
    [L, L]   that, made symmetric by the mean of it and its transpose.

The energy of labels x is, with the kernels K~_m of `normalized_kernel` and mu_m = [L, L],

    E(x) = sum_i unary[i, x_i] + sum_{i<j} sum_m K~_m[i, j] mu_m[x_i, x_j].
"""

import numpy as np


def pixel_kernels(image, sigma_xy, sigma_rgb, sigma_gaussian):
    """The features (bilateral [H*W, 5], spatial [H*W, 2]) of an image [H, W, 3], row by row.

    They are (x/sigma_xy, y/sigma_xy, rgb/sigma_rgb) and (x, y)/sigma_gaussian of equation (3).
    """
    y, x = np.indices(image.shape[:2], np.float64)
    at = np.stack([x, y], axis=-1).reshape(-1, 2)
    colours = np.asarray(image, np.float64).reshape(-1, 3)
    return np.concatenate([at / sigma_xy, colours / sigma_rgb], axis=1), at / sigma_gaussian


def normalized_kernel(features):
    """K~ = D^-1/2 K D^-1/2 [N, N] of features [N, D].

    K[i, j] = exp(-|f_i - f_j|^2 / 2) is equation (3), i = j included; D = diag(K 1).
    """
    columns = np.asarray(features, np.float64).T
    kernel = np.exp(-sum((f[:, None] - f) ** 2 for f in columns) / 2)
    scale = kernel.sum(axis=1) ** -0.5
    return scale[:, None] * kernel * scale


def mean_field(unary, kernels, iterations):
    """The marginals Q [N, L] after 0, 1, ..., `iterations` parallel updates, a list.

    From Q = softmax(-unary), by equation (4) of which the sum includes j = i:

        Q_i(l) <- exp(-unary[i, l] - sum_m sum_k mu_m[l, k] sum_j K~_m[i, j] Q_j(k)) / Z_i.
    """
    unary = np.asarray(unary, np.float64)
    kernels = [(normalized_kernel(f), _compatibility(c, unary.shape[1])) for f, c in kernels]
    marginals = [_softmax(-unary)]
    for _ in range(iterations):
        costs = sum((k @ marginals[-1] @ mu.T for k, mu in kernels), unary)
        marginals.append(_softmax(-costs))
    return marginals


def energy(labels, unary, kernels):
    """E(x) above, of labels [N]."""
    one_hot = np.eye(np.shape(unary)[1])[np.asarray(labels)]
    return _expected(one_hot, unary, kernels, itself=False)


def free_energy(q, unary, kernels, *, itself=False):
    """E_Q[E(x)] less the entropy of Q [N, L], which is KL(Q || P) - log Z, P = exp(-E(x)) / Z.

    No pixel is paired with itself, as in the sum of the energy. With `itself` each one adds
    K~_m[i, i] Q_i^T mu_m Q_i / 2 too: `mean_field` stops where that function is stationary.
    """
    q = np.asarray(q, np.float64)
    negative_entropy = np.sum(q * np.log(np.maximum(q, 1e-20)))
    return _expected(q, unary, kernels, itself) + negative_entropy


def pydensecrf_divergence(q, unary, kernels):
    """What pydensecrf calls klDivergence: pixels are paired with themselves, and pairs count twice.

    That is 2 F - F0, of the free energies F with `itself` and F0 without any kernel.
    """
    alone = free_energy(q, unary, [])
    return 2 * free_energy(q, unary, kernels, itself=True) - alone


def _compatibility(value, labels):
    """[L, L] of a weight, a vector or a matrix."""
    value = np.asarray(value, np.float64)
    if value.ndim == 2:
        return (value + value.T) / 2
    return np.diag(np.broadcast_to(value if value.ndim else -value, labels))


def _expected(q, unary, kernels, itself):
    """The energy's expectation under independent pixels with marginals q."""
    total = np.sum(q * unary)
    for features, compatibility in kernels:
        kernel = normalized_kernel(features)
        if not itself:
            np.fill_diagonal(kernel, 0)
        total += np.sum(q * (kernel @ q @ _compatibility(compatibility, q.shape[1]).T)) / 2
    return total


def potts_constant(kernels):
    """What Potts costs more where it counts different labels instead of equal ones."""
    weighted = [(w, normalized_kernel(f)) for f, w in kernels if np.ndim(w) == 0]
    return sum(0.5 * w * kernel.sum() for w, kernel in weighted)


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
