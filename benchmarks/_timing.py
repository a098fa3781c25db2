"""Timing of ours and a peer in one process: interleaved, medians; and the table they end in.

What may be added: another quantity that every comparison reports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxstruct.training import hardware, memory, parallel


def parser(
    name: str, about: str | None, *, batch_size: str, peer: str = "torch"
) -> argparse.ArgumentParser:
    """The options that the comparisons share; `batch_size` says what the default is."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    made.add_argument("--devices", type=int, help="how many devices work at once [1]", default=1)
    made.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    made.add_argument("--batch-size", type=int, help=f"images of a device [{batch_size}]")
    made.add_argument("--repeats", type=int, default=10, help="rounds of each comparison [10]")
    made.add_argument("--no-peer", action="store_true", help=f"ours alone; needs no {peer}")
    return made


def chosen(parser: argparse.ArgumentParser, only: str, *groups: Sequence[Any]) -> list[list[Any]]:
    """The cases of each group whose name has `only` in it; without any, the program ends."""
    found = [[one for one in group if only in one.name] for group in groups]
    if not any(found):
        names = ", ".join(dict.fromkeys(one.name for group in groups for one in group))
        parser.error(f"nothing has {only!r} in its name; there are {names}")
    return found


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median seconds of each call over `repeats` rounds that make all of them in turn.

    A call has to wait for its own result, or returns its seconds as a float, if another process
    took them; one round that is not counted comes first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats + 1):
        for name, call in calls.items():
            since = time.perf_counter()
            took = call()
            if not isinstance(took, float):
                took = time.perf_counter() - since
            if i:
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}


def against(
    ours: Mapping[str, Callable[[], Any]], torch: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, Any]:
    """Columns of a row: for each of ours its time, PyTorch's, and how many times faster it is.

    Of PyTorch's calls, whose names begin with the one of ours they are to be compared with, the
    fastest counts; "-" where there is none.
    """
    calls = {f"ours {name}": call for name, call in ours.items()}
    calls |= {f"torch {name}": call for name, call in torch.items()}
    milliseconds = {name: 1e3 * s for name, s in interleaved(calls, repeats).items()}
    columns: dict[str, Any] = {}
    for name in ours:
        times = [ms for one, ms in milliseconds.items() if one.startswith(f"torch {name}")]
        mine = milliseconds[f"ours {name}"]
        columns |= {
            f"ours {name}, ms": mine,
            f"torch {name}, ms": min(times) if times else "-",
            f"torch / ours, {name}": min(times) / mine if times else "-",
        }
    return columns


def with_gradients(f: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """A function of f's arguments and of its result's gradient: the result and all gradients."""

    def forward_backward(*given: jax.Array) -> tuple[Any, Any]:
        out, pull = jax.vjp(f, *given[:-1])
        return out, pull(given[-1])

    return forward_backward


def gradients(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of f's arguments and of its result's gradient: all gradients alone."""
    return lambda *given: jax.vjp(f, *given[:-1])[1](given[-1])


def first_call(call: Callable[[], Any]) -> float:
    """Seconds of the first call, compilation included."""
    since = time.perf_counter()
    call()
    return time.perf_counter() - since


class Compiled(NamedTuple):
    """A program, and what it took to make."""

    call: Callable[..., Any]
    seconds: float  # of compilation
    mebibytes: float  # of its temporaries and results, NaN where the backend does not tell


def compiled(f: Callable[..., Any], *given: jax.Array) -> Compiled:
    """f of these arguments, where they are: called without any, it waits for its result."""
    jitted = jax.jit(f)
    made = program(jitted, *given)
    # Not the program itself, whose call goes through Python and takes 30 microseconds longer.
    return made._replace(call=lambda: jax.block_until_ready(jitted(*given)))


def program(jitted: Any, *given: Any) -> Compiled:
    """The program of a jitted function for such arguments; a call takes them and does not wait."""
    lowered = jitted.lower(*given)
    since = time.perf_counter()
    made = lowered.compile()
    seconds = time.perf_counter() - since
    needs: Any = made.memory_analysis()
    used = needs.temp_size_in_bytes + needs.output_size_in_bytes if needs else float("nan")
    return Compiled(made, seconds, used / 2**20)


def begin(options: argparse.Namespace) -> tuple[list[jax.Device], str]:
    """The devices that the options name, and where a table is made; freed memory is kept."""
    kept = memory.keep_freed()  # before JAX has threads
    devices = parallel.choose(options.devices)
    return devices, f"{about(devices)}, {options.dtype}, freed memory {'' if kept else 'not '}kept"


def about(devices: Sequence[jax.Device]) -> str:
    """One line on what was measured where."""
    found = hardware.hardware(devices)
    versions = hardware.versions()
    return f"{found['devices']}, {found['cores']} cores, jax {versions['jax']}"


def share_of_peak(flops: float | None, seconds: float, devices: Sequence[jax.Device]) -> str:
    """FLOP/s of one device, and their share of its peak where that is known."""
    if not flops:
        return "not known"
    peak = hardware.peak_flops(devices[0])
    rate = flops / seconds
    return f"{rate / 1e9:,.0f} GFLOP/s" + (f" ({rate / peak:.0%} of peak)" if peak else "")


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of equal keys as a Markdown table, then as one line of JSON."""
    header = list(rows[0])
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(_cell(row[key]) for key in header)} |")
    print(json.dumps(rows))


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
