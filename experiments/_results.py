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
import shlex
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from jaxstruct.data.errors import Explained
from jaxstruct.training import Claim, RunError
from jaxstruct.training import workdir as files
from jaxstruct.training.experiment import config_type
from jaxstruct.training.results import (
    ABOUT,
    different,
    grouped,
    mean_and_spread,
    one_or_all,
    read_results,
)
from jaxstruct.training.study import SEED

HERE = Path(__file__).parent
FROM = {"official": "from raw files", "package": "from an installed package"}
RESULTS = HERE / "results"

Result = dict[str, Any]
"""What a metrics.json holds."""


class ResultsError(Explained):
    """Results that cannot be shown; the message says which, and why."""


def names() -> list[str]:
    """The experiments: the files of this folder without a leading underscore."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.name.startswith("_"))


def title(name: str) -> str:
    """The first line of an experiment's docstring."""
    docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text("utf-8"))) or ""
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
        folder, result = path.parent.name, _read(path.parent, "collect it again from its workdir")
        _demand_real_data(folder, result)
        _demand_name(folder, result)
        found.setdefault(result["experiment"], {})[folder] = result
    return found


def variant(name: str, folder: str) -> str | None:
    """What a folder's configuration changes, "" for nothing; None if it is another experiment's."""
    if folder == name:
        return ""
    return folder.removeprefix(f"{name}-") if folder.startswith(f"{name}-") else None


def collect(workdir: Path, folder: str, *, add: bool = False) -> str:
    """Copies metrics.json and the figures of a finished run into a folder of experiments/results.

    They take the place of those that are there; notes.md and README.md stay. With `add`, the run is
    of further seeds, or of further members of a study, of another machine perhaps: its numbers join
    those that are there, whose figures stay. What the experiment's `draw_metrics` draws is drawn
    again, of all. A file that the run was told to read, of weights say, is known by its name, and
    not by its place. Raises ResultsError where there is no result, its data are not real, or the
    folder has not its experiment's name; with `add`, where the runs differ in anything else.
    """
    result = _read(workdir, "remove it, and the command of the run scores again")
    _demand_real_data(str(workdir), result)
    target = RESULTS / folder
    _demand_name(folder, result)
    content = (workdir / "metrics.json").read_text(encoding="utf-8")
    for value in _strings(result["config"]):
        if Path(value).is_absolute():
            content = content.replace(json.dumps(value)[1:-1], Path(value).name)
    weights = {*files.weights_of(result), *files.weights_below(workdir)}
    result = _by_name(json.loads(content), weights)
    copied: list[Path] = []
    if add:
        kept = _read(target, "collect it again from its workdir")
        weights |= {*files.weights_of(kept)}
        result = _joined(_by_name(kept, weights), _by_name(result, weights), folder)
    else:
        target.mkdir(parents=True, exist_ok=True)
        copied = sorted((workdir / "figures").glob("*.png"))
        for path in copied:
            shutil.copy(path, target / path.name)
    if result != json.loads(content):
        content = json.dumps(result, indent=2) + "\n"
    (target / "metrics.json").write_text(content, encoding="utf-8")
    # Not before: what cannot be copied must not cost the old ones.
    for path in set() if add else set(target.glob("*.png")) - {target / x.name for x in copied}:
        path.unlink()
    drawn = _drawn(result) if add else {}
    for name, figure in drawn.items():
        figure.savefig(target / f"{name}.png")
    count = len(copied) + len(drawn) + 1
    return f"{target}: {count} files; python -m experiments write brings the pages up to date"


def _by_name(result: Result, weights: Collection[str]) -> Result:
    """The result with these files of weights by their names, wherever the run found them."""
    command = result["cost"].get("command")
    for value in _strings(result["config"]) if isinstance(command, str) else ():
        if (name := Path(value).name) in weights:
            command = command.replace(shlex.quote(value), shlex.quote(name))
    cost = {**result["cost"], **({"command": command} if command else {})}
    return {**result, "config": files.by_name(result["config"], weights), "cost": cost}


def _joined(kept: Result, further: Result, folder: str) -> Result:
    """The results of the kept runs and of further ones. Raises ResultsError where both do not fit.

    Lists of the configuration that differ are those of a study's members, one after the other. An
    option that one of both does not know yet has to have its default in the other.
    """
    ours, theirs = _runs(kept), _runs(further)
    if {*ours} & {*theirs} or not ours or not theirs:
        raise ResultsError(
            f"{RESULTS / folder} has {_listed(ours)}, the run {_listed(theirs)}; expected other "
            f"seeds, such as --seed {max([-1, *_seeds(kept)]) + 1}, or other members of a study"
        )
    others = not {member for member, _ in ours} & {member for member, _ in theirs}
    members = {name: cost for one in (kept, further) for name, cost in _costs(one).items()}
    return {
        **kept,
        "config": _joined_config(kept, further, others, folder),
        "metrics": [*kept["metrics"], *further["metrics"]],
        "data": different([*kept["data"], *further["data"]]),
        "cost": {
            "wall_seconds": sum(one["cost"]["wall_seconds"] for one in (kept, further)),
            "members": members,
            "command": "\n".join(one["cost"].get("command") or "" for one in (kept, further)),
        },
        **{key: one_or_all([kept[key], further[key]]) for key in ABOUT},
    }


