"""Conditional random fields as layers. What may be added: one over other features than colors."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer

from jaxstruct.ops import crf


class CRFRNN(nn.Module):
    """Mean-field inference of a fully connected CRF with learned weights, to train end to end.

    Called with logits [H, W, L] or [B, H, W, L] of any segmentation model and the image
    [H, W, 3] or [B, H, W, 3] in [0, 255], it returns logits of the same shape, in float32 at least:

        q = softmax(x);  x <- logits - compatibility (bilateral_weight K1 q + gaussian_weight K2 q)

    `iterations` times, from x = logits. The parameters are bilateral_weight [L], gaussian_weight
    [L] and compatibility [L, L], whose row says what a label pays for each label around it. The
    kernels are `ops.dense_crf`'s: normalized symmetrically, where the paper divides by K 1. With
    its initial parameters, Potts, the softmax of the result is what `ops.dense_crf` returns.

    Attributes:
        iterations: 5 in the paper while training, 10 afterwards; parameters do not depend on it.
        sigma_xy, sigma_rgb, sigma_gaussian: of the kernels, as in `ops.dense_crf`; 160, 3 and 3 in
            the paper.
        bilateral_init, gaussian_init: of the weights; 10 and 3 by default.
        filter: "lattice", or "exact".
        capacity: of the lattice, as in `ops.dense_crf`: give it, since models run inside of jit.

    Raises:
        ValueError, TypeError: when called, as `ops.dense_crf` does.

    Source: Zheng et al. 2015, Conditional random fields as recurrent neural networks, sections 4
    and 5.
    """

    iterations: int = 5
    sigma_xy: float | tuple[float, ...] = 160.0
    sigma_rgb: float | tuple[float, ...] = 3.0
    sigma_gaussian: float | tuple[float, ...] = 3.0
    bilateral_init: Initializer = nn.initializers.constant(10.0)
    gaussian_init: Initializer = nn.initializers.constant(3.0)
    filter: crf.FilterName = "lattice"
    capacity: int | None = None

    @nn.compact
    def __call__(self, logits: Any, image: Any) -> jax.Array:
        """The refined logits."""
        unary, image = crf.check_images(-jnp.asarray(logits), image)
        labels = unary.shape[-1]
        potts = lambda key, shape: 1 - jnp.eye(shape[0])
        weights = [
            self.param("bilateral_weight", self.bilateral_init, (labels,)),
            self.param("gaussian_weight", self.gaussian_init, (labels,)),
        ]
        mu = self.param("compatibility", potts, (labels, labels))

        def one(unary: jax.Array, image: jax.Array) -> jax.Array:
            kernels = crf.pixel_kernels(
                image,
                sigma_xy=self.sigma_xy,
                sigma_rgb=self.sigma_rgb,
                sigma_gaussian=self.sigma_gaussian,
                filter=self.filter,
                capacity=self.capacity,
            )

            def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
                messages = crf.messages(jax.nn.softmax(x), kernels)
                both = sum(w[None, None] * m for w, m in zip(weights, messages, strict=True))
                return -unary - jnp.dot(both, mu.T, precision="highest"), None

            return jax.lax.scan(step, -unary, None, length=self.iterations)[0]

        wide = unary.astype(jnp.promote_types(unary.dtype, jnp.float32))
        return one(wide, image) if wide.ndim == 3 else crf.over_images(one, wide, image)
