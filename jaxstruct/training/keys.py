"""The random keys of a run and of its stages, and which seeds there are.

What may be added: the key of another part of a run.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxstruct.training.experiment import Experiment

SEEDS = 2**32  # jax.random.key takes 32 bits of a seed where 64-bit types are off


def check_seed(seed: int, name: str = "seed") -> None:
    """Raises ValueError for a seed below 0 or above 32 bits, whose key is that of another seed."""
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{name} is {seed}, expected 0 to {SEEDS - 1}")


def seed_of(config: Any) -> int:
    """The seed of a configuration, 0 without one; raises as `check_seed` does."""
    seed = getattr(config, "seed", 0)
    check_seed(seed)
    return seed


def root_key(experiment: Experiment) -> jax.Array:
    """The random key of a run, from the seed of its configuration; raises as `check_seed` does."""
    return jax.random.key(seed_of(experiment.config))


def stage_key(key: jax.Array, index: int) -> jax.Array:
    """The random key of a stage, from the run's."""
    return jax.random.fold_in(key, index)
