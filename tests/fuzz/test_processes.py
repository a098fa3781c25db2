"""Some inputs in processes of their own: what ends a process is seen there as users see it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxstruct.training import run
from tests.data.written import image
from tests.fuzz import fuzzing
from tests.fuzz.raw_kinds import KINDS
from tests.training import tiny

ROOT = Path(__file__).parents[2]
SECONDS = 120  # of a machine that is busy; most of it imports

# Of each kind: the folder's name below --data-dir, and what is asked.
RAW = {
    "idx": ("mnist", "prepare mnist --data-dir {root}"),
    "idx.gz": ("mnist", "draw mnist --data-dir {root} --out {root}-sheet.png"),
    "mat": ("frey_face", "prepare frey_face --data-dir {root}"),
    "mat, uncompressed": ("frey_face", "draw frey_face --data-dir {root} --out {root}-sheet.png"),
    "zip": ("raw", "prepare own --from {root}/raw/c.zip"),
    "tar": ("raw", "prepare own --from {root}/raw/c.tar --size 8"),
    "tar.gz": ("raw", "prepare own --from {root}/raw/c.tar.gz --skip-unreadable"),
    "folders": ("raw", "prepare own --from {root}/raw/c --size 4 --crop"),
    "rooms": ("houses64", "prepare houses64 --data-dir {root}"),
    "XML": ("raw", "prepare own --from {root}/raw"),
    "lists": ("raw", "prepare own --from {root}/raw"),
    "COCO": ("raw", "prepare own --from {root}/raw"),
    "annotations": ("penn_fudan", "prepare penn_fudan --data-dir {root}"),
    "masks": ("penn_fudan", "prepare penn_fudan --data-dir {root}"),
}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs a module in a process; what is wrong with its end."""
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "prepared"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))

    def process(module, arguments, kept, statuses=(0, 1), names=()):
        before = fuzzing.checksums(kept)
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments],
                cwd=tmp_path / "here",
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return [f"takes more than {SECONDS} s"]
        err = done.stderr.decode("utf-8", "replace")
        found = fuzzing.Outcome(done.returncode, "", err, [])
        faults = [*fuzzing.said_wrong(found, set(statuses), list(names))]
        return faults + ["changes a file"] * (fuzzing.checksums(kept) != before)

    return process


@pytest.mark.slow
@pytest.mark.parametrize("kind", RAW)
def test_of_raw_files(kind, start, tmp_path):
    name, asked = RAW[kind]
    root = tmp_path / "root"
    (root / name).mkdir(parents=True)
    KINDS[kind].write(root / name)
    done, _ = KINDS[kind].hurt(root / name, [*kind.encode(), 7])
    faults = start(
        "jaxstruct.data", asked.format(root=root).split(), [root], names=[str(root), "/etc/passwd"]
    )
    assert not faults, fuzzing.report({f"{kind}: {done}": faults})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of `tiny`."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(tiny.experiment(tiny.Config()), folder, devices=jax.devices()[:1], name="tiny")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("file", ["config.json", "metrics.json"])
def test_of_workdirs(file, seed, start, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    content = (folder / file).read_bytes()
    way, content = fuzzing.damaged([*file.encode(), seed], content, fuzzing.JSON)
    (folder / file).write_bytes(content)
    if seed < 3:
        module, arguments = "tests.training.tiny", ["predict", "--workdir", str(folder)]
    else:
        module, arguments = "experiments", ["collect", str(folder), "--name", "tiny"]
    faults = start(module, arguments, [folder], names=[str(folder)])
    assert not faults, fuzzing.report({f"{file}, seed {seed}: {way}": faults})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_of_images(seed, start, tmp_path):
    draw, folder = np.random.default_rng(seed), tmp_path / "images"
    folder.mkdir()
    KINDS["label maps"].write(folder)
    way, content = fuzzing.damaged([5, seed], image(seed), fuzzing.BYTES)
    (folder / "photo.jpg").write_bytes(content)
    labels = ["labels.png", "grey.png", "photo.jpg"][draw.integers(3)]
    asked = ["refine", "--smoke", "--image", str(folder / "photo.jpg")]
    asked += ["--labels", str(folder / labels), "--output", str(tmp_path / "out.png")]
    faults = start("experiments.dense_crf_demo", asked, [folder], names=[str(folder)])
    assert not faults, fuzzing.report({f"seed {seed}: {way}": faults})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("jaxstruct.data", ["draw", "digits", "--split", "train[5:2]+x"]),
        ("jaxstruct.data", ["prepare", "own", "--from", "caf\udce9"]),
        ("experiments", ["collect", "/dev/null", "--name", ""]),
        ("experiments.vae_mnist", ["predict", "--hidden", "9" * 400, "--images", "~", "--"]),
    ],
)
def test_of_command_lines(module, arguments, start, tmp_path):
    faults = start(module, arguments, [tmp_path / "here"], statuses=(0, 1, 2))
    assert not faults, fuzzing.report({f"{module} {arguments}": faults})
