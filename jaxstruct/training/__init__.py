"""Runs an experiment: State, Stage, Experiment, steps, loop, checkpoints, devices, command line.

What may be added: another way to step or to evaluate. Models, losses and figures are handed in as
functions by an experiment; nothing here imports them.
"""

from jaxstruct.training.averages import AVERAGE, average_of, keep_average, with_average
from jaxstruct.training.batches import (
    Batches,
    Interleaved,
    augment_each,
    batches_in_order,
    in_proportion,
    interleaved,
    reads_in_order,
    shuffled_batches,
    shuffled_reads,
    steps_of_epochs,
)
from jaxstruct.training.command_line import main
from jaxstruct.training.errors import RunError, Stopped, TraceError
from jaxstruct.training.evaluation import (
    make_collection,
    make_evaluation,
    make_prediction,
    means,
)
from jaxstruct.training.experiment import Claim, Experiment, Reference, Stage
from jaxstruct.training.finished import Run, StudyRun
from jaxstruct.training.freezing import merge, partition
from jaxstruct.training.parallel import AXIS, on_devices_of, process_count
from jaxstruct.training.parts import in_parts
from jaxstruct.training.restored import restore
from jaxstruct.training.run import run
from jaxstruct.training.state import State
from jaxstruct.training.step import (
    add_up,
    begin_game,
    example_keys,
    make_game_step,
    make_step,
    objective,
    reduce_gradients,
    split_keys,
)
from jaxstruct.training.study import Study, seeds

__all__ = [
    "AVERAGE",
    "AXIS",
    "Batches",
    "Claim",
    "Experiment",
    "Interleaved",
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
    "augment_each",
    "average_of",
    "batches_in_order",
    "begin_game",
    "example_keys",
    "in_parts",
    "in_proportion",
    "interleaved",
    "keep_average",
    "main",
    "make_collection",
    "make_evaluation",
    "make_game_step",
    "make_prediction",
    "make_step",
    "means",
    "merge",
    "objective",
    "on_devices_of",
    "partition",
    "process_count",
    "reads_in_order",
    "reduce_gradients",
    "restore",
    "run",
    "seeds",
    "shuffled_batches",
    "shuffled_reads",
    "split_keys",
    "steps_of_epochs",
    "with_average",
]
