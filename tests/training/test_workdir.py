"""The files of a run: whole or absent, of one configuration, written by one run at a time."""

import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstruct.training import RunError
from jaxstruct.training.journal import Journal
from jaxstruct.training.workdir import (
    below,
    check_config,
    locked,
    plain,
    read_json,
    write_json,
)

RECORDS = [
    {"stage": "a", "step": n, "number": n, "train": {"loss": 1 / n}, "cost": {"seconds": 0.1}}
    for n in (3, 6, 9)
]


def test_a_configuration_as_json_holds_it():
    @dataclasses.dataclass(frozen=True)
    class Config:
        sizes: tuple[int, ...] = (2, 3)
        folder: Path = Path("a/b")
        rate: float = 1e-3

    assert plain(Config()) == {"sizes": [2, 3], "folder": "a/b", "rate": 0.001}


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    assert read_json(path) is None
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    def killed(*_):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(RunError, match=r"^cannot write .*x\.json \(killed\)$"):
            write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    path.write_text('{"a": ')
    with pytest.raises(RunError, match=r"x\.json is not the JSON file"):
        read_json(path)


@pytest.mark.parametrize("inside", ["a/b/c", "."])
def test_one_run_at_a_time(tmp_path, inside):
    folder = tmp_path / inside
    with locked(folder):
        with (
            pytest.raises(RunError, match=r"another run is writing into .*--workdir"),
            locked(folder),
        ):
            raise AssertionError
        with locked(tmp_path / "other"):
            pass
    with locked(folder):
        pass


def test_the_lock_goes_with_its_process(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from jaxstruct.training.workdir import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another run"), locked(tmp_path):
            raise AssertionError
    finally:
        process.kill()
        process.communicate()
    with locked(tmp_path):
        pass


def failing(monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_run_goes_on_and_says_so(tmp_path, monkeypatch, capsys, number):
    failing(monkeypatch, number)
    with locked(tmp_path):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: the file system of {tmp_path} has no locks (")
    assert os.strerror(number) in line


def test_a_lock_that_fails_is_not_another_run(tmp_path, monkeypatch):
    failing(monkeypatch, errno.EIO)
    words = r"^cannot lock .*/lock \(Input/output error\); choose another --workdir$"
    with pytest.raises(RunError, match=words), locked(tmp_path):
        raise AssertionError


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    # A superuser may write into a read-only folder, but nobody below a file or in /proc.
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with (
            pytest.raises(RunError, match="cannot write into the workdir") as caught,
            locked(folder),
        ):
            raise AssertionError
        assert str(folder) in str(caught.value)
        assert "--workdir" in str(caught.value)


def test_another_configuration_is_refused(tmp_path):
    config = {"rate": 0.1, "sizes": [2, 3], "seed": 0}
    check_config(tmp_path, "x", config)
    write_json(tmp_path / "config.json", {"experiment": "x", "config": config, "data": []})
    check_config(tmp_path, "x", config)
    check_config(tmp_path, None, config)
    with pytest.raises(RunError) as caught:
        check_config(tmp_path, "x", {"rate": 0.2, "sizes": [2], "seed": 0, "new": True})
    for part in (
        "rate was 0.1 and is now 0.2",
        "sizes was [2, 3] and is now [2]",
        "new was None and is now True",
        "--workdir",
    ):
        assert part in str(caught.value)
    assert "seed" not in str(caught.value)
    with pytest.raises(RunError, match="is a run of x, not of y"):
        check_config(tmp_path, "y", config)
    with pytest.raises(RunError, match="holds a single run"):
        check_config(tmp_path, "x", config, study=True)
    write_json(tmp_path / "config.json", {"experiment": "x", "config": config})
    check_config(tmp_path, "x", config, study=True)
    with pytest.raises(RunError, match="holds several runs"):
        check_config(tmp_path, "x", config)
    write_json(tmp_path / "config.json", ["somebody else's"])
    with pytest.raises(RunError, match="is no configuration of a run"):
        check_config(tmp_path, "x", config)


def test_files_of_weights_are_known_by_their_names(tmp_path):
    read = {"first": [{"file": "vgg16.pth", "sha256": "0"}]}
    about = {"experiment": "x", "config": {"weights": "/home/a/vgg16.pth", "also": ["b/vgg16.pth"]}}
    config = {"weights": "~/vgg16.pth", "also": ["vgg16.pth"]}
    (tmp_path / "one").mkdir()
    write_json(tmp_path / "one" / "config.json", {**about, "data": [], "weights": read})
    check_config(tmp_path / "one", "x", config)
    # Of a study, the members have read them.
    write_json(tmp_path / "config.json", about)
    check_config(tmp_path, "x", config, study=True)
    with pytest.raises(RunError, match=r"weights was /home/a/vgg16\.pth and is now c/vgg19\.pth;"):
        check_config(tmp_path / "one", "x", {**config, "weights": "c/vgg19.pth"})
    # What was not read as weights is another option.
    write_json(tmp_path / "one" / "config.json", {**about, "data": [], "weights": {}})
    with pytest.raises(RunError, match=r"of another configuration: weights was .*, also was"):
        check_config(tmp_path / "one", "x", config)


def test_what_is_below_is_found_behind_links_and_in_no_circle(tmp_path):
    for folder in ("big/seed=0", "run/a/seed=1", "run/checkpoints/8"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").touch()
    (tmp_path / "run" / "a" / "seed=0").symlink_to(tmp_path / "big" / "seed=0")
    (tmp_path / "run" / "a" / "again").symlink_to(tmp_path / "run")
    (tmp_path / "big" / "seed=0" / "up").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in below(tmp_path / "run", "config.json")]
    assert found == ["run/a/seed=0/config.json", "run/a/seed=1/config.json"]
    assert below(tmp_path / "none", "config.json") == []


def test_pictures_of_no_run_are_not_replaced(tmp_path):
    (tmp_path / "figures").mkdir()
    check_config(tmp_path, "x", {})
    (tmp_path / "figures" / "bound.png").write_bytes(b"a user's")
    with pytest.raises(RunError, match=r"bound\.png belongs to no run.*choose another --workdir"):
        check_config(tmp_path, "x", {})
    write_json(tmp_path / "config.json", {"experiment": "x", "config": {}, "data": []})
    check_config(tmp_path, "x", {})


def test_the_lock_leaves_a_file_of_its_name_as_it_is(tmp_path):
    (tmp_path / "lock").write_text("a user's")
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == "a user's"


def test_the_journal_goes_on_from_a_checkpoint(tmp_path):
    with Journal(tmp_path, 0, write=True) as journal:
        for record in RECORDS:
            journal.add(record)
    written = (tmp_path / "metrics.jsonl").read_text()
    assert [json.loads(line) for line in written.splitlines()] == RECORDS
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "a", "step": 12, "numb')  # cut short by a kill
    with Journal(tmp_path, 6, write=True) as journal:
        assert journal.history == RECORDS[:2]  # what came after the checkpoint comes again
        journal.add(RECORDS[2])
        # On the disk at once: a checkpoint that comes next may be the last thing ever written.
        assert (tmp_path / "metrics.jsonl").read_text() == written
    with Journal(tmp_path, 9, write=True) as journal:
        assert journal.history == RECORDS


def test_the_journal_can_be_read_only(tmp_path):
    with Journal(tmp_path, 9, write=False) as journal:
        journal.add(RECORDS[0])
        assert journal.history == RECORDS[:1]
    assert list(tmp_path.iterdir()) == []
