"""A damaged checkpoint is named and set aside, and costs steps; no whole one is lost."""

import errno
import json
import re
import shutil

import orbax.checkpoint as ocp
import pytest

from jaxstruct.training import RunError
from tests.training.checkpointed import FIRST, KEY, SECOND, bits, open_again, state_at, steps


def arrays(checkpoint):
    """The files that hold the arrays, the largest first."""
    files = [f for f in (checkpoint / "state").glob("**/d/*") if f.is_file()]
    assert files, sorted(checkpoint.glob("**/*"))
    return sorted(files, key=lambda f: -f.stat().st_size)


def truncate(checkpoint):
    for file in arrays(checkpoint):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty_files(checkpoint):
    for file in arrays(checkpoint):
        file.write_bytes(b"")


def flip_a_bit(checkpoint):
    # In the values of an array themselves, which no format of a file around them protects.
    for file in arrays(checkpoint):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))


def swap_arrays(checkpoint):
    """Whole files, but those of another checkpoint."""
    shutil.rmtree(checkpoint / "state")
    shutil.copytree(checkpoint.parent / "10" / "state", checkpoint / "state")


def empty_folder(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def without(name):
    def damage(checkpoint):
        found = list(checkpoint.glob(name))
        assert found, sorted(checkpoint.glob("**/*"))
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    damage.__name__ = f"without {name}"
    return damage


def half_of_meta(checkpoint):
    file = checkpoint / "meta" / "metadata"
    file.write_bytes(file.read_bytes()[:40])


DAMAGES = [
    truncate,
    empty_files,
    flip_a_bit,
    swap_arrays,
    empty_folder,
    without("state"),
    without("meta"),
    without("state/_METADATA"),
    without("state/manifest.ocdbt"),
    half_of_meta,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_a_damaged_one_falls_back_to_the_one_before(saved, capsys, damage):
    damage(saved / "30")
    with open_again(saved) as kept:
        found = kept.restore(KEY)
        assert bits(found.state) == bits(state_at(5, SECOND))
        assert (found.pending, found.seconds) == ({"square": [5.1, 3.0]}, 25)
        warning = capsys.readouterr().err
        assert len(warning.splitlines()) == 1
        assert warning.startswith(f"warning: checkpoint 30 in {saved} is damaged and was set aside")
        assert (saved / "damaged-30").is_dir()
        # The run comes by there again.
        kept.save(SECOND, state_at(10, SECOND), metrics={"error": 8.0})
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(10, SECOND))
    assert capsys.readouterr().err == ""
    assert steps(saved) == [10, 20, 25, 30]


def garbage(file):
    file.write_bytes(b"\xff garbage \x00" * 9)


def nothing(file):
    file.write_bytes(b"")


def an_end(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def five(file):
    file.write_text("5")


def no_file(file):
    file.unlink()


@pytest.mark.parametrize("change", [garbage, nothing, an_end, five, no_file])
def test_damage_anywhere_in_a_folder_costs_no_more_than_this_checkpoint(saved, capsys, change):
    files = [f.relative_to(saved) for f in (saved / "30").rglob("*") if f.is_file()]
    # Orbax writes files that nothing is read from: marks, and what it has merged into others.
    needless = {"commit_success.txt", "ocdbt.process_0"}
    needed = [f for f in files if not needless & set(f.parts)]
    assert {f.parts[1] for f in needed} == {"_CHECKPOINT_METADATA", "meta", "state"}
    for file in files:
        shutil.rmtree(copy := saved.with_name("copy"), ignore_errors=True)
        shutil.copytree(saved, copy)
        change(copy / file)
        with open_again(copy, write=False) as kept:
            found = bits(kept.restore(KEY).state)
        with open_again(copy) as kept:
            assert bits(kept.restore(KEY).state) == found
        done = re.findall(
            r"warning: checkpoint 30 in \S+ is damaged and (.*?) \(", capsys.readouterr().err
        )
        if file in needed:
            assert done == ["is not used", "was set aside as damaged-30"], file
            assert found == bits(state_at(5, SECOND))
            assert steps(copy) == [10, 20, 25]
        else:
            assert (done, found) == ([], bits(state_at(10, SECOND))), file


@pytest.mark.parametrize("what", ["pending", "seconds", "metrics"])
def test_what_a_checkpoint_says_of_itself_is_protected_too(saved, capsys, what):
    file = saved / "30" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, what: {"error": [1.0, 2.0]}}))
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(5, SECOND))
    assert "the checksum of meta" in capsys.readouterr().err


def test_a_folder_under_another_s_number_is_damage(saved, capsys):
    shutil.rmtree(saved / "30")
    shutil.copytree(saved / "25", saved / "30")
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(5, SECOND))
    assert "checkpoint 30 " in capsys.readouterr().err


def test_what_was_set_aside_before_stays(saved):
    for _ in range(2):
        with open_again(saved) as kept:
            kept.restore(KEY)
            if not (saved / "30").exists():
                kept.save(SECOND, state_at(10, SECOND), metrics={"error": 8.0})
        flip_a_bit(saved / "30")
    with open_again(saved) as kept:
        kept.restore(KEY)
    aside = sorted(f.name for f in saved.iterdir() if not f.name.isdigit())
    assert aside == ["damaged-30", "damaged-30-2"]


