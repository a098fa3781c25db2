"""How much memory a call takes at most, in a process of its own.

What may be added: a system that counts it in another way.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_PROCESS = Path("/proc/self")


def growth(make: Callable[..., Callable[[], Any]], small: Any, large: Any, *more: Any) -> Any:
    """MiB that the first call of make(large, *more) adds, at its peak, to a process of its own.

    There make(small, *more) was called for what comes once: compilers, threads and libraries. "-"
    where arrays are in a device's own memory, or the system is not Linux.
    """
    if jax.default_backend() != "cpu" or not (_PROCESS / "clear_refs").exists():
        return "-"
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_grown, make, small, large, *more).result()


def _grown(make: Callable[..., Callable[[], Any]], small: Any, large: Any, *more: Any) -> float:
    make(small, *more)()
    call = make(large, *more)
    # Not getrusage, whose maximum begins with that of the parent.
    (_PROCESS / "clear_refs").write_text("5", encoding="utf-8")
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    found = re.search(rf"{name}:\s*(\d+) kB", (_PROCESS / "status").read_text("utf-8"))
    return float(found[1]) / 1024 if found else float("nan")
