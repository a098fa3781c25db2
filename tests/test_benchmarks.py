"""The benchmarks: each can be asked for help, has the options of all, and has a committed table."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_help_without_a_peer(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    for peer in ("torch", "torchvision"):
        monkeypatch.setitem(sys.modules, peer, None)
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(f"--{o}" in said for o in ("devices", "dtype", "batch-size", "no-peer")), said


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_committed_and_named_in_the_readme(name):
    table = (FOLDER / "results" / f"{name}.md").read_text()
    assert f"`python -m benchmarks.{name}" in table
    assert "cores, jax" in table
    assert f"benchmarks/results/{name}.md" in (FOLDER.parent / "README.md").read_text()
