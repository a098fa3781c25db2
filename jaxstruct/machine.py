"""The machine: its processor, and the cores and the memory that this process may use.

What may be added: another limit that a system sets.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Control groups: those of this process, and where their limits are.
GROUPS_OF_PROCESS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def processor() -> str:
    """The name of the machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its group is limited to.

    A container's limit, or that of a job of a cluster, is one of a control group of Linux.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        groups = GROUPS_OF_PROCESS.read_text("utf-8").splitlines()
    except OSError:
        groups = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (
            (GROUPS / "memory", "memory.limit_in_bytes") if controllers else (GROUPS, "memory.max")
        )
        place = base / path.lstrip("/")
        # A group's limit holds for the groups in it. A container sees its own limit at the top,
        # while the path can be the host's.
        for folder in (place, *place.parents):
            try:
                limits.append(int((folder / name).read_text("utf-8")))
            except (OSError, ValueError):  # no such group; no limit: "max"
                continue
    return min(limits)
