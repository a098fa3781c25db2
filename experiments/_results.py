"""The committed results: what the folders of experiments/results hold, and how they come there.

A folder is named after its experiment, and after what its configuration changes where that is
something: a variant. It holds metrics.json and pictures, which `collect` copies from a workdir; the
experiment's own folder also holds notes.md, written by hand, and README.md, written by `_pages`.

What may be added: other questions to the results.
"""

from __future__ import annotations

import ast
import importlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxstruct.training import Claim

HERE = Path(__file__).parent
RESULTS = HERE / "results"

Result = dict[str, Any]
"""What a metrics.json holds."""


class ResultsError(Exception):
    """Results that cannot be shown; the message says which, and why."""


def names() -> list[str]:
    """The experiments: the files of this folder without a leading underscore."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.name.startswith("_"))


def title(name: str) -> str:
    """The first line of an experiment's docstring."""
    docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    return docstring.splitlines()[0]


def claims(name: str) -> Sequence[Claim]:
    """What an experiment claims: CLAIMS of its file, the same that its runs are judged by."""
    return getattr(importlib.import_module(f"experiments.{name}"), "CLAIMS", ())


def results() -> dict[str, dict[str, Result]]:
    """The committed results by experiment, then by folder, the default configuration's first.

    Raises ResultsError for one that was made on an imitation, or on arrays of unknown origin, or
    whose folder is not named after its experiment.
    """
    found: dict[str, dict[str, Result]] = {}
    paths = sorted(RESULTS.glob("*/metrics.json"), key=lambda path: path.parent.name)
    for path in paths:
        folder, result = path.parent.name, json.loads(path.read_text())
        _demand_real_data(folder, result)
        if variant(result["experiment"], folder) is None:
            raise ResultsError(
                f"{path.parent} holds results of {result['experiment']}; expected a folder of that "
                "name, or of that name with -VARIANT behind"
            )
        found.setdefault(result["experiment"], {})[folder] = result
    return found


def variant(name: str, folder: str) -> str | None:
    """What a folder's configuration changes, "" for nothing; None if it is another experiment's."""
    rest = folder.removeprefix(name)
    return rest[1:] if folder.startswith(f"{name}-") else "" if not rest else None


def collect(workdir: Path, folder: str) -> str:
    """Copies metrics.json and the figures of a finished run into a folder of experiments/results.

    They take the place of those that are there; notes.md and README.md stay. Raises ResultsError
    where there is no result, or its data are not real.
    """
    try:
        result = json.loads((workdir / "metrics.json").read_text())
    except FileNotFoundError:
        raise ResultsError(
            f"{workdir} holds no metrics.json: the run has not ended, or this is not its workdir"
        ) from None
    _demand_real_data(str(workdir), result)
    target = RESULTS / folder
    target.mkdir(parents=True, exist_ok=True)
    for path in target.glob("*.png"):
        path.unlink()
    copied = [workdir / "metrics.json", *sorted((workdir / "figures").glob("*.png"))]
    for path in copied:
        shutil.copy(path, target / path.name)
    return f"{target}: {len(copied)} files; python -m experiments write brings the pages up to date"


def data_of(result: Result) -> str:
    """The sets that a run read, with their splits and origins."""
    return ", ".join(f"{d['name']} {d['split']} ({d['origin']})" for d in result["data"])


def _demand_real_data(name: str, result: Result) -> None:
    for source in result["data"]:
        if source["origin"] not in ("official", "package"):
            raise ResultsError(
                f"{name} was made on {source['name']} of origin {source['origin']!r}; results are "
                "made on real data (official or package), handed to the stages as they were "
                "loaded: python -m jaxstruct.data list says what there is"
            )
