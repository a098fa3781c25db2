"""The pages of results, in Markdown: the README's table, docs/results.md, and one an experiment.

What may be added: another part of a page, made of metrics.json, notes.md and claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import _results
from experiments._results import Result, ResultsError
from jaxstruct.training import Claim
from jaxstruct.training.results import (
    Judgement,
    claims_about,
    grouped,
    judge,
    mean_and_spread,
    verdict,
)

ROOT = _results.HERE.parent
README = ROOT / "README.md"
COMMAND = "python -m experiments write"
BEGIN, END = f"<!-- results: {COMMAND} -->", "<!-- end of results -->"
NOT_IN_THE_PAPER = "not in the paper"
WIDTH = 520  # of a picture, in pixels
COLUMNS = 6  # of numbers in a table, at most

Results = Mapping[str, Mapping[str, Result]]
"""As `_results.results` gives them: by experiment, then by folder."""


def pages() -> dict[Path, str]:
    """The text of every generated file, by its path."""
    results = _results.results()
    written = {README: with_table(README.read_text("utf-8"), table(results))}
    written[ROOT / "docs" / "results.md"] = all_claims(results)
    for name, folders in results.items():
        written[_results.RESULTS / name / "README.md"] = page(name, folders)
    return written


def with_table(readme: str, content: str) -> str:
    """A README's text with `content` between the two marks; raises ResultsError without them."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ResultsError(f"{README}: expected one line {BEGIN!r} and one {END!r}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def table(results: Results) -> str:
    """A row for each experiment, with the first of its claims that was measured.

    `all_claims` has the others, and reasons. Without a claim, the row has the first number that was
    measured at the end.
    """
    header = ("experiment", "claim", "compared with", "ours", "verdict")
    rows = []
    for name in _results.names():
        folders = results.get(name, {})
        if not folders:
            rows.append((f"[{name}](experiments/{name}.py)", "", "", "", "no run is kept"))
            continue
        link = f"[{name}](experiments/results/{name})"
        found = [
            (claim, result)
            for result in folders.values()
            for claim in claims_about(_results.claims(name), result["config"])
        ]
        if not found:
            of_end = [one for one in folders[min(folders)]["metrics"] if one["stage"] is None]
            (_, _, metric), values = next(iter(grouped(of_end).items()))
            ours = _minus(str(mean_and_spread(values)))
            rows.append((link, f"`{metric}`", NOT_IN_THE_PAPER, ours, ""))
            continue
        judgements = [(claim, judge(claim, result["metrics"])) for claim, result in found]
        told = [(one, [j for j in all_of if j.ours or one.figure]) for one, all_of in judgements]
        claim, judged = next((pair for pair in told if pair[1]), judgements[0])
        numbers = _first_of([_minus(j.paper) for j in judged])
        compared = numbers or judged[0].source or NOT_IN_THE_PAPER
        ours = _first_of([_minus(j.ours) for j in judged])
        rows.append((link, claim.text, compared, ours, verdict(judged)))
    return _table(header, rows)


def all_claims(results: Results) -> str:
    """The page of all claims, of all experiments and their variants."""
    parts = [
        _generated("metrics.json of experiments/results and the claims of the experiments' files"),
        "# What is claimed, and what was measured",
        "An experiment's claims stand in its file, as `CLAIMS`. The verdicts are computed from "
        "`metrics.json`: numbers are means over seeds, ± their sample standard deviation where "
        "there are several.",
        "A value is *reached* where ours is as good or better, *within the paper's spread* where "
        "it is worse by no more than that, and else *missed*. A value with a target is by the "
        "stated amount *above* or *below* it. An *order holds* where each number is better than "
        "the next.",
        "To cite a number, name the experiment, its variant, the seeds and the commit on its page. "
        "A `+` behind a commit means that the code had changes that were not committed.",
    ]
    for name, folders in results.items():
        parts += [f"## [{name}](../experiments/results/{name}/README.md)", _results.title(name)]
        without = []
        for folder, result in folders.items():
            variant = _results.variant(name, folder)
            about = _claims_of(name, folder, result)
            if about and variant:
                parts.append(f"Variant `{variant}`:")
            parts.append(about)
            if not about:
                without.append(f"`{variant}`" if variant else "the default configuration")
        if without:
            parts.append(f"No claim is about {', '.join(without)}: {NOT_IN_THE_PAPER}.")
    return _text(parts)


def page(name: str, folders: Mapping[str, Result]) -> str:
    """An experiment's page: its claims, the notes, and each run with its numbers and pictures."""
    notes = _results.RESULTS / name / "notes.md"
    words = notes.read_text("utf-8").strip() if notes.exists() else ""
    claims = {folder: _claims_of(name, folder, result) for folder, result in folders.items()}
    parts = [
        _generated("metrics.json, notes.md and the experiment's file"),
        f"# {name}",
        f"{_results.title(name)} The experiment is [{name}.py](../../{name}.py).",
        claims.get(name, ""),
        words,
    ]
    for folder, result in folders.items():
        variant = _results.variant(name, folder)
        if variant:
            parts += [f"## Variant `{variant}`", claims[folder]]
        else:
            parts.append("## The run")
        parts.append(f"```sh\n{result['cost']['command']}\n```")
        parts += [*_measured(result), _made(result)]
        within = "" if folder == name else f"../{folder}/"
        files = sorted(path.name for path in (_results.RESULTS / folder).glob("*.png"))
        of = " ".join(filter(None, (name, variant)))
        parts += [
            f'<img src="{within}{file}" width="{WIDTH}" alt="{_words(file)} of {of}">'
            for file in files
            if f'"{within}{file}"' not in words
        ]
    return _text(parts)


