"""Pages are made of results: tables, claims, notes and pictures."""

import re

import pytest

from experiments import __main__ as experiments
from experiments import _pages, _results
from jaxstruct.training import Claim, Reference
from tests.experiments.written import record, write_result


@pytest.fixture
def bounds(monkeypatch):
    """Claims about a number of 20 dimensions and of 2, the first of which is of no run."""
    values = {20: -104.0, 2: -152.0}
    claims = [
        Claim(
            f"{metric} of {n} dimensions",
            values=[Reference(metric, "higher", value=value, source="A 2020")],
            config={"latent": n},
        )
        for n, value in values.items()
        for metric in ("unknown", "bound")
    ]
    monkeypatch.setattr(_results, "claims", lambda name: claims)


def test_the_readme_s_row_is_of_the_first_claim_that_was_measured(folder, bounds):
    # -101.3 is their mean, and 0.4 / sqrt(2) their deviation.
    write_result(folder / "vae_mnist-latent=2", config={"latent": 2})
    write_result(folder / "vae_mnist")
    _, _, *found = _pages.table(_results.results()).splitlines()
    (row,) = [row for row in found if "[vae_mnist]" in row]
    assert row == (
        "| [vae_mnist](experiments/results/vae_mnist) | bound of 20 dimensions "
        "| −104 | −101.30 ± 0.28 | reached |"
    )


def test_the_readme_has_a_row_for_each_experiment(folder, monkeypatch):
    monkeypatch.setattr(_results, "claims", lambda name: ())
    records = [record("loss", 3.0), {**record("test/ap50", 0.926), "stage": None}]
    write_result(
        folder / "faster_rcnn_penn_fudan", experiment="faster_rcnn_penn_fudan", metrics=records
    )
    _, _, *found = _pages.table(_results.results()).splitlines()
    assert [re.findall(r"^\| \[(\w+)\]", row)[0] for row in found] == _results.names()
    link = "[faster_rcnn_penn_fudan](experiments/results/faster_rcnn_penn_fudan)"
    assert f"| {link} | `test/ap50` | not in the paper | 0.926 |  |" in found
    assert "| [vae_digits](experiments/vae_digits.py) |  |  |  | no run is kept |" in found


def test_all_claims_stand_beside_their_sources(folder, bounds):
    write_result(folder / "vae_mnist", metrics=[record("bound", -104.5)])
    write_result(folder / "vae_mnist-latent=2", config={"latent": 2})
    write_result(folder / "vae_mnist-latent=7", config={"latent": 7})
    text = _pages.all_claims(_results.results())
    assert "| −104 (A 2020) | −104.5 | missed" in text
    variant = text[text.index("Variant `latent=2`:") :]
    assert "| −152 (A 2020) | −101.30" in variant
    assert "No claim is about `latent=7`: not in the paper." in text


def test_a_variant_shows_the_claims_that_were_measured(folder, monkeypatch):
    claims = [
        Claim(text, values=[Reference("error", "lower", member=member, value=0.3, source="A 2020")])
        for text, member in (("a is small", "a"), ("b is small", "b"))
    ]
    monkeypatch.setattr(_results, "claims", lambda name: claims)
    for one in ("vae_mnist", "vae_mnist-latent=2"):
        write_result(folder / one, metrics=[record("error", 0.25, member="a")])
    results = _results.results()
    for text in (_pages.all_claims(results), _pages.page("vae_mnist", results["vae_mnist"])):
        before, variant = text.split("Variant `latent=2`")
        assert "| a is small | error of a | 0.3 (A 2020) | 0.25 | reached |" in before
        assert "| b is small | error of b | 0.3 (A 2020) |  | not measured |" in before
        assert "| a is small | error of a | 0.3 (A 2020) | 0.25 | reached |" in variant
        assert "b is small" not in variant


