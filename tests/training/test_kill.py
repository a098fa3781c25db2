"""A run as a process of its own: whatever ends it, at any moment, it goes on to the same bits."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxstruct.training import restore
from tests.training import tiny

ROOT = Path(__file__).parents[2]
CONFIG = tiny.Config(ballast=1_000_000)
COMMAND = (sys.executable, str(ROOT / "tests/training/tiny.py"), "--ballast", "1000000")
PATIENCE = 120  # seconds until a process that should have ended is said to hang

pytestmark = pytest.mark.slow


def start(workdir, *more, command=COMMAND, options=None, **environment):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), "--devices", "1", *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        **(streams | (options or {})),
    )


def end(process):
    """What it wrote, (stdout, stderr), when it has ended."""
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.kill()


def wait_until(happens, process):
    """Returns at the moment when `happens()`; fails where the process ends before."""
    for _ in range(PATIENCE * 1000):
        if happens():
            return
        assert process.poll() is None, f"it ended too early: {process.communicate()}"
        time.sleep(0.001)
    raise AssertionError("it never came so far")


def saved(workdir):
    """The numbers of the checkpoints that are whole."""
    folder = workdir / "checkpoints"
    return sorted(int(f.name) for f in folder.glob("*") if f.name.isdigit())


def being_written(workdir):
    """The number of the checkpoint that is being written now, or 0."""
    unfinished = [f.name for f in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*")]
    return max((int(name.split(".")[0]) for name in unfinished), default=0)


def began_at(stderr):
    """The stage and the step that a process says that it resumes at."""
    found = re.search(r"resuming at step (\d+) of stage '(\w+)'", stderr)
    assert found, stderr
    return found[2], int(found[1])


def outcome(workdir):
    """All that must be equal in equal runs: metrics.json, metrics.jsonl, the states' bits."""
    results = json.loads((workdir / "metrics.json").read_text())
    for key in ("cost", "hardware", "versions", "commit"):
        del results[key]
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        del record["cost"]
    states = restore(tiny.experiment(CONFIG), workdir).states
    leaves = jax.tree.leaves(
        jax.tree.map(
            lambda x: (
                jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            ),
            states,
        )
    )
    return results, records, [(x.dtype, x.shape, np.asarray(x).tobytes()) for x in leaves]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    process = start(workdir)
    _, stderr = end(process)
    assert process.returncode == 0, stderr
    found = outcome(workdir)
    assert [r["number"] for r in found[1] if "evaluation" in r] == [5, 10, 15, 20, 25, 30, 35, 40]
    records = [(record["stage"], record["metric"]) for record in found[0]["metrics"]]
    assert records == [("first", "error"), ("second", "error"), (None, "weight")]
    return found


