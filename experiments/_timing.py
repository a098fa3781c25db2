"""How long a piece of work takes on this machine.

What may be added: another statistic of times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def median_seconds(work: Callable[[], Any], times: int = 5) -> float:
    """The median time of a piece of work, after a first call, which compiles."""
    found = []
    for _ in range(times + 1):
        since = time.perf_counter()
        jax.block_until_ready(work())
        found.append(time.perf_counter() - since)
    return float(np.median(found[1:]))