@pytest.mark.parametrize("damage", [empty_files, empty_folder, half_of_meta])
def test_the_damaged_last_state_of_an_earlier_stage_costs_no_later_one(saved, capsys, damage):
    damage(saved / "20")
    with open_again(saved, write=False) as kept:
        found = kept.restore(KEY)
        assert (found.index, found.finals) == (1, {})
    with open_again(saved) as kept:
        capsys.readouterr()
        found = kept.restore(KEY)
        assert (found.index, found.finals) == (1, {})
        assert bits(found.state) == bits(state_at(10, SECOND))
        # The stage is trained again from here, while the later ones stay.
        assert bits(kept.restore_stage(FIRST, KEY)) == bits(state_at(10))
        kept.save(FIRST, state_at(15), metrics={"error": 5.0})
        kept.wait()
        assert steps(saved) == [10, 15, 25, 30]
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(10, SECOND))
        assert bits(kept.restore_stage(FIRST, KEY)) == bits(state_at(15))
        kept.save(FIRST, state_at(20), metrics={"error": 6.0})
    assert steps(saved) == [10, 20, 25, 30]
    with open_again(saved) as kept:
        assert bits(kept.restore(KEY).finals["first"]) == bits(state_at(20))
        assert kept.restore_stage(SECOND, KEY) is not None


def test_it_alone_is_named(saved, capsys):
    flip_a_bit(saved / "20")
    with open_again(saved) as kept:
        kept.restore(KEY)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: checkpoint 20 in {saved} is damaged")


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("damage", [flip_a_bit, half_of_meta, without("_CHECKPOINT_METADATA")])
def test_where_all_are_damaged_nothing_is_changed(saved, capsys, damage, write):
    for number in steps(saved):
        damage(saved / str(number))
    before = {f: f.read_bytes() for f in saved.rglob("*") if f.is_file()}
    for which in ("last", "best") if damage is half_of_meta else ("last",):
        with (
            open_again(saved, write=write) as kept,
            pytest.raises(RunError) as caught,
        ):
            kept.restore(KEY, which)
        said = str(caught.value)
        assert said.startswith(f"all checkpoints in {saved} are damaged (the newest, 30: ")
        assert said.endswith("put back copies of them, or remove that folder to begin again")
    assert capsys.readouterr().err == ""
    assert {f: f.read_bytes() for f in saved.rglob("*") if f.is_file()} == before


def cannot_be_read(error):
    """As a read from a network that is away fails, in the checkpoints' manager."""

    def damage(checkpoint, patch):
        def restore(*_, **__):
            raise error

        patch.setattr(ocp.CheckpointManager, "restore", restore)

    damage.__name__ = str(error)
    return damage


def a_link_to_itself(checkpoint, _):
    """ELOOP, for a superuser too, who may read what nobody else may."""
    file = checkpoint / "meta" / "metadata"
    file.unlink()
    file.symlink_to(file)


def an_array_that_fails(checkpoint, _):
    """EIO: the first page of a process is not there."""
    for file in arrays(checkpoint):
        file.unlink()
        file.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        cannot_be_read(OSError(errno.EIO, "Input/output error")),
        cannot_be_read(PermissionError(errno.EACCES, "Permission denied")),
        cannot_be_read(ValueError("UNAVAILABLE: try again")),
        cannot_be_read(MemoryError("no memory")),
        a_link_to_itself,
        an_array_that_fails,
    ],
    ids=lambda f: f.__name__ if callable(f) else None,
)
def test_a_read_that_may_succeed_later_changes_nothing(saved, monkeypatch, damage, write):
    damage(saved / "30", monkeypatch)
    before = sorted(saved.rglob("*"))

    def restore():
        with open_again(saved, write=write) as kept:
            kept.restore(KEY)

    with pytest.raises(RunError, match=r"checkpoint 30 in .* cannot be read now .*start again"):
        restore()
    assert sorted(saved.rglob("*")) == before


def test_one_that_goes_while_it_is_read_is_not_damaged(saved, capsys):
    with open_again(saved, write=False) as kept:
        shutil.rmtree(saved / "30")  # as the run that writes them removes the old ones
        assert bits(kept.restore(KEY).state) == bits(state_at(5, SECOND))
    assert capsys.readouterr().err == ""


def test_reading_changes_nothing(saved, capsys, tmp_path):
    flip_a_bit(saved / "30")
    before = sorted(saved.glob("**/*"))
    with open_again(saved, write=False) as kept:
        assert bits(kept.restore(KEY).state) == bits(state_at(5, SECOND))
    assert "checkpoint 30" in (warning := capsys.readouterr().err)
    assert "removed" not in warning
    assert sorted(saved.glob("**/*")) == before
    with open_again(tmp_path / "none", write=False) as kept:
        assert kept.restore(KEY) is None
    assert not (tmp_path / "none").exists()


def test_a_best_one_that_is_damaged_is_named_and_kept(saved):
    without("state")(saved / "10")
    with (
        open_again(saved, write=False) as kept,
        pytest.raises(RunError, match=r"the best checkpoint, 10 in .* is damaged .*without best"),
    ):
        kept.restore(KEY, "best")
    assert steps(saved) == [10, 20, 25, 30]
