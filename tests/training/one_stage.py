"""An experiment of one stage for the tests of the command line, and a study of two of them."""

import dataclasses
from dataclasses import dataclass

from jaxstruct.training import Experiment, Study
from tests.training import tiny


@dataclass(frozen=True)
class Config:
    """Of an experiment of one stage, quick to run."""

    rate: float = 0.1  # of Adam
    centred: bool = True  # take off the mean
    label: str = "a b"  # text with a space
    seed: int = 0


def small(config: Config) -> Experiment:
    made = tiny.stage("train", tiny.Config(rate=config.rate, seed=config.seed), steps=5)
    return Experiment(config, [made], figures=tiny.figures, predict=tiny.predict)


def two(config: Config) -> Study:
    rates = {f"rate={r}": small(dataclasses.replace(config, rate=r)) for r in (0.1, 0.2)}
    return Study(config, rates)
