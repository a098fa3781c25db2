"""The loss of a class for each pixel.

What may be added: another loss of class maps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def segmentation_loss(
    logits: ArrayLike, labels: ArrayLike, *, class_weights: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of each labelled pixel, and the weight of each.

        loss = -w[y] log softmax(logits)[y],    weight = w[y]

    and both are 0 where the label y is none of the classes, as 255, void, is. The mean over a batch
    is the sum of the losses over the sum of the weights, `Mean(loss.sum(), weight.sum())`: that of
    a batch without a labelled pixel is 0.

    Args:
        logits: [..., C].
        labels: integers [...].
        class_weights: [C], w, from 0 on; all 1 without it.

    Returns:
        losses [...] in nats and weights [...], float32 or wider.

    Raises:
        ValueError: the shapes differ. TypeError: logits or class_weights are not floating, or
            labels no integers.

    Source: Long et al. 2015 (FCN), section 4.3, where void pixels are masked out.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits have dtype {logits.dtype}, expected a floating dtype")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels have dtype {labels.dtype}, expected an integer dtype")
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape or not logits.shape[-1]:
        raise ValueError(
            f"got logits {logits.shape} and labels {labels.shape}, expected [..., C] and [...]"
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    classes = logits.shape[-1]
    labels = labels.astype(jnp.int32) if labels.dtype.itemsize < 4 else labels
    known = (labels >= 0) & (labels < classes)
    index = jnp.where(known, labels, 0)
    if class_weights is None:
        weight = known.astype(logits.dtype)
    else:
        each = jnp.asarray(class_weights)
        if not jnp.issubdtype(each.dtype, jnp.floating):
            raise TypeError(f"class_weights have dtype {each.dtype}, expected a floating dtype")
        if each.shape != (classes,):
            raise ValueError(f"got class_weights {each.shape}, expected ({classes},)")
        weight = jnp.where(known, each.astype(logits.dtype)[index], 0)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, index)
    return jnp.where(known, weight * loss, 0), weight
