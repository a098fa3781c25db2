"""What results were made on: the devices, the versions of software, the commit of the code.

What may be added: the peak of another accelerator, one line.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from jaxstruct import __version__, machine
from jaxstruct.training import parallel

# Dense FLOP/s at the precision that JAX multiplies float32 in by default on that device: one
# bfloat16 pass on TPUs, TF32 on NVIDIA since Ampere. Sources: the makers' data sheets.
PEAK_FLOPS = {
    "TPU v3": 123e12 / 2,  # a chip has two cores, each a device
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA V100": 15.7e12,  # float32; it has no TF32
    "NVIDIA A100": 156e12,
    "NVIDIA H100": 494e12,
    "NVIDIA H200": 494e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """The peak FLOP/s of one device; None where the peak is not known (a CPU)."""
    kind = device.device_kind.replace("Tesla ", "NVIDIA ")
    return next((peak for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), None)


def hardware(devices: Any) -> dict[str, Any]:
    """The hardware that a run's numbers were made on, as metrics.json holds it."""
    first = devices[0]
    kind = machine.processor() if first.platform == "cpu" else first.device_kind
    return {
        "devices": f"{len(devices)} x {kind}",
        "platform": first.platform,
        "cores": machine.cores(),
        "processes": parallel.process_count(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {"python": platform.python_version(), "jaxstruct": __version__}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit(folder: Path) -> str | None:
    """The git commit that a folder is at, with + where it was changed; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        answer = subprocess.run(command, capture_output=True, check=True).stdout
        return answer.decode("utf-8", "replace").strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None


def commit_of_code() -> str | None:
    """The commit of the main module's folder, or else of this package's; None outside of any.

    A program without a file, such as a notebook, has no folder.
    """
    main = getattr(sys.modules["__main__"], "__file__", None)
    code = [Path(file).resolve().parent for file in (main, __file__) if file]
    return next(filter(None, map(commit, code)), None)
