"""The benchmarks: each can be asked for help, has the options of all, and has a committed table."""

import functools
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks import _memory, _timing, dense_crf, segmentation
from jaxstruct import models
from jaxstruct.models import resnet

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_help_without_a_peer(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    for peer in ("torch", "torchvision", "pydensecrf"):
        monkeypatch.setitem(sys.modules, peer, None)
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(f"--{o}" in said for o in ("devices", "dtype", "batch-size", "no-peer")), said


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_committed_and_linked_from_the_page_of_speed(name):
    table = (FOLDER / "results" / f"{name}.md").read_text()
    assert f"`python -m benchmarks.{name}" in table
    assert "cores, jax" in table
    assert f"benchmarks/results/{name}.md" in (FOLDER.parent / "docs" / "speed.md").read_text()


# The others do what these do; the accelerator's programs take seconds to compile.
SECTIONS = ["single", "repeated", "labels", "accuracy", "features"]
SLOW = pytest.param("accelerator", marks=pytest.mark.slow)


@pytest.mark.parametrize("section", [*SECTIONS, SLOW])
def test_dense_crf_measures(section, monkeypatch, capsys):
    tiny = {"SIZE": (16, 24), "LABELS": 3, "ITERATIONS": 2, "PHOTOGRAPHS": 1, "BATCH": 2}
    tiny |= {"PIXELS": ((16, 24),), "COUNTS": (2,), "COUNTED_AT": (16, 24)}
    tiny |= {
        "EXACT_AT": (16, 24),
        "NUMPY_AT": (8, 12),
        "BACKPROPAGATED": (1,),
        "POINTS": 20,
        "FEATURES": (2,),
    }
    tiny["KERNELS"] = {"wide": dense_crf.KERNELS["wide"]}
    for name, value in tiny.items():
        monkeypatch.setattr(dense_crf, name, value)
    monkeypatch.setattr(_memory, "growth", lambda *_: 1.0)
    options = ["--no-peer", "--repeats", "1", "--batch-size", "2", "--only", section]
    monkeypatch.setattr(sys, "argv", ["dense_crf", *options])
    dense_crf.main()
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert rows
    for row in rows:
        numbers = [v for v in row.values() if isinstance(v, float)]
        assert numbers, row
        assert np.isfinite(numbers).all(), row


@pytest.mark.slow
def test_segmentation_measures(monkeypatch, capsys):
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))  # compiles in half the time
    fcn = models.FCN(models.ResNet(18, last=None, norm="frozen"), segmentation.CLASSES, finest=8)
    monkeypatch.setattr(segmentation, "network", lambda name, dtype: fcn)
    monkeypatch.setattr(segmentation, "CASES", [segmentation.Case("small", (64, 96), 1, True)])
    monkeypatch.setattr(segmentation, "CRF_AT", (16, 24))
    monkeypatch.setattr(segmentation, "FRAME", (76, 68))
    monkeypatch.setattr(segmentation._torch, "begin", lambda options: jax.devices()[:1])
    monkeypatch.setattr(sys, "argv", ["segmentation", "--no-peer", "--repeats", "1"])
    segmentation.main()
    tables = [json.loads(x) for x in capsys.readouterr().out.splitlines() if x.startswith("[")]
    networks, parts, (slid,) = tables
    assert [row["what"] for row in networks] == ["inference", "step"]
    assert {row["images"] for row in networks} == {"1 of 64x96"}
    assert [row["part"] for row in parts[:-1]] == [*segmentation.PARTS.values()]
    assert parts[-1]["part"].startswith("a dense CRF, 16x24")
    assert slid["patches"] == 3 * 2
    for row in networks + parts:
        assert 0 < row["ours, ms"] < 60_000
        assert row["peer, ms"] == row["peer / ours"] == "-"
    assert slid["one by one / slid"] > 0


def test_dense_crf_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setattr(sys, "argv", ["dense_crf"])
    with pytest.raises(SystemExit, match="pydensecrf"):
        dense_crf.main()


def test_memory_is_that_of_the_large_call():
    make = functools.partial(functools.partial, np.ones)
    grown = _memory.growth(make, 1, 2**23)
    assert grown == "-" or 63 < grown < 80


def test_only_some_cases_are_chosen_by_their_names(capsys):
    layer = lambda name: SimpleNamespace(name=name)
    networks, layers = [layer("VGG16"), layer("lite0")], [layer("VGG16 3x3")]
    parser = _timing.parser("conv", "about", batch_size="2")
    assert _timing.chosen(parser, "VGG", networks, layers) == [networks[:1], layers]
    assert _timing.chosen(parser, "lite", networks, layers) == [networks[1:], []]
    with pytest.raises(SystemExit):
        _timing.chosen(parser, "ResNet", networks, networks, layers)
    said = capsys.readouterr().err
    assert "nothing has 'ResNet' in its name; there are VGG16, lite0, VGG16 3x3\n" in said
