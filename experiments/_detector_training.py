"""How detectors learn: the terms of a step, and the stages of each method.

What may be added: another method, as a list of stages; another term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import optax

from experiments._backbones import variables_of
from experiments._detector_evaluation import call, maps_of, stored_proposals
from experiments._schedules import cosine
from jaxstruct import losses, models
from jaxstruct.metrics import Mean
from jaxstruct.models import FastRCNN, Proposals, Proposed
from jaxstruct.training import State, merge, split_keys

RPN_BETA, HEAD_BETA = 1 / 9, 1.0  # of smooth L1, as in the authors' code
PROPOSER = ("rpn_conv", "rpn_logits", "rpn_deltas")
HEAD = ("head", "class_logits", "class_deltas")
BEFORE = 2000  # proposals that enter non-maximum suppression in training

Method = Literal["joint", "four_step", "fast_rcnn", "sppnet"]
Regions = Literal["own", "former", "stored"]
Term = Literal["anchors", "class", "box"]


class Learning(NamedTuple):
    """What one stage of a method learns.

    Attributes:
        name: of the stage.
        terms: of the loss; "anchors" stands for both of the proposal network's.
        learns: parts of the network; all others are frozen.
        regions: where those come from that the head learns from: of the network's `own`
            proposals, of the network that the `former` stage ended with, or `stored` with the set.
        share: of the passes through the training images.
        afresh: parts that begin anew, with ImageNet's weights or newly drawn ones, and not where
            the former stage ended.
        measured: what validation measures: average precision ("ap"), the recall of the proposals
            ("recall"), or "nothing".
    """

    name: str
    terms: tuple[Term, ...]
    learns: tuple[str, ...]
    regions: Regions = "own"
    share: float = 1.0
    afresh: tuple[str, ...] = ()
    measured: Literal["ap", "recall", "nothing"] = "ap"


METHODS: dict[Method, tuple[Learning, ...]] = {
    # Ren et al. 2015, section 3.2, approximate joint training.
    "joint": (Learning("joint", ("anchors", "class", "box"), ("backbone", *PROPOSER, *HEAD)),),
    # The same section, 4-step alternating training. In the authors' code each stage sees 80,000
    # images: 80,000 steps of one, and 40,000 of two.
    "four_step": (
        Learning("rpn_1", ("anchors",), ("backbone", *PROPOSER), share=1 / 4, measured="recall"),
        Learning(
            "fast_rcnn_1",
            ("class", "box"),
            ("backbone", *HEAD),
            "former",
            1 / 4,
            afresh=("backbone",),
            measured="nothing",
        ),
        Learning("rpn_2", ("anchors",), PROPOSER, share=1 / 4, measured="recall"),
        Learning("fast_rcnn_2", ("class", "box"), HEAD, share=1 / 4),
    ),
    # Girshick 2015, section 2.3.
    "fast_rcnn": (Learning("fast_rcnn", ("class", "box"), ("backbone", *HEAD), "stored"),),
    # He et al. 2014, section 4.1: the layers behind the pyramid, then the regression of boxes from
    # the pyramid itself.
    "sppnet": (
        Learning("head", ("class",), ("head", "class_logits"), "stored", 1 / 2),
        Learning("boxes", ("box",), ("class_deltas",), "stored", 1 / 2),
    ),
}


def proposes(method: Method) -> bool:
    """Whether the method's network proposes its regions itself."""
    return all(learning.regions != "stored" for learning in METHODS[method])


def optimizer_of(config: Any, steps: int) -> optax.GradientTransformation:
    """Adam, or SGD with momentum, a decay of weights, and a tenth of the rate in the last 2/7.

    Source: the configuration of the authors' end-to-end training, 70,000 steps on VOC 2007.
    """
    rate = config.learning_rate
    if config.optimizer == "adam":
        return optax.adam(cosine(rate, steps))
    weights = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
    falling = optax.piecewise_constant_schedule(rate, {round(steps * 5 / 7): 0.1})
    return optax.chain(
        optax.add_decayed_weights(5e-4, mask=weights), optax.sgd(falling, momentum=0.9)
    )


def sampled_anchors(
    keys: jax.Array, said: Proposed, batch: Any, usable: jax.Array
) -> dict[str, Mean]:
    """The two terms of the proposal network."""
    # Anchors across the border of the canvas learn, too, as in torchvision's.
    anchors = jax.vmap(losses.sample_anchors, (0, None, 0, 0))(
        keys, said.anchors, batch["boxes"], usable
    )
    of_boxes = jax.vmap(partial(losses.box_loss, beta=RPN_BETA))
    return {
        "rpn_class": Mean.of(jax.vmap(losses.objectness_loss)(said.logits, anchors), anchors.valid),
        "rpn_box": Mean.of(of_boxes(said.deltas, anchors), anchors.valid),
    }