def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path, uninterrupted):
    moments = {
        "while the first checkpoint is written": lambda: being_written(tmp_path) == 5,
        "between checkpoints": lambda: 10 in saved(tmp_path) and not being_written(tmp_path),
        "while a later one is written": lambda: being_written(tmp_path) > 20,
        "in the second stage": lambda: 30 in saved(tmp_path),
        "while it scores": lambda: 40 in saved(tmp_path) and process.stdout.readline(),
    }
    began = []
    for moment, happens in moments.items():
        process = start(tmp_path, TINY_PAUSE="0.2", TINY_PAUSE_SCORE=str(PATIENCE))
        wait_until(happens, process)
        process.send_signal(signal.SIGKILL)
        whole = saved(tmp_path)
        _, stderr = end(process)
        assert process.returncode == -signal.SIGKILL, moment
        if began or "resuming" in stderr:
            began.append(began_at(stderr))
        elif whole:
            began.append(("first", 0))
        assert not (tmp_path / "metrics.json").exists()
    process = start(tmp_path)
    _, stderr = end(process)
    assert process.returncode == 0, stderr
    began.append(began_at(stderr))
    assert began[-1] == ("second", 20)
    assert len([at for at in began if at[1] > 0]) >= 3, began
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.parametrize("one", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_the_same_command_goes_on(tmp_path, uninterrupted, one):
    process = start(tmp_path, TINY_PAUSE="0.2")
    wait_until(lambda: 5 in saved(tmp_path), process)
    process.send_signal(one)
    _, stderr = end(process)
    assert process.returncode == 128 + one
    last = stderr.splitlines()[-1]
    assert re.fullmatch(
        r"saved stage 'first' at step \d+; the same command resumes from there", last
    )
    assert "Traceback" not in stderr
    step = int(re.search(r"step (\d+)", last)[1])
    process = start(tmp_path)
    _, stderr = end(process)
    assert process.returncode == 0, stderr
    assert began_at(stderr) == ("first", step)
    assert outcome(tmp_path) == uninterrupted


TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # as a login does: its terminal asks it to stop
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_terminal_that_is_closed_asks_to_stop(tmp_path):
    mine, terminal = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = start(
        tmp_path,
        command=[sys.executable, "-c", TERMINAL, *COMMAND],
        options={**streams, "start_new_session": True},
        TINY_PAUSE="0.2",
    )
    os.close(terminal)
    wait_until(lambda: 5 in saved(tmp_path), process)
    os.close(mine)  # sends SIGHUP; what is said from now on cannot be written
    end(process)
    assert process.returncode == 128 + signal.SIGHUP
    state = restore(tiny.experiment(CONFIG), tmp_path).state
    assert 5 <= int(state.step) == max(saved(tmp_path)) <= 20
    recorded = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert int(state.step) - json.loads(recorded[-1])["number"] < 5


def test_output_that_nobody_reads_ends_no_run(tmp_path, uninterrupted):
    process = start(tmp_path, command=["nohup", *COMMAND], TINY_PAUSE="0.05")
    assert process.stderr.readline()
    process.stdout.close()
    process.stderr.close()  # as `2>&1 | head -1` does
    wait_until(lambda: 5 in saved(tmp_path), process)
    process.send_signal(signal.SIGHUP)  # which nohup has it ignore
    assert process.wait(PATIENCE) == 0
    assert outcome(tmp_path) == uninterrupted


def test_standard_streams_may_be_closed(tmp_path, uninterrupted):
    closed = ["sh", "-c", '"$@" >&- 2>&- <&-', "sh", *COMMAND]
    process = start(tmp_path, command=closed)
    assert end(process) == ("", "")
    assert process.returncode == 0
    assert outcome(tmp_path) == uninterrupted


def test_a_second_interrupt_does_not_wait(tmp_path):
    process = start(tmp_path, TINY_PAUSE=str(10 * PATIENCE))
    wait_until(lambda: (tmp_path / "metrics.jsonl").exists(), process)
    wait_until(lambda: (tmp_path / "metrics.jsonl").read_text(), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = end(process)
    assert process.returncode == 128 + signal.SIGINT
    assert stderr.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in stderr
    assert saved(tmp_path) == []


FULL = '''"""The tiny experiment on a disk that is full from step 10 of its second stage on."""

import asyncio
import dataclasses
import resource
import sys
import time
from pathlib import Path

from jaxstruct.training import Experiment, main
from tests.training import tiny


def experiment(config: tiny.Config) -> Experiment:
    made = tiny.experiment(config)
    first, second = made.stages

    def evaluate(state):
        if state.step == 10:
            before = Path(sys.argv[sys.argv.index("--workdir") + 1], "checkpoints", "25")
            while not before.exists():  # written in the background
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            # The error of a second array, which sometimes comes too late for anybody to ask for it.
            asyncio.new_event_loop().create_future().set_exception(ValueError("no space either"))
        return second.evaluate(state)

    return dataclasses.replace(made, stages=[first, dataclasses.replace(second, evaluate=evaluate)])


main(experiment)
'''


def test_a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint(tmp_path, uninterrupted):
    script, workdir = tmp_path / "tiny.py", tmp_path / "run"
    script.write_text(FULL)
    process = start(workdir, command=(sys.executable, str(script), *COMMAND[2:]))
    _, stderr = end(process)
    assert process.returncode == 1, stderr
    last = stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot write a checkpoint into {workdir / 'checkpoints'} (")
    assert "free space or choose another --workdir, then start again" in last
    assert last.endswith("checkpoint 25 is the last good one")
    assert "Traceback" not in stderr
    assert "no space either" not in stderr
    assert len([s for s in stderr.splitlines() if "cannot write" in s]) == 1
    assert max(saved(workdir)) == 25
    process = start(workdir)
    _, stderr = end(process)
    assert process.returncode == 0, stderr
    assert began_at(stderr) == ("second", 5)
    assert outcome(workdir) == uninterrupted