def _joined_config(kept: Result, further: Result, others: bool, folder: str) -> dict[str, Any]:
    """The configuration of both; with `others`, of a study whose members are others."""
    module = importlib.import_module(f"experiments.{kept['experiment']}")
    defaults = files.plain(config_type(module.experiment)())
    found: dict[str, Any] = dict(kept["config"])
    missing = object()
    for name in sorted({*kept["config"], *further["config"]} - {"seed"}):
        ours, theirs = (
            one["config"].get(name, defaults.get(name, missing)) for one in (kept, further)
        )
        if ours == theirs:
            continue
        if not (others and isinstance(ours, list) and isinstance(theirs, list)):
            raise ResultsError(
                f"{RESULTS / folder} has {name} {ours!r:.60}, the run {theirs!r:.60}; expected "
                "runs that differ in seeds, or in the members of a study, alone; collect this one "
                "under another --name"
            )
        found[name] = [*ours, *theirs]
    return found


def _drawn(result: Result) -> dict[str, Any]:
    """The figures that an experiment's `draw_metrics` draws of {member: {metric: mean}}, if any."""
    module = importlib.import_module(f"experiments.{result['experiment']}")
    draw = getattr(module, "draw_metrics", None)
    return draw(_means(result)) if draw else {}


def _means(result: Result) -> dict[str, dict[str, float]]:
    """The means over seeds: {member: {metric: mean}}."""
    found: dict[str, dict[str, float]] = {}
    for (member, _, metric), values in grouped(result["metrics"]).items():
        found.setdefault(member or "", {})[metric] = mean_and_spread(values).mean
    return found


def _runs(result: Result) -> list[tuple[str | None, int]]:
    """The runs of a result: members of a study, if it is one, and seeds."""
    return different((r["member"], r["seed"]) for r in result["metrics"] if r["seed"] is not None)


def _listed(runs: list[tuple[str | None, int]]) -> str:
    return ", ".join(" ".join(filter(None, (member, f"{SEED}{seed}"))) for member, seed in runs)


def _seeds(result: Result) -> list[int]:
    return different(seed for _, seed in _runs(result))


def _costs(result: Result) -> dict[str, Any]:
    """The cost of each run of a result, by its name in a study of seeds."""
    cost, seeds = result["cost"], _seeds(result)
    members = cost.get("members")
    if not members:
        return {f"{SEED}{seed}": cost for seed in seeds}
    one = f"/{SEED}{seeds[0]}" if len(seeds) == 1 else ""
    return {name if SEED in name else f"{name}{one}": cost for name, cost in members.items()}


def _strings(config: Any) -> list[str]:
    """The words of a configuration, or of each member's."""
    if isinstance(config, str):
        return [config]
    values = config.values() if isinstance(config, dict) else config
    nested = isinstance(config, dict | list)
    return [word for value in values for word in _strings(value)] if nested else []


def data_of(result: Result) -> str:
    """The sets that a run read, with their splits and where they come from."""
    return ", ".join(f"{d['name']} {d['split']} ({FROM[d['origin']]})" for d in result["data"])


def _read(folder: Path, remedy: str) -> Result:
    try:
        result = read_results(folder, remedy)
    except RunError as error:
        raise ResultsError(str(error)) from error
    if result is None:
        raise ResultsError(
            f"{folder} holds no metrics.json: the run has not ended, or this is not its workdir"
        )
    return result


def _demand_name(folder: str, result: Result) -> None:
    name = result["experiment"]
    if name is None or "/" in folder or variant(name, folder) is None:
        raise ResultsError(
            f"{RESULTS / folder} holds results of {name}; expected a folder of that name, or of "
            "that name with -VARIANT behind"
        )


def _demand_real_data(name: str, result: Result) -> None:
    for source in result["data"]:
        if source["origin"] not in FROM:
            raise ResultsError(
                f"{name} was made on {source['name']} of origin {source['origin']!r}; results are "
                "made on real data (raw files or an installed package), handed to the stages as "
                "they were loaded: python -m jaxstruct.data list says what there is"
            )
