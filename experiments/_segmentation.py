"""What segmenters share: the network, how it learns, the stages, the experiment.

What may be added: what all segmenters have. Options are in _segmenter_config, trunks in
_backbones, batches in _mask_batches, what a segmenter says of pixels in _segmenter_evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import _canvases, _mask_batches, _segmenter_evaluation
from experiments._backbones import (
    check_start,
    frozen_parts,
    trunk_of,
    variables_of,
    with_variables,
    with_weights,
)
from experiments._dropout import by_example
from experiments._schedules import cosine, in_equal_parts
from experiments._segmenter_config import Config
from experiments._segmenter_evaluation import Segmenter
from jaxstruct import data, figures, losses
from jaxstruct.data import Reader
from jaxstruct.metrics import Mean
from jaxstruct.training import (
    Batches,
    Stage,
    State,
    make_step,
    merge,
    partition,
    steps_of_epochs,
)

TRUNK = "trunk"  # what the networks call it


class Sets(NamedTuple):
    """The batches of training, validation and test, and what their classes weigh."""

    readers: Mapping[str, Reader]
    train: Batches
    validation: Batches
    test: Batches
    weights: Callable[[], np.ndarray | None]


def sets_of(config: Config, name: str) -> Sets:
    """The sets of a configuration."""
    splits = ("train", "validation", "test")
    readers = {split: data.open_reader(name, getattr(config, split)) for split in splits}
    check_start(config.frozen, config.weights, readers["train"])
    placing = _mask_batches.Placing(
        (config.seen_height, config.seen_width),
        (config.height, config.width),
        enlarge=False,
        scale=(1 / config.zoom, config.zoom),
        flip=config.flip,
        color=config.color,
    )
    marked = placing._replace(boundaries=bool(config.bands))
    batches = {
        split: _mask_batches.batches_of(
            reader,
            config.batch_size,
            marked if split == "test" else placing,
            train=split == "train",
            seed=config.seed,
        )
        for split, reader in readers.items()
    }
    weights = _mask_batches.class_weights(name, config.train, config.balance)
    return Sets(readers, **batches, weights=weights)


def segmenter_of(
    config: Config,
    model: Any,
    classes: tuple[str, ...],
    scored: Sequence[str] = (),
    colors: Any = None,
) -> Segmenter:
    """A network for the classes of a set, `scored` among them or all.

    `colors` [C, 3] are those of pictures and of index files, by default `figures.label_colors`.
    """
    chosen = figures.label_colors(len(classes)) if colors is None else colors
    painted = tuple(map(tuple, np.asarray(chosen).tolist()))
    canvas = config.seen_height, config.seen_width
    normal = trunk_of(config.trunk, True).normal
    return Segmenter(model, canvas, normal, classes, tuple(scored) or classes, painted)


def optimizer_of(config: Config, steps: int) -> optax.GradientTransformation:
    """Adam, or SGD with momentum and a decay of weights, with a rate of its own for the trunk.

    Source: SGD is that of Long et al. 2015, section 4.3, and, with the schedule poly, of Chen et
    al. 2018, section 4.1.
    """
    rate: Any = config.learning_rate
    if config.schedule == "poly":
        rate = lambda step: config.learning_rate * (1 - step / steps) ** 0.9
    elif config.schedule == "cosine":
        rate = cosine(config.learning_rate, steps)
    slower = optax.masked(
        optax.scale(config.trunk_rate), lambda params: {part: part == TRUNK for part in params}
    )
    if config.optimizer == "adam":
        return optax.chain(optax.adam(rate), slower)
    kernels = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
    decay = optax.add_decayed_weights(5e-4, mask=kernels)
    return optax.chain(decay, optax.sgd(rate, momentum=0.9), slower)


def loss_of(config: Config, segmenter: Segmenter, weights: Callable[[], np.ndarray | None]) -> Any:
    """The cross-entropy of labelled pixels, their mean weighted by class."""
    learns_statistics = getattr(segmenter.model.trunk, "norm", None) == "batch"

    def logits_of(variables: Any, batch: Any, keys: jax.Array, stats: Any) -> tuple[Any, Any]:
        images = segmenter.normalised(batch["image"])
        if not learns_statistics and not (config.dropout and config.hidden):
            return segmenter.model.apply(variables, images), stats
        mutable = list(stats) if learns_statistics else []
        with nn.intercept_methods(by_example(keys)):
            logits, found = segmenter.model.apply(variables, images, train=True, mutable=mutable)
        return logits, found if learns_statistics else stats

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        stats = model_state["stats"]
        variables = {"params": merge(params, model_state["frozen"]), **stats}
        logits, stats = logits_of(variables, batch, keys, stats)
        found, weight = losses.segmentation_loss(
            logits, batch["class_map"], class_weights=weights()
        )
        terms = {"cross_entropy": Mean(jnp.sum(found), jnp.sum(weight))}
        return terms, {**model_state, "stats": stats}

    return loss


def steps_of(config: Config, sets: Sets, epochs: float) -> tuple[int, int]:
    """The steps of so many epochs, and from one evaluation to the next, which divides them."""
    steps = steps_of_epochs(epochs, sets.readers["train"].size, config.batch_size)
    return in_equal_parts(steps, config.evaluations)


def stage(
    config: Config,
    name: str,
    segmenter: Segmenter,
    sets: Sets,
    epochs: float,
    *,
    first: bool,
    head: bool = True,
) -> Stage:
    """One stage: from ImageNet's weights if it is the first, or where the former one ended.

    `head` is whether the network has a VGG's fc6 and fc7, which its file of weights fills.
    """
    steps, every = steps_of(config, sets, epochs)
    optimizer, model = optimizer_of(config, steps), segmenter.model

    def init(key: jax.Array, previous: State | None) -> State:
        params, stats = begun(config, model, key, previous)
        params, frozen = parted(config, params)
        kept = {"frozen": frozen, "stats": stats}
        return State.create(key, params, optimizer.init(params), kept)

    return Stage(
        name=name,
        steps=steps,
        init=init,
        start=partial(from_weights, config, head=head) if config.weights and first else None,
        update=make_step(loss_of(config, segmenter, sets.weights), optimizer),
        batches=sets.train,
        evaluate=_segmenter_evaluation.evaluation(segmenter, sets.validation),
        metrics=("mean_iou",),
        evaluate_every=every,
        compilations=_canvases.shapes_of((config.height, config.width)),
    )


def begun(
    config: Config, model: Any, key: jax.Array, previous: State | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and statistics of a model: new ones, and those that a previous stage has."""
    images = jnp.zeros((1, config.height, config.width, 3))
    variables = dict(jax.jit(model.init)(key, images))
    params = variables.pop("params")
    if previous is not None:
        ended = variables_of(previous)
        params |= {part: x for part, x in ended.pop("params").items() if part in params}
        variables |= ended
    return params, variables


