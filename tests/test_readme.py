"""The README says what the repository has: its table, its experiment, its pictures and commands."""

import json
import re

import pytest

from experiments import __main__ as experiments

README = experiments.README.read_text()
ROOT = experiments.README.parent


def test_the_table_is_the_one_that_the_results_give():
    assert experiments.with_table(README, experiments.table()) == README, (
        "out of date: python -m experiments table"
    )


def test_one_experiment_is_shown_whole():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert (ROOT / "experiments/vae_mnist.py").read_text() in blocks


def test_what_the_readme_shows_and_links_to_is_there():
    paths = re.findall(r'src="([^"]+)"', README)
    paths += re.findall(r"\]\(([^)#]+)\)", README)
    assert paths
    for path in paths:
        assert path.startswith("http") or (ROOT / path).exists(), path


def test_results_are_of_experiments_that_are_there_and_of_real_data():
    for folder, result in experiments.results().items():
        assert result["experiment"] in experiments.names()
        assert folder.startswith(result["experiment"])
        assert {source["origin"] for source in result["data"]} <= {"official", "package"}


def write_result(folder, **changes):
    result = {
        "experiment": "vae_mnist",
        "metrics": {"bound": -101.26, "log_likelihood": -95.0},
        "spread": {"bound": 0.123},
        "members": {"seed=0": {}, "seed=1": {}},
        "references": [{"metric": "bound", "value": -104.0, "source": "measured elsewhere"}],
        "data": [{"name": "mnist", "split": "train", "origin": "official"}],
        "cost": {"wall_seconds": 90.0, "command": "python -m experiments.vae_mnist --seeds 2"},
        "hardware": {"devices": "1 x CPU", "cores": 2},
    } | changes
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(result))


def test_a_row_has_the_reference_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    write_result(tmp_path / "vae_mnist")
    _, _, bound, likelihood, _, note = experiments.table().splitlines()
    assert "| bound | −104 [1] | −101.3 ± 0.12 (2 seeds) | mnist train (official) |" in bound
    assert "| log_likelihood | none | −95 |" in likelihood
    assert "| 1 x CPU, cores: 2 | 1.5 min | `python -m experiments.vae_mnist --seeds 2` |" in bound
    assert note == "[1] measured elsewhere."


def test_a_study_s_members_share_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    metrics = {"latent=2/bound": -130.0, "latent=5/bound": -110.0}
    write_result(tmp_path / "vae_mnist_study", metrics=metrics, spread={}, references=[])
    assert "| bound | none | latent=2: −130, latent=5: −110 |" in experiments.table()


@pytest.mark.parametrize(
    ("name", "origin"), [("mnist", "imitation"), ("given arrays", "user"), ("mnist", "user")]
)
def test_data_that_are_not_real_are_refused(tmp_path, monkeypatch, name, origin):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    data = [{"name": name, "split": "train", "origin": origin}]
    write_result(tmp_path / "run", data=data)
    with pytest.raises(experiments.ResultsError, match=f"on {name} of origin '{origin}'"):
        experiments.collect(tmp_path / "run", "run")
    assert not (tmp_path / "results").exists()
    write_result(tmp_path / "results" / "vae_mnist", data=data)
    with pytest.raises(experiments.ResultsError, match=f"origin '{origin}'"):
        experiments.table()


def test_collect_takes_metrics_and_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    workdir = tmp_path / "vae_mnist"
    assert experiments.main(["collect", str(workdir)]) == 1
    assert "no metrics.json" in capsys.readouterr().err
    write_result(workdir)
    (workdir / "figures").mkdir()
    (workdir / "figures" / "bound.png").write_bytes(b"picture")
    (tmp_path / "results" / "vae_mnist").mkdir(parents=True)
    (tmp_path / "results" / "vae_mnist" / "old.png").write_bytes(b"old")
    assert experiments.main(["collect", str(workdir)]) == 0
    kept = sorted(path.name for path in (tmp_path / "results" / "vae_mnist").iterdir())
    assert kept == ["bound.png", "metrics.json"]


def test_the_list_has_a_line_for_each_experiment(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    write_result(tmp_path / "vae_mnist-latent=2")
    assert experiments.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == experiments.names()
    (mnist,) = (line for line in lines if line.startswith("vae_mnist "))
    assert mnist.endswith("[results: latent=2 mnist train (official)]")
    (digits,) = (line for line in lines if line.startswith("vae_digits"))
    assert digits.endswith("[no results yet]")
