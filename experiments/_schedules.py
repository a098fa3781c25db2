"""How long stages are and how their rates fall.

What may be added: another schedule that several experiments have.
"""

from __future__ import annotations

import optax

RISE = 100  # steps in which the rate of a cosine rises


def cosine(rate: float, steps: int) -> optax.Schedule:
    """A rate that rises for 100 steps, or half of fewer, and falls to 0 along a cosine."""
    rise = min(RISE, steps // 2)
    return optax.warmup_cosine_decay_schedule(0.0, rate, rise, max(steps, 1))


def in_equal_parts(steps: int, parts: int) -> tuple[int, int]:
    """About so many steps in about so many parts: all steps, and those of one part."""
    part = max(1, round(steps / max(1, parts)))
    return part * max(1, round(steps / part)), part
