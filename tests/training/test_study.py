"""Studies and repetitions under seeds: they run, resume and are summed up as a whole."""

import dataclasses
import json
import re
import statistics

import pytest
from matplotlib.figure import Figure

from jaxstruct.training import (
    Claim,
    Reference,
    RunError,
    Stopped,
    Study,
    run,
    seeds,
)
from jaxstruct.training.study import of_member
from tests.training.quick import CONFIG, ask_to_stop, small, stopping

CLAIMS = [Claim("small", values=[Reference("error", "lower", member="rate=0.1", value=100.0)])]


def study(config=CONFIG, sizes=(0.1, 0.3), **changes):
    members = {
        f"rate={rate}": small(
            dataclasses.replace(config, rate=rate),
            score=lambda states: {"weight": float(states["train"].params["w"].sum())},
            **changes,
        )
        for rate in sizes
    }

    def figures(runs):
        assert list(runs) == list(members)
        return {"all": Figure()}

    return Study(config, members, figures, CLAIMS)


def test_a_study(tmp_path, devices, capsys):
    found = run(study(), tmp_path, devices=devices(), name="s", command="python s.py")
    assert list(found.runs) == ["rate=0.1", "rate=0.3"]
    results = json.loads((tmp_path / "metrics.json").read_text())
    expected = [
        {**record, "member": member}
        for member in found.runs
        for record in json.loads((tmp_path / member / "metrics.json").read_text())["metrics"]
    ]
    assert results["metrics"] == found.records == expected
    assert [list(record.values())[:4] for record in expected[:2]] == [
        ["rate=0.1", 0, "train", "error"],
        ["rate=0.1", 0, None, "weight"],
    ]
    assert found.metrics == {f"{r['member']}/{r['metric']}": r["value"] for r in expected}
    assert "small: paper 100, ours" in capsys.readouterr().err
    assert results["data"] == [{"name": "given arrays", "origin": "user"}]
    assert results["cost"]["command"] == "python s.py"
    assert (tmp_path / "figures" / "all.png").exists()
    with pytest.raises(RunError, match="seed was 0 and is now 1"):
        run(study(dataclasses.replace(CONFIG, seed=1)), tmp_path, devices=devices())
    with pytest.raises(RunError, match="holds several runs"):
        run(small(), tmp_path, devices=devices())


def test_a_study_goes_on_as_a_whole(tmp_path, devices, capsys):
    run(study(), tmp_path / "whole", devices=devices(), name="s")
    part = study()
    part.experiments["rate=0.3"] = stopping(part.experiments["rate=0.3"], 1, ask_to_stop)
    with pytest.raises(Stopped):
        run(part, tmp_path / "part", devices=devices(), name="s")
    assert not (tmp_path / "part" / "metrics.json").exists()
    first = tmp_path / "part" / "rate=0.1" / "metrics.json"
    before = first.read_bytes()
    capsys.readouterr()
    run(study(), tmp_path / "part", devices=devices(), name="s")
    assert first.read_bytes() == before
    begins = [s for s in capsys.readouterr().err.splitlines() if s.startswith("resuming")]
    assert begins == [f"resuming at step {n} of stage 'train'" for n in (10, 10)]
    for name in ("metrics.json", "rate=0.3/metrics.json"):
        found, expected = (
            json.loads((tmp_path / folder / name).read_text()) for folder in ("part", "whole")
        )
        for key in ("cost", "hardware", "versions", "commit"):
            del found[key], expected[key]
        assert found == expected


def test_seeds_give_means_and_standard_deviations(tmp_path, devices, capsys):
    config = dataclasses.replace(CONFIG, seed=4)
    seen = []

    def make(config):
        return small(config, figures=lambda run: seen.append(run.config.seed) or {"a": Figure()})

    repeated = seeds(make, config, 3)
    assert list(repeated.experiments) == ["seed=4", "seed=5", "seed=6"]
    found = run(repeated, tmp_path, devices=devices())
    errors = [found.runs[f"seed={n}"].metrics["error"] for n in (4, 5, 6)]
    assert len(set(errors)) == 3
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert [tuple(record.values()) for record in results["metrics"]] == [
        (None, seed, "train", "error", error) for seed, error in zip((4, 5, 6), errors, strict=True)
    ]
    mean, deviation = statistics.fmean(errors), statistics.stdev(errors)
    assert found.metrics == {"error": mean}
    (told,) = re.findall(r"^error (\S+) ± (\S+)$", capsys.readouterr().err, re.MULTILINE)
    assert [float(x) for x in told] == pytest.approx([mean, deviation], abs=0.05 * deviation)
    assert seen == [4, 5, 6, 4]  # its own figure is the first seed's
    # One more seed goes on in the same folder.
    more = run(seeds(make, config, 4), tmp_path, devices=devices())
    assert list(more.runs)[:3] == list(found.runs)
    assert [more.runs[f"seed={n}"].metrics["error"] for n in (4, 5, 6)] == errors


@pytest.mark.parametrize("member", ["seed=", "seed=one", "seed=-1", "a/seed=1.5"])
def test_a_member_under_what_is_no_seed_is_refused(member):
    with pytest.raises(RunError, match=f"^member is '{member}', expected seed=NUMBER"):
        of_member(small, CONFIG, member)


def test_a_member_under_a_seed_needs_a_configuration_with_one():
    with pytest.raises(RunError, match=r"expected seed=NUMBER, and a configuration with a seed$"):
        of_member(lambda config: small(), object(), "seed=1")


def test_a_study_was_made_where_its_members_were(tmp_path, devices):
    run(study(), tmp_path, devices=devices(), name="s")
    results = json.loads((tmp_path / "metrics.json").read_text())
    path = tmp_path / "rate=0.1" / "metrics.json"
    member = json.loads(path.read_text())
    assert results["hardware"] == member["hardware"]
    elsewhere = {"devices": "1 x abacus", "cores": 1}
    path.write_text(json.dumps({**member, "hardware": elsewhere}))
    run(study(), tmp_path, devices=devices(), name="s")
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert again["hardware"] == [elsewhere, results["hardware"]]
    assert again["versions"] == results["versions"]


def test_seeds_of_a_study(tmp_path, devices):
    drawn = []

    def make(config):
        made = study(config)
        return dataclasses.replace(made, figures=lambda runs: drawn.append(dict(runs)) or {})

    found = run(seeds(make, CONFIG, 2), tmp_path, devices=devices())
    assert sorted(found.runs) == [f"rate={r}/seed={n}" for r in (0.1, 0.3) for n in (0, 1)]
    assert list(drawn[0]) == ["rate=0.1", "rate=0.3"]
    assert {r.config.seed for r in drawn[0].values()} == {0}
    results = json.loads((tmp_path / "metrics.json").read_text())
    for rate in (0.1, 0.3):
        values = [found.runs[f"rate={rate}/seed={n}"].metrics["error"] for n in (0, 1)]
        records = [(r["member"], r["seed"], r["metric"], r["value"]) for r in results["metrics"]]
        for seed, value in enumerate(values):
            assert (f"rate={rate}", seed, "error", value) in records
        assert found.metrics[f"rate={rate}/error"] == statistics.fmean(values)
