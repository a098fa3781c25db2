"""The pages say what the repository has: results, claims, one experiment, pictures and links."""

import itertools
import re

import pytest

from experiments import _pages, _results
from jaxstruct.training.results import claims_about, judge

ROOT = _pages.ROOT
README = _pages.README.read_text()
PAGES = {path.relative_to(ROOT): text for path, text in _pages.pages().items()}
COMMITTED = [
    (folder, result)
    for folders in _results.results().values()
    for folder, result in folders.items()
]
ABOUT = [
    (name, claim, folder, result)
    for name, folders in _results.results().items()
    for folder, result in folders.items()
    for claim in claims_about(_results.claims(name), result["config"])
]


def rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_pages_are_those_that_the_results_give(page):
    assert (ROOT / page).read_text() == PAGES[page], f"out of date: {_pages.COMMAND}"


def test_no_page_is_left_of_results_that_are_gone():
    written = {path.relative_to(ROOT) for path in _results.RESULTS.glob("*/README.md")}
    assert written <= set(PAGES)


def test_one_experiment_is_shown_whole():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert (ROOT / "experiments/vae_mnist.py").read_text() in blocks


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_a_page_shows_and_links_to_is_there(page):
    text = (ROOT / page).read_text()
    paths = re.findall(r'src="([^"]+)"', text)
    paths += re.findall(r"\]\(([^)#]+)\)", text)
    paths += re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    assert paths
    for path in paths:
        assert path.startswith("http") or ((ROOT / page).parent / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_picture_says_what_it_shows(page):
    text = (ROOT / page).read_text()
    for picture in re.findall(r"<img [^>]*>", text):
        assert re.search(r'alt="[^"]{10,}"', picture), picture
    assert "![" not in text  # of no width


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_tables_can_be_read(page):
    for row in rows((ROOT / page).read_text()):
        assert row.count(" | ") <= 7, row
        assert len(row) <= 300, row


def test_the_rows_of_the_readme_are_short_and_name_every_experiment():
    _, shown, _ = re.split(f"{_pages.BEGIN}|{_pages.END}", README)
    _, _, *lines = rows(shown)
    named = [re.match(r"\| \[(\w+)\]\(\S+\) \|", line)[1] for line in lines]
    assert named == _results.names()
    seen = [re.sub(r"\]\(\S+\)", "]", line) for line in lines]
    assert all(len(line) <= 170 for line in seen), max(seen, key=len)


def test_a_page_shows_all_pictures_of_its_results():
    for folder, result in COMMITTED:
        page = (_results.RESULTS / result["experiment"] / "README.md").read_text()
        for path in (_results.RESULTS / folder).glob("*.png"):
            within = "" if folder == result["experiment"] else f"../{folder}/"
            assert page.count(f'"{within}{path.name}"') == 1, path


def test_results_are_of_experiments_that_are_there_and_of_real_data():
    for _, result in COMMITTED:
        assert result["experiment"] in _results.names()
        assert {source["origin"] for source in result["data"]} <= {"official", "package"}


@pytest.mark.parametrize(("folder", "result"), COMMITTED, ids=[f for f, _ in COMMITTED])
def test_committed_metrics_are_records(folder, result):
    assert not set(result) & {"spread", "members", "references"}
    keys = []
    for record in result["metrics"]:
        assert list(record) == ["member", "seed", "stage", "metric", "value"]
        *key, value = record.values()
        assert isinstance(value, float)
        keys.append(tuple(key))
    assert len(set(keys)) == len(keys) > 0
    # A metric that was evaluated is not scored once more.
    evaluated = {(m, seed, metric) for m, seed, stage, metric in keys if stage is not None}
    assert not evaluated & {(m, seed, metric) for m, seed, stage, metric in keys if stage is None}


def test_every_experiment_with_results_claims_something():
    assert {name for name, *_ in ABOUT} == {result["experiment"] for _, result in COMMITTED}


@pytest.mark.parametrize(
    ("name", "claim", "folder", "result"), ABOUT, ids=[f"{f}: {c.text}" for _, c, f, _ in ABOUT]
)
def test_what_is_claimed_was_measured(name, claim, folder, result):
    about = {reference.member for reference in itertools.chain(claim.values, *claim.orders)}
    for judged in judge(claim, result["metrics"]):
        if about - {None} <= {
            record["member"] for record in result["metrics"]
        }:  # else to be joined yet
            assert judged.verdict != "not measured"
            assert bool(judged.ours) != bool(claim.figure)
    if claim.figure:
        assert (_results.RESULTS / folder / f"{claim.figure}.png").exists()
