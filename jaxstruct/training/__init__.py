"""Runs an experiment: State, Stage, Experiment, steps, loop, checkpoints, devices, command line.

What may be added: another way to step or to evaluate. Models, losses and figures are handed in as
functions by an experiment; nothing here imports them.
"""

from jaxstruct.training.batches import Batches, batches_in_order, shuffled_batches, shuffled_reads
from jaxstruct.training.command_line import main
from jaxstruct.training.evaluation import make_evaluation
from jaxstruct.training.experiment import Claim, Experiment, Reference, Stage, Study
from jaxstruct.training.images import LabelMap, fit_image, read_image, read_labels, write_labels
from jaxstruct.training.loop import RunError, Stopped
from jaxstruct.training.parallel import AXIS, TraceError
from jaxstruct.training.run import Run, StudyRun, restore, run, seeds
from jaxstruct.training.state import State
from jaxstruct.training.step import (
    add_up,
    average_parameters,
    averaged,
    example_keys,
    make_game_step,
    make_step,
    objective,
    reduce_gradients,
)

__all__ = [
    "AXIS",
    "Batches",
    "Claim",
    "Experiment",
    "LabelMap",
    "Reference",
    "Run",
    "RunError",
    "Stage",
    "State",
    "Stopped",
    "Study",
    "StudyRun",
    "TraceError",
    "add_up",
    "average_parameters",
    "averaged",
    "batches_in_order",
    "example_keys",
    "fit_image",
    "main",
    "make_evaluation",
    "make_game_step",
    "make_step",
    "objective",
    "read_image",
    "read_labels",
    "reduce_gradients",
    "restore",
    "run",
    "seeds",
    "shuffled_batches",
    "shuffled_reads",
    "write_labels",
]
