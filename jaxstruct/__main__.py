"""python -m jaxstruct: what a bug report needs to know about this machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform

import jax

from jaxstruct import machine
from jaxstruct.data.output import unbroken
from jaxstruct.training import hardware

PACKAGES = (
    "grain",
    "tensorflow-datasets",
    "array_record",
    "tyro",
    "rich",
    "matplotlib",
    "pillow",
    "opencv-contrib-python-headless",
    "scikit-learn",
    "scikit-image",
    "scipy",
    "tensorboardX",
    "tensorstore",
)


def report() -> str:
    """Versions, devices, memory, environment, and where data were looked for and found."""
    sections = {
        "versions": {**hardware.versions(), **{name: _version(name) for name in PACKAGES}},
        "machine": _machine(),
        "devices": {str(device): _device(device) for device in jax.devices()},
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("JAX", "XLA", "CUDA_VISIBLE", "TPU", "TFDS", "LIBTPU"))
        },
        "data": _data(),
    }
    lines = []
    for title, entries in sections.items():
        lines.append(f"{title}:")
        lines += [f"  {name}: {value}" for name, value in entries.items()] or ["  none"]
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, str]:
    return {
        "system": platform.platform(),
        "processor": machine.processor(),
        "cores": str(machine.cores()),
        "memory": _size(machine.memory()),
    }


def _device(device: jax.Device) -> str:
    # A CPU device says nothing of its memory.
    limit = (device.memory_stats() or {}).get("bytes_limit")
    peak = hardware.peak_flops(device)
    parts = [device.device_kind]
    parts += [_size(limit)] if limit else []
    parts += [f"{peak / 1e12:,.0f} TFLOP/s"] if peak else []
    return ", ".join(parts)


def _data() -> dict[str, str]:
    from jaxstruct.data import DataError, places, where

    try:
        found = {
            "raw files are looked for in": ", ".join(
                str(folder.parent) for folder in places.raw_folders("NAME")
            ),
            "prepared sets are in": str(places.prepared_root()),
            "sets of the user's own are in": str(places.user_root()),
        }
        rows = where()
    except DataError as error:  # a variable that names no place is what this report is to show
        return {"error": str(error)}
    for row in rows:
        sizes = ", ".join(f"{n} {split}" for split, n in (row["splits"] or {}).items())
        parts = [f"raw files in {row['raw']}" if row["raw"] else "no raw files"]
        parts.append(f"prepared ({row['origin']}): {sizes}" if row["path"] else "not prepared")
        found[row["name"]] = "; ".join(parts if row["looked"] else parts[1:])
    return found


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


if __name__ == "__main__":
    with unbroken():
        argparse.ArgumentParser(prog="python -m jaxstruct", description=__doc__).parse_args()
        print(report())
