"""Fixtures of several files: a command line, a trained workdir, a folder of checkpoints."""

import shutil

import jax
import pytest

from jaxstruct.training import main, run
from tests.training import tiny
from tests.training.checkpointed import save_all


@pytest.fixture
def call(place, capsys):
    """Runs a command line; its exit status, stdout and stderr."""

    def command(*arguments, make=tiny.experiment, smoke=tiny.SMOKE, paper=tiny.PAPER):
        if not {"--help", "--devices"} & set(arguments):
            arguments = (*arguments, "--devices", "1")
        with pytest.raises(SystemExit) as caught:
            main(make, smoke=smoke, paper=paper, arguments=[str(a) for a in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir of `tiny`, trained from Python."""
    folder = tmp_path_factory.mktemp("trained")
    run(tiny.experiment(tiny.Config()), folder, devices=jax.devices()[:1])
    return folder


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory):
    """What `saved` is a copy of."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    save_all(folder)
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """A folder with the checkpoints 10, 20, 25 and 30; see `save_all`."""
    return shutil.copytree(saved_once, tmp_path / "checkpoints")
