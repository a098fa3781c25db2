"""Ctrl-C while a command imports its modules ends it without a word."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstruct.interrupts import end_on_interrupt, raise_on_interrupt

ROOT = Path(__file__).parents[1]
INTERRUPTED = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(20)"


def interrupted(folder, *arguments):
    """A process that is interrupted while it imports NumPy."""
    (folder / "numpy.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


@pytest.mark.parametrize(
    "module", ["jaxstruct", "jaxstruct.data", "experiments", "experiments.vae_digits"]
)
def test_a_command_ends_silently(tmp_path, module):
    answer = interrupted(tmp_path, "-m", module)
    assert (answer.stdout, answer.stderr) == ("", "")
    assert answer.returncode == -signal.SIGINT  # a shell calls this 130


@pytest.mark.parametrize("name", ["mine", "experiments_of_mine"])
def test_a_program_of_another_is_left_as_it_is(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("import jaxstruct.data")
    for arguments in (["-m", name], [f"{name}.py"]):
        answer = interrupted(tmp_path, *arguments)
        assert answer.returncode == -signal.SIGINT
        assert answer.stderr.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize(
    "handler", [signal.default_int_handler, signal.SIG_IGN, signal.SIG_DFL, print]
)
def test_what_handled_an_interrupt_before_does_so_again(monkeypatch, handler):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "jaxstruct.data", "-m", "x"])
    monkeypatch.setattr(sys, "argv", ["-m", "-m", "x"])
    before = signal.signal(signal.SIGINT, handler)
    try:
        end_on_interrupt("experiments")
        assert signal.getsignal(signal.SIGINT) is handler
        end_on_interrupt("jaxstruct")
        ends = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        raise_on_interrupt()
        assert ends == (handler in (signal.default_int_handler, signal.SIG_DFL))
        assert signal.getsignal(signal.SIGINT) is handler
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which is not undone once more
        raise_on_interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("argv", [[], ["mine.py", "-m", "jaxstruct"], ["", "-m", "jaxstruct"]])
def test_another_program_may_have_no_name_and_an_option_m(monkeypatch, argv):
    monkeypatch.setattr(sys, "orig_argv", ["python", *argv])
    monkeypatch.setattr(sys, "argv", argv)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        end_on_interrupt("jaxstruct")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("module", ["jaxstruct.data", "experiments"])
def test_an_interrupt_of_the_work_itself_is_one_line_and_status_130(module):
    code = (
        "import os, runpy, signal, sys, {of} as of\n"
        "of.{name} = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['x', 'list']\n"
        "runpy.run_module({module!r}, run_name='__main__')\n"
    )
    names = {
        "jaxstruct.data": ("jaxstruct.data", "where"),
        "experiments": ("experiments._results", "results"),
    }
    of, name = names[module]
    answer = subprocess.run(
        [sys.executable, "-c", code.format(of=of, name=name, module=module)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "interrupted\n")
