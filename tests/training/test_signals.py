"""Signals ask a run to stop; what was there before comes back."""

import dataclasses
import os
import signal
import threading

import jax
import pytest

from jaxstruct.training import Stopped, run
from jaxstruct.training.signals import stop_requests
from tests.training import tiny
from tests.training.quick import CONFIG, ask_to_stop, bits, small


@pytest.fixture(autouse=True)
def handlers():
    """The handlers before a test are those after it."""
    asking = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {s: signal.getsignal(s) for s in asking}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever called the tests may have ignored it
    before[signal.SIGHUP], outside = signal.SIG_DFL, before[signal.SIGHUP]
    yield before
    after = {s: signal.getsignal(s) for s in before}
    for s, handler in before.items():
        signal.signal(s, handler)
    signal.signal(signal.SIGHUP, outside)
    assert after == before


def test_a_hangup_that_is_ignored_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_requests() as requested:
        os.kill(os.getpid(), signal.SIGHUP)
        assert requested(1) is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("one", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_a_request(one):
    with stop_requests() as requested:
        assert requested(1) is None
        os.kill(os.getpid(), one)
        assert requested(2) == one
        assert requested(3) == one


def test_the_first_signal_counts_and_sigterm_never_interrupts():
    with stop_requests() as requested:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested(1) == signal.SIGINT


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_interrupt_does_not_wait(first):
    def interrupted_twice():
        with stop_requests():
            os.kill(os.getpid(), first)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("it went on")

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()


def test_handlers_come_back_after_an_error(handlers):
    mine = lambda signum, frame: None
    signal.signal(signal.SIGTERM, mine)
    inside = []

    def failing():
        with stop_requests():
            inside.append(signal.getsignal(signal.SIGTERM))
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        failing()
    assert inside != [mine]
    assert signal.getsignal(signal.SIGTERM) is mine
    signal.signal(signal.SIGTERM, handlers[signal.SIGTERM])


def test_in_a_thread_there_are_no_signals():
    found = []

    def work():
        with stop_requests() as requested:
            found.append(requested(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def test_where_nothing_can_be_saved_a_signal_stops_at_once():
    def search(requested, ask):
        with requested.at_once("a search"):
            ask()
            pytest.fail("it went on")

    with stop_requests() as requested:
        with pytest.raises(Stopped, match="stopped during a search") as stopped:
            search(requested, ask_to_stop)
        assert stopped.value.signum == requested(1) == signal.SIGTERM
        with pytest.raises(Stopped):  # one that came before is not forgotten
            search(requested, lambda: None)


def test_where_nothing_can_be_saved_no_signal_changes_nothing():
    with stop_requests() as requested:
        with requested.at_once("a search"):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested(1) == signal.SIGTERM


@pytest.mark.parametrize("named", ["start", "prepare"])
def test_a_signal_ends_a_long_preparation_and_the_same_run_goes_on(tmp_path, named):
    whole = small()
    (stage,) = whole.stages
    given = {"start": lambda state: state, "prepare": lambda state: stage.batches}

    def asked(state):
        ask_to_stop()
        pytest.fail("it went on")

    one = {"devices": jax.devices()[:1], "name": "small"}
    stages = [dataclasses.replace(stage, **{named: asked})]
    with pytest.raises(Stopped, match=f"of stage {stage.name!r}"):
        run(dataclasses.replace(whole, stages=stages), tmp_path / "cut", **one)
    stages = [dataclasses.replace(stage, **{named: given[named]})]
    ended = run(dataclasses.replace(whole, stages=stages), tmp_path / "cut", **one)
    assert bits(ended.state) == bits(run(whole, tmp_path / "whole", **one).state)


@pytest.mark.parametrize("named", ["evaluate", "prepare"])
def test_a_stage_that_has_ended_is_not_trained_again(tmp_path, named):
    whole = tiny.experiment(CONFIG)
    first, second = whole.stages

    def last(state):  # the request comes while the first stage is evaluated for the last time
        if int(state.step) == first.steps:
            ask_to_stop()
        return first.evaluate(state)

    def asked(state):
        ask_to_stop()
        pytest.fail("it went on")

    def trained(state, batch):
        pytest.fail("it was trained again")

    one = {"devices": jax.devices()[:1], "name": "tiny"}
    cut = {
        "evaluate": [dataclasses.replace(first, evaluate=last), second],
        "prepare": [first, dataclasses.replace(second, prepare=asked)],
    }
    with pytest.raises(Stopped):
        run(dataclasses.replace(whole, stages=cut[named]), tmp_path / "cut", **one)
    stages = [dataclasses.replace(first, update=trained), second]
    ended = run(dataclasses.replace(whole, stages=stages), tmp_path / "cut", **one)
    assert bits(ended.state) == bits(run(whole, tmp_path / "whole", **one).state)