def from_weights(config: Config, state: State, *, head: bool = True) -> State:
    """The state with the ImageNet weights of its trunk, and of a VGG's head of full width."""
    trunk = trunk_of(config.trunk, True)
    head = head and config.hidden == 4096
    found = with_weights(variables_of(state), trunk, config.weights, head=head, place=TRUNK)
    return with_variables(state, found, partial(parted, config))


def parted(config: Config, params: Any) -> tuple[Any, Any]:
    """What is learnt and what is frozen: first blocks, where there are weights to keep."""
    blocks = config.frozen if config.weights else 0
    return partition(params, frozen_parts(trunk_of(config.trunk, True), blocks, params, TRUNK))


def score_of(
    config: Config,
    segmenters: Mapping[str, Segmenter],
    sets: Sets,
    counts: dict[str, np.ndarray],
) -> Callable[[Mapping[str, State]], dict[str, dict[str, float]]]:
    """The scores of each stage's last state on the test set: {stage: {test/metric: value}}.

    In `counts` it leaves the confusion matrix of each stage, [C, C].
    """

    def score(states: Mapping[str, State]) -> dict[str, dict[str, float]]:
        found = {}
        for name, segmenter in segmenters.items():
            keep = partial(counts.__setitem__, name)
            evaluate = _segmenter_evaluation.evaluation(
                segmenter, sets.test, config.bands, keep=keep
            )
            values = evaluate(states[name])
            values |= _segmenter_evaluation.pixels(segmenter, counts[name])
            found[name] = {f"test/{metric}": value for metric, value in values.items()}
        return found

    return score
