"""What the package is made of: the wheel, the bug report."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jaxstruct
from jaxstruct.__main__ import report

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_contains_the_library_alone(tmp_path):
    # The environment's own setuptools, because a test has no network.
    pytest.importorskip("setuptools")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps"]
    command += ["--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"jaxstruct", f"jaxstruct-{jaxstruct.__version__}.dist-info"}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jaxstruct").rglob("*.py")}
    assert {name for name in names if name.startswith("jaxstruct/")} == {
        *expected,
        "jaxstruct/py.typed",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_report_says_which_variable_holds_no_path(monkeypatch):
    monkeypatch.setenv("JAXSTRUCT_DATA", "~no.such.user/x")
    text = report()
    assert "error: JAXSTRUCT_DATA: ~no.such.user/x: no such user" in text
    assert "jaxlib: " in text


def test_the_report_says_what_a_bug_report_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSTRUCT_DATA", str(tmp_path / "raw"))
    text = report()
    for needed in ("jaxlib: ", "memory: ", "cpu:0", str(tmp_path / "raw"), "mnist: no raw files"):
        assert needed in text
    assert f"prepared sets are in: {os.environ['JAXSTRUCT_PREPARED']}" in text
    assert f"jaxstruct: {jaxstruct.__version__}" in text