def test_a_page_has_numbers_notes_pictures_and_how_they_were_made(folder):
    write_result(folder / "vae_mnist")
    write_result(folder / "vae_mnist-latent=2", config={"latent": 2})
    (folder / "vae_mnist" / "notes.md").write_text('Words.\n\n<img src="seen.png" alt="">\n')
    for path in ("vae_mnist/seen.png", "vae_mnist/a_b.png", "vae_mnist-latent=2/c.png"):
        (folder / path).write_bytes(b"picture")
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "| `bound` | −101.30 ± 0.28 |\n| `log_likelihood` | −96.0 ± 1.4 |" in text
    assert text.index("Words.") < text.index("python -m experiments.vae_mnist --seeds 2")
    for line in (
        "- data: mnist train (from raw files)",
        "- seeds: 0, 1",
        "- hardware: 1 x CPU, cores: 2",
        "- wall time: 1.5 min",
        "- versions: jax 0.10.2; commit abc",
        '<img src="a_b.png" width="520" alt="a b of vae_mnist">',
        "## Variant `latent=2`",
        '<img src="../vae_mnist-latent=2/c.png" width="520" alt="c of vae_mnist latent=2">',
    ):
        assert line in text.splitlines()
    assert text.count("seen.png") == 1  # the notes show it


def test_the_wall_time_of_each_method_is_the_mean_of_its_seeds():
    seconds = {"sppnet/seed=0": 60.0, "sppnet/seed=1": 120.0, "joint": 7200.0}
    members = {name: {"wall_seconds": x} for name, x in seconds.items()}
    assert _pages._of_members({"members": members}) == "; of one run: sppnet 1.5 min, joint 2.0 h"
    seeds = {"seed=0": {"wall_seconds": 60.0}, "seed=1": {"wall_seconds": 80.0}}
    assert _pages._of_members({"members": seeds}) == _pages._of_members({}) == ""


def test_members_and_stages_are_rows_and_metrics_columns(folder):
    metrics = [
        record("error", 0.25, member="a", stage="layer"),
        record("hits", 3.0, member="a", stage="classifier"),
        record("loss", 0.5, member="a", stage="classifier"),
        record("hits", 4.0, member="b", stage="classifier"),
    ]
    write_result(folder / "vae_mnist", metrics=metrics)
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "| metric | a: layer |\n| --- | --- |\n| `error` | 0.25 |\n" in text
    assert (
        "| member | stage | `hits` | `loss` |\n| --- | --- | --- | --- |\n"
        "| a | classifier | 3 | 0.5 |\n| b | classifier | 4 |  |\n"
    ) in text


def test_many_metrics_stand_below_each_other(folder):
    metrics = [record(f"m{i}", float(i), member=member) for member in "ab" for i in range(7)]
    write_result(folder / "vae_mnist", metrics=metrics)
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "| metric | a | b |\n| --- | --- | --- |\n| `m0` | 0 | 0 |\n| `m1` | 1 | 1 |\n" in text


def test_a_table_has_as_many_members_beside_each_other_as_fit(folder):
    metrics = [record(f"m{i}", float(i), member=member) for member in "abcdefgh" for i in range(7)]
    write_result(folder / "vae_mnist", metrics=metrics)
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "\n| metric | a | b | c | d | e | f |\n" in text
    assert "\n| metric | g | h |\n" in text


def test_the_table_needs_its_place():
    with pytest.raises(_results.ResultsError, match="expected one line"):
        _pages.with_table("a page without marks", "table")


def test_write_writes_the_pages(folder, tmp_path, monkeypatch):
    write_result(folder / "vae_mnist")
    (tmp_path / "README.md").write_text(f"before {_pages.BEGIN} old {_pages.END} after")
    monkeypatch.setattr(_pages, "ROOT", tmp_path)
    monkeypatch.setattr(_pages, "README", tmp_path / "README.md")
    assert experiments.main(["write"]) == 0
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before ")
    assert readme.endswith(" after")
    assert "| [vae_mnist](" in readme
    assert "old" not in readme
    assert "## [vae_mnist]" in (tmp_path / "docs" / "results.md").read_text()
    assert (folder / "vae_mnist" / "README.md").read_text().startswith("<!-- Written by")


def test_the_list_has_a_line_for_each_experiment(folder, capsys):
    write_result(folder / "vae_mnist-latent=2")
    assert experiments.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == _results.names()
    (mnist,) = (line for line in lines if line.startswith("vae_mnist "))
    assert mnist.endswith("[results: latent=2 mnist train (from raw files)]")
    (digits,) = (line for line in lines if line.startswith("vae_digits"))
    assert digits.endswith("[no results yet]")
