"""A dense CRF behind a network, as a layer whose weights are learnt from its labels.

Zheng et al. 2015. What may be added: another layer behind a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _canvases, _segmentation, _segmenter_evaluation
from experiments._segmentation import TRUNK, Sets
from experiments._segmenter_evaluation import Segmenter
from jaxstruct import losses, models, ops
from jaxstruct.metrics import Mean
from jaxstruct.training import Stage, State, make_step, merge, partition

CRF = "crf"  # the layer's parameters, beside those of the network's parts


class WithCRF(NamedTuple):
    """A network and a CRF behind it, called as the network is.

    The CRF works on logits and images that are `shrink` times smaller, averaged over squares. What
    it adds to the logits is interpolated to the pixels.

    Source: Zheng et al. 2015, section 5.
    """

    network: Any  # images [B, H, W, 3], normalised -> logits [B, H, W, classes]
    crf: models.CRFRNN
    shrink: int
    normal: tuple[tuple[float, ...], tuple[float, ...]]  # of the pixels: mean and deviation

    def init(self, key: jax.Array, images: jax.Array) -> dict[str, Any]:
        """Variables of the network, with parameters of the CRF among its parts."""
        variables = dict(self.network.init(key, images))
        shapes = jax.eval_shape(self.network.apply, variables, images)
        crf = self.crf.init(key, jnp.zeros((1, 1, shapes.shape[-1])), jnp.zeros((1, 1, 3)))
        return variables | {"params": variables["params"] | {CRF: crf["params"]}}

    def apply(self, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        """Logits [B, H, W, classes] after the CRF."""
        params = dict(variables["params"])
        crf = {"params": params.pop(CRF)}
        logits = self.network.apply({**variables, "params": params}, images)
        mean, deviation = (jnp.array(x, images.dtype, ndmin=images.ndim) for x in self.normal)
        pixels = 255 * (images * deviation + mean)
        coarse = shrunk(logits, self.shrink)
        refined: Any = self.crf.apply(crf, coarse, shrunk(pixels, self.shrink))
        added = refined - coarse
        whole = added.shape[1] * self.shrink, added.shape[2] * self.shrink
        return logits + ops.resize_bilinear(added, whole)[:, : images.shape[1], : images.shape[2]]


def shrunk(values: jax.Array, factor: int) -> jax.Array:
    """The means [B, H / factor, W / factor, C] of squares, filled up by the last row and column."""
    size, height, width, depth = values.shape
    ends = ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0))
    whole = jnp.pad(values, ends, "edge")
    return whole.reshape(
        size, whole.shape[1] // factor, factor, whole.shape[2] // factor, factor, depth
    ).mean((2, 4))


def with_crf(config: Any, segmenter: Segmenter, iterations: int) -> Segmenter:
    """A segmenter with the CRF of a configuration behind it."""
    layer = models.CRFRNN(
        iterations,
        config.sigma_xy / config.shrink,
        config.sigma_rgb,
        config.sigma_gaussian / config.shrink,
        jax.nn.initializers.constant(config.bilateral_weight),
        jax.nn.initializers.constant(config.gaussian_weight),
    )
    return segmenter._replace(
        model=WithCRF(segmenter.model, layer, config.shrink, segmenter.normal)
    )


def stage(
    config: Any,
    name: str,
    segmenter: Segmenter,
    sets: Sets,
    epochs: float,
    evaluate: Callable[[State], dict[str, float]],
    *,
    joint: bool,
) -> Stage:
    """One stage of a network with its CRF: the CRF's weights alone, or `joint`ly with the network.

    The network behaves as it does in inference: nothing is dropped, and statistics stay. `evaluate`
    gets states that are `whole`.
    """
    steps, every = _segmentation.steps_of(config, sets, epochs)
    optimizer, model = optimizer_of(config, steps), segmenter.model

    def init(key: jax.Array, previous: State | None) -> State:
        params, stats = _segmentation.begun(config, model, key, previous)
        network = [part for part in params if part != CRF]
        trained, frozen = (
            _segmentation.parted(config, params) if joint else partition(params, network)
        )
        kept = {"frozen": frozen, "stats": stats}
        return State.create(key, trained, optimizer.init(trained), kept)

    return Stage(
        name=name,
        steps=steps,
        init=init,
        update=make_step(loss_of(segmenter, sets.weights), optimizer),
        batches=sets.train,
        evaluate=lambda state: evaluate(whole(state)),
        metrics=("mean_iou",),
        evaluate_every=every,
        compilations=_canvases.shapes_of((config.height, config.width)),
    )


def whole(state: State) -> State:
    """The state with all parameters in one place, and what trains them left out.

    States of both stages have one structure then, so that they share the program that scores them.
    """
    params = merge(state.params, state.model_state["frozen"])
    kept = state.model_state | {"frozen": {}}
    return state.replace(params=params, model_state=kept, opt_state=())


def optimizer_of(config: Any, steps: int) -> optax.GradientTransformation:
    """Adam, whose rates fall to 0: one for the CRF's weights, one for the network behind it."""

    def falling(rate: float) -> optax.GradientTransformation:
        return optax.adam(lambda step: rate * (1 - step / steps) ** 0.9)

    trunk = config.joint_rate * config.trunk_rate
    rates = {CRF: config.crf_rate, TRUNK: trunk, "head": config.joint_rate}
    return optax.multi_transform(
        {part: falling(rate) for part, rate in rates.items()},
        lambda params: {part: part if part in rates else "head" for part in params},
    )


def loss_of(segmenter: Segmenter, weights: Callable[[], np.ndarray | None]) -> Any:
    """The cross-entropy of labelled pixels behind the CRF."""

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        variables = {"params": merge(params, model_state["frozen"]), **model_state["stats"]}
        logits = segmenter.logits(variables, batch["image"])
        found, weight = losses.segmentation_loss(
            logits, batch["class_map"], class_weights=weights()
        )
        return {"cross_entropy": Mean(jnp.sum(found), jnp.sum(weight))}, model_state

    return loss


def fixed(segmenter: Segmenter, state: State) -> State:
    """A state of the stage of the CRF's weights, with those that it began with."""
    key = jax.random.key(0)
    labels = len(segmenter.classes)
    first = segmenter.model.crf.init(key, jnp.zeros((1, 1, labels)), jnp.zeros((1, 1, 3)))
    return state.replace(params={CRF: first["params"]})


def score(
    config: Any, network: Segmenter, sets: Sets, states: Mapping[str, State]
) -> dict[str, float]:
    """The scores on the test set, without a CRF, with the first and with the learned weights."""
    refined = with_crf(config, network, config.tested_iterations)
    without, behind = (
        _segmenter_evaluation.evaluation(segmenter, sets.test, config.bands, cross_entropy=True)
        for segmenter in (network, refined)
    )
    tested = {"test": (without, states["network"])}
    tested["test_fixed"] = behind, fixed(refined, states["crf"])
    tested["test_trained"] = behind, states["crf"]
    if "joint" in states:
        tested["test_joint"] = behind, states["joint"]
    return {
        f"{name}/{metric}": value
        for name, (evaluate, state) in tested.items()
        for metric, value in evaluate(whole(state)).items()
    }
