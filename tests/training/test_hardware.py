"""What is written down about the machine and the code."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxstruct
from jaxstruct import machine
from jaxstruct.training import hardware


def device(kind, platform="gpu"):
    return SimpleNamespace(device_kind=kind, platform=platform)


def test_peaks_are_known_by_the_names_that_jax_reports():
    assert hardware.peak_flops(device("NVIDIA H100 80GB HBM3")) == 494e12
    assert hardware.peak_flops(device("NVIDIA A100-SXM4-40GB")) == 156e12
    assert hardware.peak_flops(device("Tesla V100-SXM2-16GB")) == 15.7e12
    assert hardware.peak_flops(device("TPU v5 lite", "tpu")) == 197e12
    assert hardware.peak_flops(device("TPU v5p", "tpu")) == 459e12
    assert hardware.peak_flops(device("TPU v4", "tpu")) == 275e12
    assert hardware.peak_flops(device("NVIDIA GeForce GTX 970")) is None
    assert hardware.peak_flops(jax.devices("cpu")[0]) is None


def test_hardware_counts_the_devices_that_are_used(devices):
    found = hardware.hardware(devices(2))
    assert found == {
        "devices": f"2 x {machine.processor()}",
        "platform": "cpu",
        "cores": machine.cores(),
        "processes": 1,
    }
    assert hardware.hardware([device("NVIDIA H100")] * 4)["devices"] == "4 x NVIDIA H100"


def test_versions():
    found = hardware.versions()
    assert found["python"] == platform.python_version()
    assert found["jaxstruct"] == jaxstruct.__version__
    assert found["jax"] == jax.__version__
    assert found["numpy"] == np.__version__
    assert {"jaxlib", "flax", "optax", "orbax-checkpoint"} <= set(found)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    # Nothing of the user's: hooks, signatures, a repository around.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "code"
    folder.mkdir()

    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return result.stdout.strip()

    return folder, git


def test_commit(checkout):
    folder, git = checkout
    assert hardware.commit(folder) is None
    git("init")
    assert hardware.commit(folder) is None  # there is none yet
    (folder / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert hardware.commit(folder) == head[:12]
    (folder / "a.py").write_text("2")
    assert hardware.commit(folder) == head[:12] + "+"
    git("checkout", "a.py")
    (folder / "b.py").write_text("new")
    assert hardware.commit(folder) == head[:12] + "+"


def test_the_commit_is_that_of_the_code_and_not_of_the_current_folder(
    checkout, tmp_path, monkeypatch
):
    folder, git = checkout
    git("init")
    (folder / "mine.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD")[:12]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(hardware, "__file__", str(tmp_path / "elsewhere" / "hardware.py"))
    main = SimpleNamespace(__file__=str(folder / "mine.py"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert hardware.commit_of_code() == head
    # Otherwise that of the package; a notebook has no file.
    (tmp_path / "link.py").symlink_to(folder / "mine.py")
    monkeypatch.chdir(folder)
    for place in (tmp_path / "elsewhere" / "mine.py", None):
        main.__file__ = place and str(place)
        assert hardware.commit_of_code() is None
        with monkeypatch.context() as patch:
            patch.setattr(hardware, "__file__", str(tmp_path / "link.py"))
            assert hardware.commit_of_code() == head
    del main.__file__
    assert hardware.commit_of_code() is None


def test_commit_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.commit(tmp_path) is None
