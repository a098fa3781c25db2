"""Autoencoders of one hidden layer, and classifiers, in NumPy, float64: gradients by hand.

Vincent et al. 2008, section 2: y = s(W^T x~ + b), z = W' y + b', with cross-entropy between
s(z) and the clean x, or the squared error of z; tied weights have W' = W.
"""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def cross_entropy(prediction, x):
    """The mean over examples of -sum x log s(z) + (1 - x) log(1 - s(z)), and its gradient by z."""
    y = sigmoid(prediction)
    value = -np.sum(x * np.log(y) + (1 - x) * np.log(1 - y), axis=1)
    return value.mean(), (y - x) / len(x)


def squares(prediction, x):
    """The mean over examples of |z - x|^2, and its gradient by z."""
    return np.sum((prediction - x) ** 2, axis=1).mean(), 2 * (prediction - x) / len(x)


def gradients(params, given, x, loss, *, tied):
    """(loss, {name: gradient}) for one sigmoid layer; params have the linen module's names."""
    w, b = params["encoder/layer1/kernel"], params["encoder/layer1/bias"]
    if tied:
        v, c = w.T, params["bias1"]
    else:
        v, c = params["decoder/layer1/kernel"], params["decoder/layer1/bias"]
    code = sigmoid(given @ w + b)
    value, by_z = loss(code @ v + c, x)
    by_code = by_z @ v.T * code * (1 - code)
    by_v = code.T @ by_z
    found = {"encoder/layer1/kernel": given.T @ by_code, "encoder/layer1/bias": by_code.sum(0)}
    if tied:
        found["encoder/layer1/kernel"] = found["encoder/layer1/kernel"] + by_v.T
        found["bias1"] = by_z.sum(0)
    else:
        found |= {"decoder/layer1/kernel": by_v, "decoder/layer1/bias": by_z.sum(0)}
    return value, found


def classify(params, x):
    """The outputs of x and of each layer {layer1: {kernel, bias}, ...}: sigmoids, then logits."""
    outputs = [x]
    for i in range(1, len(params) + 1):
        layer = params[f"layer{i}"]
        z = outputs[-1] @ layer["kernel"] + layer["bias"]
        outputs.append(z if i == len(params) else sigmoid(z))
    return outputs


def classifier_gradients(params, x, labels):
    """(the mean cross-entropy of a softmax, its gradients by params) for `classify`."""
    *inputs, logits = classify(params, x)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    value = -np.log(shares[rows, labels]).mean()
    by_z = shares / len(x)
    by_z[rows, labels] -= 1 / len(x)
    found = {}
    for i in range(len(params), 0, -1):
        given = inputs[i - 1]
        found[f"layer{i}"] = {"kernel": given.T @ by_z, "bias": by_z.sum(0)}
        by_z = by_z @ params[f"layer{i}"]["kernel"].T * given * (1 - given)
    return value, found
