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


def test_another_libc_is_left_alone():
    code = """
import ctypes, platform
platform.libc_ver, ctypes.CDLL = lambda: ("musl", "1.2"), None
from jaxstruct.training import memory
assert not memory.keep_freed()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
