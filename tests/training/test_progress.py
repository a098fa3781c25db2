"""What a run says: a bar in a terminal, plain lines elsewhere."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from jaxstruct.training import progress as module
from jaxstruct.training.progress import Progress, announce_devices

STAGE = SimpleNamespace(name="train", steps=10_000)
DEVICES = [SimpleNamespace(device_kind="Unknown", platform="gpu")]
CLOCK = SimpleNamespace(
    total=1030.0, preparing=1000.0, data=6.0, device=15.0, compiling=4.0, aside=1.0
)


@pytest.fixture
def time(monkeypatch):
    """A clock that a test moves."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now.seconds)
    return now


def test_plain_lines(capsys, time):
    with Progress(DEVICES) as progress:
        progress.say("hello")
        progress.start(STAGE, 1000)
        time.seconds = 9.0
        progress.update(STAGE, 1100, CLOCK, None)  # too early for another line
        time.seconds = 11.0
        progress.update(STAGE, 1250, CLOCK, None)
        time.seconds = 12.0
        progress.update(STAGE, 1251, CLOCK, None)
        progress.metrics(STAGE, 2000, {"error": 0.123456, "bound": -12345.0})
        progress.finish(STAGE, 10_000)
    lines = capsys.readouterr().err.splitlines()
    # 250 steps in the 30 s after the batches were prepared, of which 25 s were not spent on
    # compiling and evaluating: 10 steps/s;
    # 8,750 steps are left at 250 in 30 s: 1,050 s.
    assert lines == [
        "hello",
        "train 1,250/10,000 (12%), 10.0 steps/s, data 20%, 17:30 left",
        "train 2,000/10,000: error 0.12346, bound -12345",
    ]


def test_the_share_of_the_peak(capsys, time, monkeypatch):
    monkeypatch.setattr(module, "peak_flops", lambda device: 1e12)
    with Progress(DEVICES) as progress:
        progress.start(STAGE, 0)
        time.seconds = 11.0
        progress.update(STAGE, 250, CLOCK, 2e10)  # 10 steps/s of 2e10: 0.2 of 1e12
        time.seconds = 22.0
        progress.update(STAGE, 250, CLOCK, None)
    first, second = capsys.readouterr().err.splitlines()
    assert "20.0% of peak FLOP/s" in first
    assert "peak" not in second


def test_quiet_says_nothing(capsys, time):
    with Progress(DEVICES, quiet=True) as progress:
        progress.say("hello")
        progress.start(STAGE, 0)
        time.seconds = 100.0
        progress.update(STAGE, 10, CLOCK, None)
        progress.metrics(STAGE, 10, {"error": 1.0})
        progress.finish(STAGE, 10)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_the_bar_of_a_terminal(monkeypatch, time):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "peak_flops", lambda device: 1e12)
    with Progress(DEVICES) as progress:
        progress.say("say [this] as it is")
        progress.start(STAGE, 1000)
        progress.metrics(STAGE, 1200, {"error": 0.5})
        time.seconds = 1.0
        progress.update(STAGE, 1250, CLOCK, 2e10)
        progress._bar.refresh()
        drawn = screen.getvalue()
        other = SimpleNamespace(name="second", steps=50)
        progress.finish(STAGE, 10_000)
        progress.start(other, 0)
        progress._bar.refresh()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert "say [this] as it is\n" in plain
    last = [line for line in re.split(r"[\r\n]", plain) if "train" in line][-1]
    assert "1250/10000" in last.replace(" ", "")
    for part in ("10.0 steps/s", "data 20%", "20.0% of peak FLOP/s", "error 0.5", "━"):
        assert part in last
    assert re.search(r"\d\d:\d\d|--:--", last)  # the time left
    rest = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()[len(drawn) :])
    assert "10000/10000" in rest
    assert "second" in rest
    assert screen.getvalue().endswith("\x1b[?25h")  # the cursor is there again


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600 * 30 + 65, "30:01:05")]
)
def test_durations(seconds, text):
    assert module._duration(seconds) == text


def test_devices_are_announced(devices):
    assert announce_devices(devices(2)) == "on 2 x cpu (cpu)"
