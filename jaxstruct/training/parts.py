"""One training as several stages, for checkpoints and pictures of its course.

What may be added: other ends of the parts.
"""

from __future__ import annotations

import dataclasses

import jax

from jaxstruct.training.batches import Batches
from jaxstruct.training.experiment import Stage
from jaxstruct.training.state import State


def in_parts(whole: Stage, parts: int) -> list[Stage]:
    """A stage as several that go on with the same batches, each as long as all before it.

    The stages are `part1`, `part2`, ... and end at 1/2^(parts - 1), ..., 1/4, 1/2 of the steps and
    at the last one, rounded; ends that are equal are one. Each begins with the parameters,
    optimiser and model state of the one before, and draws from a key of its own. Examples, and what
    a reader draws to augment them, are those of the whole stage. Raises ValueError
    for fewer than one part, and for batches that are interleaved or prepared, or whose calls have
    several steps.
    """
    if parts < 1:
        raise ValueError(f"parts is {parts}, expected at least 1")
    if not isinstance(whole.batches, Batches) or whole.prepare or whole.steps_per_call > 1:
        raise ValueError(f"stage {whole.name!r}: expected Batches without prepare, one step a call")
    ends = sorted({max(1, round(whole.steps / 2**i)) for i in range(parts)})
    stages = []
    for i, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
        batches = dataclasses.replace(whole.batches, first=whole.batches.first + begin)
        part = dataclasses.replace(whole, name=f"part{i}", steps=end - begin, batches=batches)
        stages.append(part if i == 1 else dataclasses.replace(part, init=_go_on, start=None))
    return stages


def _go_on(key: jax.Array, previous: State | None) -> State:
    assert previous is not None
    return State.create(key, previous.params, previous.opt_state, previous.model_state)
