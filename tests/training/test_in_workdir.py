"""An experiment whose functions know the workdir: `score` writes a file, `predict` reads it."""

import dataclasses
import json

from matplotlib.figure import Figure

from jaxstruct.training import Experiment, restore, run
from tests.training.one_stage import Config, small


def noting(config: Config) -> Experiment:
    """`small`, which notes the number of its scorings."""

    def in_workdir(made, workdir):
        note = workdir / "note.json"

        def score(states):
            note.write_text(json.dumps(7))
            return {"noted": 7.0}

        def predict(key, state, image):
            return {"noted": json.loads(note.read_text())}, Figure(figsize=(1, 1))

        return dataclasses.replace(made, score=score, predict=predict)

    nothing = lambda key, state, image: ({"noted": None}, Figure(figsize=(1, 1)))
    return dataclasses.replace(small(config), predict=nothing, in_workdir=in_workdir)


def test_score_writes_what_predict_reads(tmp_path):
    found = run(noting(Config()), tmp_path / "run")
    assert found.metrics["noted"] == 7
    assert found.predict()[0] == {"noted": 7}
    (tmp_path / "run").rename(tmp_path / "moved")
    assert restore(noting, tmp_path / "moved").predict()[0] == {"noted": 7}
    assert noting(Config()).predict(None, None, None)[0] == {"noted": None}


def test_the_command_line_answers_from_the_workdir(call, place):
    assert call("--workdir", "x", make=noting)[0] == 0
    assert call("predict", "--workdir", "x", make=noting)[0] == 0
    assert json.loads((place / "predictions/samples.json").read_text())["noted"] == 7
