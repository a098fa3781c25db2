"""python -m experiments [list | collect WORKDIR | table]: the experiments and their results.

list (the default) names the experiments and their state; collect copies what a finished run is
worth from its workdir into experiments/results; table writes the README's table of results.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results: python -m experiments table -->", "<!-- end of results -->"
HEADER = ("experiment", "metric", "reference", "ours", "data", "hardware", "wall time", "command")


class ResultsError(Exception):
    """Results that cannot be shown; the message says which, and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("list", help="the experiments, one line each, with their state")
    adding = verbs.add_parser("collect", help="copy a finished run into experiments/results")
    adding.add_argument("workdir", type=Path)
    adding.add_argument("--name", help="the folder in experiments/results [the workdir's name]")
    verbs.add_parser("table", help="write the README's table of results")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "collect":
            print(collect(options.workdir, options.name or options.workdir.name))
        elif options.verb == "table":
            README.write_text(with_table(README.read_text(), table()))
        else:
            print(listing())
    except (ResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def names() -> list[str]:
    """The experiments: the files of this folder without a leading underscore."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.name.startswith("_"))


def results() -> dict[str, dict[str, Any]]:
    """The committed metrics.json of each folder in experiments/results, by its name.

    Raises ResultsError for one that was made on an imitation, or on arrays of unknown origin.
    """
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(RESULTS.glob("*/metrics.json"))
    }
    for name, result in found.items():
        _demand_real_data(name, result)
    return found


def listing() -> str:
    """A line for each experiment: its name, what it is, and its state."""
    states: dict[str, list[str]] = {name: [] for name in names()}
    for folder, result in results().items():
        variant = folder.removeprefix(result["experiment"]).strip("-")
        states[result["experiment"]].append(" ".join(filter(None, (variant, _data(result)))))
    lines, width = [], max(map(len, states))
    for name, found in states.items():
        docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
        state = f"results: {'; '.join(found)}" if found else "no results yet"
        lines.append(f"{name:<{width}} {docstring.splitlines()[0]} [{state}]")
    return "\n".join(lines)


def collect(workdir: Path, name: str) -> str:
    """Copies metrics.json and the figures of a finished run into experiments/results/`name`.

    Raises ResultsError where there is none, or its data are not real.
    """
    try:
        result = json.loads((workdir / "metrics.json").read_text())
    except FileNotFoundError:
        raise ResultsError(
            f"{workdir} holds no metrics.json: the run has not ended, or this is not its workdir"
        ) from None
    _demand_real_data(str(workdir), result)
    target = RESULTS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in [workdir / "metrics.json", *sorted((workdir / "figures").glob("*.png"))]:
        shutil.copy(path, target / path.name)
    return f"{target}: {len(list(target.iterdir()))} files"


def table() -> str:
    """The table of results, in Markdown: a row for each metric of each committed result."""
    lines = [_row(HEADER), _row("---" for _ in HEADER)]
    sources: list[str] = []
    for folder, result in results().items():
        for metric, values in _grouped(result).items():
            references = []
            for reference in result["references"]:
                if reference["metric"].split("/")[-1] == metric:
                    if reference["source"] not in sources:
                        sources.append(reference["source"])
                    number = sources.index(reference["source"]) + 1
                    references.append(f"{_number(reference['value'])} [{number}]")
            lines.append(
                _row(
                    (
                        f"[{folder}](experiments/results/{folder})",
                        metric,
                        ", ".join(references) or "none",
                        values,
                        _data(result),
                        _hardware(result),
                        _duration(result["cost"]["wall_seconds"]),
                        f"`{result['cost']['command']}`",
                    )
                )
            )
    notes = [f"[{number}] {source}." for number, source in enumerate(sources, 1)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def with_table(readme: str, content: str) -> str:
    """A README's text with `content` between the two marks; raises ResultsError without them."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ResultsError(f"{README}: expected one line {BEGIN!r} and one {END!r}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def _grouped(result: dict[str, Any]) -> dict[str, str]:
    """The values of each metric with their spread; those of a study's members in one cell."""
    spread = result.get("spread", {})
    seeds = {member.split("/")[-1] for member in result.get("members", {})}
    cells: dict[str, list[str]] = {}
    for name, value in result["metrics"].items():
        *member, metric = name.split("/")
        if metric.startswith("train_"):
            continue  # measured to be compared with the test's, in the figures
        text = _number(value)
        if name in spread:
            text += f" ± {float(f'{spread[name]:.2g}'):g} ({len(seeds)} seeds)"
        cells.setdefault(metric, []).append(": ".join([*member, text]))
    return {metric: ", ".join(values) for metric, values in cells.items()}


def _data(result: dict[str, Any]) -> str:
    return ", ".join(f"{d['name']} {d['split']} ({d['origin']})" for d in result["data"])


def _hardware(result: dict[str, Any]) -> str:
    machines = result["hardware"]
    machines = machines if isinstance(machines, list) else [machines]
    return "; ".join(f"{m['devices']}, cores: {m['cores']}" for m in machines)


def _demand_real_data(name: str, result: dict[str, Any]) -> None:
    for source in result["data"]:
        if source["origin"] not in ("official", "package"):
            raise ResultsError(
                f"{name} was made on {source['name']} of origin {source['origin']!r}; results are "
                "made on real data (official or package), handed to the stages as they were "
                "loaded: python -m jaxstruct.data list says what there is"
            )


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    # A minus sign, so that no line breaks between it and the number.
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    sys.exit(main())
