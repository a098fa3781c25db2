"""Quick experiments around `tiny`, and ways to end their runs early."""

import dataclasses
import os
import signal

import jax
import numpy as np

from jaxstruct.training import (
    Experiment,
)
from tests.training import tiny

CONFIG = tiny.Config()


def small(config=CONFIG, **changes):
    """One stage of ten steps that compiles in no time."""
    stage = tiny.stage("train", config, steps=10, **changes.pop("stage", {}))
    return Experiment(config, [stage], **changes)


def bits(state):
    state = state.replace(key=jax.random.key_data(state.key))
    return [(x.dtype, np.asarray(x).tobytes()) for x in jax.tree.leaves(state)]


def stopping(experiment, after, how):
    """The experiment, in which `how` is called at evaluation number `after` of its training."""
    calls = []

    def wrap(evaluate):
        def counted(state):
            calls.extend([step] if (step := int(state.step)) else [])  # `best` is checked at 0
            if step and len(calls) == after:
                how()
            return evaluate(state)

        return counted

    stages = [dataclasses.replace(s, evaluate=wrap(s.evaluate)) for s in experiment.stages]
    return dataclasses.replace(experiment, stages=stages)


def ask_to_stop():
    os.kill(os.getpid(), signal.SIGTERM)


def fail():
    raise OSError("the power is gone")
