"""The results of a run as records, their means over seeds, and the verdicts on claims.

A record is {member, seed, stage, metric, value}. What does not apply is None (null in
metrics.json): the member where the run belongs to no study, the seed where the configuration has
none, the stage where the metric is scored after all stages.

What may be added: another number of several records, another way to judge a claim.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxstruct.training import workdir as files
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Claim, Experiment, Reference
from jaxstruct.training.writer import numbers

Record = dict[str, Any]
Key = tuple[str | None, str | None, str]
"""(member, stage, metric): equal in the records that differ in the seed alone."""


def records_of(
    experiment: Experiment, history: Iterable[Mapping[str, Any]], scored: Mapping[str, Any]
) -> list[Record]:
    """The last evaluation of every stage, then what was scored, {metric: value} or by member.

    Raises RunError where a value is not finite.
    """
    seed = getattr(experiment.config, "seed", None)
    last = {r["stage"]: r["evaluation"] for r in history if "evaluation" in r}
    found = [
        _record(None, seed, stage.name, metric, value)
        for stage in experiment.stages
        for metric, value in last.get(stage.name, {}).items()
    ]
    for name, value in scored.items():
        member, values = (name, value) if isinstance(value, Mapping) else (None, {name: value})
        found += [_record(member, seed, None, *item) for item in numbers(values).items()]
    return found


def records_of_member(
    records: Iterable[Record], member: str | None, seed: int | None
) -> list[Record]:
    """The records of a run, under its name and seed as a member of a study."""
    return [{**r, "member": _joined(member, r["member"]) or None, "seed": seed} for r in records]


def one_or_all(values: Iterable[Any]) -> Any:
    """What several runs have in common: the value where all are equal, else the different ones.

    A list stands for several values.
    """
    each = [one for value in values for one in (value if isinstance(value, list) else [value])]
    found = different(each)
    return found[0] if len(found) == 1 else found


def different(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order; values need no hash."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def read_results(
    workdir: Path, remedy: str = "remove it, and the next call scores again"
) -> dict[str, Any] | None:
    """metrics.json of a workdir, or None; raises RunError with the remedy for other content."""
    path = workdir / "metrics.json"
    results = files.read_json(path, remedy)
    if results is None:
        return None
    if not isinstance(results, dict) or not _are_records(results.get("metrics")):
        raise RunError(
            f"{path} holds no list of records: it is damaged or an earlier version wrote it; "
            f"{remedy}"
        )
    wrong = [name for name in ("config", "cost") if not isinstance(results.get(name), dict)]
    wrong += [name for name in ("experiment", *ABOUT) if name not in results]
    wrong += [] if isinstance(results.get("experiment"), str | None) else ["experiment"]
    if "cost" not in wrong and not files.is_finite(results["cost"].get("wall_seconds", 0)):
        wrong.append("cost")
    if not files.are_objects(results.get("data"), {"name", "origin"}):
        wrong.append("data")
    best = results.get("best", {"metric": "", "value": 0, "number": 0})
    if not files.are_objects([best], {"metric", "value", "number"}) or not (
        files.is_finite(best["value"])
    ):
        wrong.append("best")
    if wrong:
        raise RunError(f"{path} holds no {', '.join(wrong)} as a run writes them; {remedy}")
    return results


ABOUT = ("hardware", "versions", "commit")
"""The keys that say on what machine, and by which code, a run was made."""


def _are_records(found: Any) -> bool:
    keys = {"member", "seed", "stage", "metric", "value"}
    return files.are_objects(found, keys) and all(
        files.is_finite(r["value"])
        and isinstance(r["metric"], str)
        and isinstance(r["member"], str | None)
        and isinstance(r["stage"], str | None)
        and isinstance(r["seed"], int | None)
        for r in found
    )


def grouped(records: Iterable[Record]) -> dict[Key, list[float]]:
    """The values of each metric, one per seed, in the order of the records."""
    found: dict[Key, list[float]] = {}
    for r in records:
        found.setdefault((r["member"], r["stage"], r["metric"]), []).append(r["value"])
    return found


def named(records: Iterable[Record]) -> dict[str, list[float]]:
    """The values of each metric by name: member/stage/metric, the stage where there are several."""
    found = grouped(records)
    stages: dict[str | None, set[str]] = {}
    for member, stage, _ in found:
        if stage is not None:
            stages.setdefault(member, set()).add(stage)
    return {
        _joined(member, stage if len(stages.get(member, ())) > 1 else None, metric): values
        for (member, stage, metric), values in found.items()
    }


class Number(NamedTuple):
    """A mean over seeds and its sample standard deviation; None for one seed."""

    mean: float
    spread: float | None

    def __str__(self) -> str:
        """Rounded to four digits, or to two of the spread."""
        if not self.spread:
            return f"{self.mean:.4g}" + (" ± 0" if self.spread == 0 else "")
        decimals = max(0, 1 - math.floor(math.log10(self.spread)))
        return f"{self.mean:.{decimals}f} ± {self.spread:.{decimals}f}"


def mean_and_spread(values: Sequence[float]) -> Number:
    """The mean and the sample standard deviation of the values of all seeds."""
    return Number(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def summary(records: Iterable[Record]) -> str:
    """All metrics in one line."""
    return ", ".join(f"{name} {mean_and_spread(values)}" for name, values in named(records).items())


class Judgement(NamedTuple):
    """The verdict on one value or one order of a claim, in words.

    `numbers`: the names of our numbers; `paper` and `ours`: the numbers, in an order with < or >
    between them; empty where there is no number.
    """

    numbers: str
    paper: str
    source: str
    ours: str
    verdict: str


def judge(claim: Claim, records: Iterable[Record]) -> list[Judgement]:
    """A judgement for each value and order of the claim, or one that names the claim's figure."""
    measured = grouped(records)
    if claim.figure:
        seen = f"to be seen in {claim.figure}.png"
        return [Judgement("", "", claim.source, "", seen)]
    found = [_judged_value(reference, measured) for reference in claim.values]
    found += [_judged_order(order, measured, claim.within) for order in claim.orders]
    return [j._replace(source=claim.source or j.source) for j in found]