def classified(
    model: FastRCNN, variables: Any, maps: Any, regions: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the head says of regions in training: units are dropped by the keys of the images."""
    if not model.head.dropout:
        return call(model, variables, "classify", maps, regions)

    def one(maps: Any, regions: jax.Array, key: jax.Array) -> Any:
        image = jax.tree.map(lambda x: x[None], (maps, regions))
        drawn = {"dropout": jax.random.fold_in(key, 2)}
        return call(model, variables, "classify", *image, train=True, rngs=drawn)

    logits, deltas = jax.vmap(one)(maps, regions, keys)
    return logits[:, 0], deltas[:, 0]


def loss_of(config: Any, model: FastRCNN, learning: Learning = METHODS["joint"][0]) -> Any:
    """The loss of a stage: terms of anchors, of the classes and of the boxes of regions."""
    learns_statistics = (
        getattr(model.backbone, "norm", None) == "batch" and "backbone" in learning.learns
    )

    def seen(variables: Any, batch: Any, stats: Any) -> tuple[Any, Any]:
        if not learns_statistics:
            return maps_of(model, variables, batch), stats
        given = batch["image"], batch["size"]
        return call(model, variables, "maps", *given, train=True, mutable=list(stats))

    def proposals_of(said: Any, model_state: Any, batch: Any) -> Proposals:
        if learning.regions == "stored":
            return stored_proposals(batch)
        if learning.regions == "former":
            former = model_state["former"]
            maps = call(model, former, "maps", batch["image"], batch["size"])
            said = call(model, former, "propose_from", maps, batch["image"].shape[1:3])
        return models.best_proposals(said, batch["size"], before=BEFORE, after=config.proposals)

    background = config.background if learning.regions == "stored" else 0.0
    sample = partial(losses.sample_proposals, size=config.regions, background=background)
    of_regions = {
        "class": lambda logits, deltas, chosen: jax.vmap(losses.class_loss)(logits, chosen),
        "box": lambda logits, deltas, chosen: jax.vmap(partial(losses.box_loss, beta=HEAD_BETA))(
            deltas, chosen
        ),
    }
    of_regions = {name: term for name, term in of_regions.items() if name in learning.terms}

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        variables = {"params": merge(params, model_state["frozen"]), **model_state["stats"]}
        maps, stats = seen(variables, batch, model_state["stats"])
        said: Any = None
        if learning.regions == "own":
            said = call(model, variables, "propose_from", maps, batch["image"].shape[1:3])
        # What lies on a difficult box is background, as in the authors' code.
        usable = batch["boxes_valid"] & ~batch["difficult"]
        for_anchors, for_regions = split_keys(keys, 2)
        means: dict[str, Mean] = {}
        if "anchors" in learning.terms:
            means |= sampled_anchors(for_anchors, said, batch, usable)
        if of_regions:
            proposals = proposals_of(said, model_state, batch)
            regions, chosen = jax.vmap(sample)(
                for_regions, proposals.boxes, proposals.valid,
                batch["boxes"], usable, batch["classes"],
            )  # fmt: skip
            logits, deltas = classified(model, variables, maps, regions, keys)
            for name, term in of_regions.items():
                means[name] = Mean.of(term(logits, deltas, chosen), chosen.valid)
        return means, {**model_state, "stats": stats}

    return loss


def begun(
    learning: Learning,
    fresh: dict[str, Any],
    previous: State | None,
    parted: Callable[[Any], tuple[Any, Any]],
) -> tuple[Any, dict[str, Any]]:
    """What learns in a stage, and its model state: from `fresh` variables, or where one ended.

    `parted` takes the parameters apart into what learns and what is frozen.
    """
    variables, state = dict(fresh), {}
    if previous is not None:
        ended = variables_of(previous)
        params = {
            part: fresh["params"][part] if part in learning.afresh else ended["params"][part]
            for part in fresh["params"]
        }
        variables = {**(fresh if learning.afresh else ended), "params": params}
        if learning.regions == "former":
            state = {"former": ended}
    params, frozen = parted(variables.pop("params"))
    return params, {"frozen": frozen, "stats": variables, **state}


def frozen_places(learning: Learning, params: Any, of_backbone: Sequence[str]) -> list[str]:
    """The places of what a stage does not learn: whole parts, and `of_backbone`'s."""
    return [*of_backbone, *(part for part in params if part not in learning.learns)]
