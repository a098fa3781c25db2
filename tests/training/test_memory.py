"""Freed memory: whether it stays with the process."""

import platform
import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
from jaxstruct.training import memory

def megabytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024

if "keep" in sys.argv:
    assert memory.keep_freed()
before = megabytes()
array = np.ones(50_000_000, np.float32)
del array
print(megabytes() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="keep_freed sets glibc's malloc alone: on another libc it does nothing, see below",
)
@pytest.mark.parametrize("keep", [True, False])
def test_an_array_that_was_freed(keep):
    command = [sys.executable, "-c", CODE, *["keep"] * keep]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 150) == keep, done.stdout


PROGRAM = """
import argparse, resource
from benchmarks import _timing

options = argparse.Namespace(devices=1, dtype="float32")
_timing.begin(options)
import jax, jax.numpy as jnp

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

product = jax.jit(lambda x, y: jnp.sin(x @ y) @ y)
sizes = [jnp.ones((rows, 1000)) for rows in (20_000, 40_000)]
for _ in range(8):
    before = faults()
    for x in sizes:
        product(x, x[:1000]).block_until_ready()
    print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="as above")
def test_a_benchmark_does_not_map_its_memory_again_in_each_call():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fewest = min(map(int, done.stdout.split()))
    assert fewest < 2_000, done.stdout  # pages; the temporaries and results have 117,000


def test_another_libc_is_left_alone():
    code = """
import ctypes, platform
platform.libc_ver, ctypes.CDLL = lambda: ("musl", "1.2"), None
from jaxstruct.training import memory
assert not memory.keep_freed()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
