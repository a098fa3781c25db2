"""Pipes, sockets and devices in the place of a run's files: no command waits for them."""

import shutil
from functools import partial

import jax
import pytest

from jaxstruct.training import restore, run
from tests.data.test_regular_files import EVERY_KIND, KINDS, make_pipe
from tests.fuzz.fuzzing import outcome
from tests.training import tiny

MADE = tiny.experiment(tiny.Config())


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a run that has ended."""
    return shutil.copytree(trained, tmp_path / "run")


def train(folder):
    return run(MADE, folder, devices=jax.devices()[:1])


@EVERY_KIND
@pytest.mark.parametrize("name", ["config.json", "metrics.json", "metrics.jsonl"])
def test_in_the_place_of_a_file_that_is_read(finished, kind, name):
    KINDS[kind](finished / name)
    for command in (partial(restore, tiny.experiment, finished), partial(train, finished)):
        found = outcome(command, statuses={1}, names=[f"{finished / name}"])
        assert not found.faults, found.faults
        assert f"{kind}, expected a regular file" in found.line


@pytest.mark.parametrize("name", ["lock", "config.json.part", "figures/error.png"])
def test_in_the_place_of_a_file_that_is_written(finished, name):
    (finished / "metrics.json").unlink()  # what is only drawn again writes no config.json
    make_pipe(finished / name)
    found = outcome(partial(train, finished), statuses={1})
    assert not found.faults, found.faults
    assert "a pipe, expected a regular file" in found.line
    assert str(finished) in found.line


@EVERY_KIND
def test_in_a_checkpoint_it_is_damage(finished, kind):
    for name in (
        "_CHECKPOINT_METADATA",
        "meta/metadata",
        "state/_METADATA",
        "state/manifest.ocdbt",
    ):
        path = finished / "checkpoints" / "40" / name
        path.rename(finished / "aside")
        KINDS[kind](path)
        found = outcome(partial(restore, tiny.experiment, finished))
        assert (found.status, found.faults) == (0, []), name
        assert "checkpoint 40 in" in found.err
        assert "is damaged and is not used" in found.err
        path.unlink()
        (finished / "aside").rename(path)


def test_a_damaged_checkpoint_with_a_pipe_is_set_aside(finished):
    make_pipe(finished / "checkpoints" / "40" / "meta" / "metadata")
    (finished / "metrics.json").unlink()
    found = outcome(partial(train, finished))
    assert (found.status, found.faults) == (0, []), found.err
    assert "was set aside as damaged-40" in found.err