def verdict(judgements: Sequence[Judgement]) -> str:
    """The verdicts on a claim in one text."""
    counts = Counter(j.verdict for j in judgements)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{word} ({n} of {counts.total()})" for word, n in counts.items())


def claims_about(claims: Iterable[Claim], config: Mapping[str, Any]) -> list[Claim]:
    """The claims about runs of a configuration, which is given as metrics.json holds it."""
    return [c for c in claims if all(config.get(k) == v for k, v in c.config.items())]


def judged_claims(
    claims: Iterable[Claim], config: Mapping[str, Any], records: Sequence[Record]
) -> list[str]:
    """A line for each claim about a configuration."""
    lines = []
    for claim in claims_about(claims, config):
        judgements = judge(claim, records)
        told = [
            f"{whose} {'; '.join(filter(None, numbers))}"
            for whose, numbers in (
                ("paper", [j.paper for j in judgements]),
                ("ours", [j.ours for j in judgements]),
            )
            if any(numbers)
        ]
        lines.append(": ".join([claim.text, *filter(None, [", ".join(told)]), verdict(judgements)]))
    return lines


def _judged_value(reference: Reference, measured: Mapping[Key, Sequence[float]]) -> Judgement:
    ours = _number(reference, measured)
    assert reference.value is not None
    word = "not measured"
    if ours:
        off = ours.mean - reference.value
        worse = {"lower": off > 0, "higher": off < 0, "near": off != 0}[reference.better]
        within = reference.spread is not None and abs(off) <= reference.spread
        if not worse or (within and reference.better == "near"):
            word = "reached"
        elif within:
            word = "within the paper's spread"
        elif reference.better == "near":
            word = f"{abs(off):.3g} {'above' if off > 0 else 'below'}"
        else:
            word = "missed"
    return Judgement(
        _names([reference]), _value(reference), reference.source, str(ours or ""), word
    )


def _judged_order(
    order: Sequence[Reference], measured: Mapping[Key, Sequence[float]], within: float
) -> Judgement:
    found = [_number(reference, measured) for reference in order]
    sign = "<" if order[0].better == "lower" else ">"
    sources = dict.fromkeys(reference.source for reference in order if reference.source)
    names = _names(order)
    paper = f" {sign} ".join(_value(r) for r in order if r.value is not None)
    ours = [x for x in found if x]
    if len(ours) < len(found):
        return Judgement(names, paper, "; ".join(sources), "", "not measured")
    text, word = str(ours[0]), "order holds"
    for a, b in itertools.pairwise(ours):
        between = "<" if a.mean < b.mean else ">" if a.mean > b.mean else "="
        text += f" {between} {b}"
        gap = abs(a.mean - b.mean)
        if between == sign:
            if word == "order holds" and gap < max(a.spread or 0, b.spread or 0):
                word = "order holds, by less than the spread"
        elif not within or gap > within:
            word = "order does not hold"
        elif word != "order does not hold":
            word = f"order holds within {within:g}"
    return Judgement(names, paper, "; ".join(sources), text, word)


def _number(reference: Reference, measured: Mapping[Key, Sequence[float]]) -> Number | None:
    """Our number; where no stage is named, that of the last stage that has the metric."""
    found = [
        values
        for (member, stage, metric), values in measured.items()
        if (member, metric) == (reference.member, reference.metric)
        and reference.stage in (None, stage)
    ]
    return mean_and_spread(found[-1]) if found else None


def _value(reference: Reference) -> str:
    spread = f" ± {reference.spread:g}" if reference.spread is not None else ""
    return f"{reference.value:.4g}{spread}"


def _names(references: Sequence[Reference]) -> str:
    """As "metric of place, place", or "metric, metric of place"; places are members and stages."""
    metrics = dict.fromkeys(r.metric for r in references)
    places = dict.fromkeys(_joined(r.member, r.stage) for r in references)
    if len(metrics) > 1 and len(places) > 1:
        return ", ".join(_names([r]) for r in references)
    of = ", ".join(filter(None, places))
    return ", ".join(metrics) + (f" of {of}" if of else "")


def _record(
    member: str | None, seed: int | None, stage: str | None, metric: str, value: float
) -> Record:
    return {"member": member, "seed": seed, "stage": stage, "metric": metric, "value": value}


def _joined(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)