def _claims_of(name: str, folder: str, result: Result) -> str:
    """The claims about a run; a variant may be of a part of what they are about."""
    claims = claims_about(_results.claims(name), result["config"])
    return _claims(claims, result, unmeasured=not _results.variant(name, folder))


def _claims(claims: Iterable[Claim], result: Result, *, unmeasured: bool = True) -> str:
    """A row for each value and order of each claim, or of what was measured; "" without any."""
    header = ("claim", "of", "compared with", "ours", "verdict", "why it differs")
    rows = []
    for claim in claims:
        text, why, source = claim.text, claim.why, ""
        for judged in judge(claim, result["metrics"]):
            if not (judged.ours or claim.figure or unmeasured):
                continue
            compared = _compared(judged, source)
            ours = _minus(judged.ours)
            rows.append((text, judged.numbers, compared, ours, judged.verdict, why))
            text, why, source = "", "", judged.source
    return _table(header, rows) if rows else ""


def _compared(judged: Judgement, before: str) -> str:
    """The paper's numbers and where they stand, unless the row before says so."""
    source = judged.source or NOT_IN_THE_PAPER
    if judged.source and judged.source == before:
        return _minus(judged.paper)
    return f"{_minus(judged.paper)} ({source})" if judged.paper else source


def _measured(result: Result) -> list[str]:
    """Tables of all numbers: of each member and stage, those of like metrics in one.

    Of many metrics, a table has so many members and stages as fit beside each other.
    """
    numbers = grouped(result["metrics"])
    stages: dict[str | None, set[str | None]] = {}
    for member, stage, _ in numbers:
        stages.setdefault(member, set()).add(stage)
    several = any(len(of_member - {None}) > 1 for of_member in stages.values())
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for (member, stage, metric), values in numbers.items():
        place = (member or "", (stage or "at the end") if several else "")
        rows.setdefault(place, {})[metric] = _minus(str(mean_and_spread(values)))
    blocks: list[tuple[list[str], dict[tuple[str, str], dict[str, str]]]] = []
    for place, row in rows.items():
        for metrics, block in blocks:
            alike = set(row) <= set(metrics) or set(metrics) <= set(row)
            if alike and (len(block) < COLUMNS or len({*metrics, *row}) <= COLUMNS):
                metrics += [metric for metric in row if metric not in metrics]
                block[place] = row
                break
        else:
            blocks.append((list(row), {place: row}))
    return [_numbers(metrics, block) for metrics, block in blocks]


def _numbers(metrics: Sequence[str], block: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    """A table of numbers: the metrics of one place, and many, stand below each other."""
    heads = [f"`{metric}`" for metric in metrics]
    if len(block) == 1 or len(metrics) > COLUMNS:
        return _table(
            ["metric", *(": ".join(filter(None, place)) or "value" for place in block)],
            [
                [head, *(row.get(metric, "") for row in block.values())]
                for head, metric in zip(heads, metrics, strict=True)
            ],
        )
    # A column in which all cells are empty says nothing.
    shown = [i for i in (0, 1) if any(place[i] for place in block)]
    return _table(
        [("member", "stage")[i] for i in shown] + heads,
        [
            [*(place[i] for i in shown), *(row.get(metric, "") for metric in metrics)]
            for place, row in block.items()
        ],
    )


def _made(result: Result) -> str:
    """On what, by what and how long."""
    seeds = dict.fromkeys(r["seed"] for r in result["metrics"] if r["seed"] is not None)
    versions = dict.fromkeys(f"jax {v['jax']}" for v in _list(result["versions"]))
    commits = map(str, _list(result["commit"]))
    cost = result["cost"]
    machines = [f"{m['devices']}, cores: {m['cores']}" for m in _list(result["hardware"])]
    return "\n".join(
        (
            f"- data: {_results.data_of(result)}",
            f"- seeds: {', '.join(map(str, seeds)) or 'none'}",
            f"- hardware: {'; '.join(machines)}",
            f"- wall time: {_duration(cost['wall_seconds'])}{_of_members(cost)}",
            f"- versions: {', '.join(versions)}; commit {', '.join(commits)}",
        )
    )


def _of_members(cost: Mapping[str, Any]) -> str:
    """The mean wall time of each method, seeds of which are one."""
    groups: dict[str, list[float]] = {}
    for name, member in cost.get("members", {}).items():
        method = "/".join(part for part in name.split("/") if not part.startswith("seed="))
        groups.setdefault(method, []).append(member["wall_seconds"])
    means = {method: _duration(sum(x) / len(x)) for method, x in groups.items()}
    if len(means) < 2:
        return ""
    return f"; of one run: {', '.join(f'{method} {mean}' for method, mean in means.items())}"


def _words(file: str) -> str:
    return file.removesuffix(".png").replace("_", " ")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _first_of(texts: Sequence[str]) -> str:
    given = [text for text in texts if text]
    return " and ".join([*given[:1], *([f"{len(given) - 1} more"] if len(given) > 1 else [])])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _text(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _generated(sources: str) -> str:
    return f"<!-- Written by `{COMMAND}` from {sources}. -->"


def _minus(numbers: str) -> str:
    # A minus sign, so that no line breaks between it and the number.
    return numbers.replace("-", "\N{MINUS SIGN}")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
