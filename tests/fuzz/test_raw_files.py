"""Raw files of every kind, damaged in every way: they are read, or named in one line."""

import shutil

import pytest

from tests.fuzz import fuzzing
from tests.fuzz.raw_kinds import KINDS

INPUTS = 12  # of each kind


def faults_of(kind, place, seeds):
    """What was found, by input."""
    whole, found = place / "whole", {}
    whole.mkdir()
    KINDS[kind].write(whole)
    KINDS[kind].read(whole)  # undamaged
    for seed in seeds:
        folder = shutil.copytree(whole, place / "raw")
        done, _ = KINDS[kind].hurt(folder, [*kind.encode(), seed])
        read = KINDS[kind].read
        judged = fuzzing.outcome(
            lambda read=read, folder=folder: read(folder),
            names=[str(folder), "/etc/passwd"],
            keeps=[folder],
        )
        if judged.faults:
            found[f"{kind}, seed {seed}: {done}"] = judged.faults
        shutil.rmtree(folder)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_named(kind, tmp_path):
    found = faults_of(kind, tmp_path, fuzzing.seeds(INPUTS))
    assert not found, fuzzing.report(found)
