"""The pages say what the repository has: results, claims, one experiment, pictures and links."""

import itertools
import json
import re

import pytest

from experiments import __main__ as experiments
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


def record(metric, value, member=None, seed=0, stage="train"):
    return {"member": member, "seed": seed, "stage": stage, "metric": metric, "value": value}


RECORDS = [
    record("bound", -101.1, seed=0),
    record("log_likelihood", -95.0, seed=0, stage=None),
    record("bound", -101.5, seed=1),
    record("log_likelihood", -97.0, seed=1, stage=None),
]


def write_result(folder, **changes):
    result = {
        "experiment": "vae_mnist",
        "config": {"latent": 20},
        "metrics": RECORDS,
        "data": [{"name": "mnist", "split": "train", "origin": "official"}],
        "cost": {"wall_seconds": 90.0, "command": "python -m experiments.vae_mnist --seeds 2"},
        "hardware": {"devices": "1 x CPU", "cores": 2},
        "versions": {"jax": "0.10.2"},
        "commit": "abc",
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(result))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setattr(_results, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_the_readme_s_row_is_of_the_default_configuration_s_first_claim(folder):
    # -101.3 is their mean, and 0.4 / sqrt(2) their deviation.
    write_result(folder / "vae_mnist-latent=2", config={"latent": 2})
    write_result(folder / "vae_mnist")
    _, _, *found = _pages.table(_results.results()).splitlines()
    (row,) = [row for row in found if "[vae_mnist]" in row]
    assert row == (
        "| [vae_mnist](experiments/results/vae_mnist) | bound with 20 dimensions reaches "
        "others' (nats) | −104 | −101.30 ± 0.28 | reached |"
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


def test_all_claims_stand_beside_their_sources(folder):
    write_result(folder / "vae_mnist", metrics=[record("bound", -104.5)])
    write_result(folder / "vae_mnist-latent=2", config={"latent": 2})
    write_result(folder / "vae_mnist-latent=7", config={"latent": 7})
    text = _pages.all_claims(_results.results())
    assert (
        "| −104 (measured elsewhere: Adam, real-valued pixels, 20 epochs) | −104.5 | missed" in text
    )
    variant = text[text.index("Variant `latent=2`:") :]
    assert "| −152 (measured elsewhere: Adam, real-valued pixels, 13 epochs) | −101.30" in variant
    assert "No claim is about `latent=7`: not in the paper." in text


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
        "- data: mnist train (official)",
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


def test_members_and_stages_are_rows_and_metrics_columns(folder):
    metrics = [
        record("error", 0.25, member="a", stage="layer"),
        record("hits", 3.0, member="a", stage="classifier"),
        record("loss", 0.5, member="a", stage="classifier"),
        record("hits", 4.0, member="b", stage="classifier"),
    ]
    write_result(folder / "vae_mnist", metrics=metrics)
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "| metric | a layer |\n| --- | --- |\n| `error` | 0.25 |\n" in text
    assert (
        "| member | stage | `hits` | `loss` |\n| --- | --- | --- | --- |\n"
        "| a | classifier | 3 | 0.5 |\n| b | classifier | 4 |  |\n"
    ) in text


def test_many_metrics_stand_below_each_other(folder):
    metrics = [record(f"m{i}", float(i), member=member) for member in "ab" for i in range(7)]
    write_result(folder / "vae_mnist", metrics=metrics)
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "| metric | a | b |\n| --- | --- | --- |\n| `m0` | 0 | 0 |\n| `m1` | 1 | 1 |\n" in text


def test_the_table_needs_its_place():
    with pytest.raises(_results.ResultsError, match="expected one line"):
        _pages.with_table("a page without marks", "table")


@pytest.mark.parametrize(
    ("name", "origin"), [("mnist", "imitation"), ("given arrays", "user"), ("mnist", "user")]
)
def test_data_that_are_not_real_are_refused(folder, tmp_path, name, origin):
    data = [{"name": name, "split": "train", "origin": origin}]
    write_result(tmp_path / "run", data=data)
    with pytest.raises(_results.ResultsError, match=f"on {name} of origin '{origin}'"):
        _results.collect(tmp_path / "run", "run")
    assert not folder.exists()
    write_result(folder / "vae_mnist", data=data)
    with pytest.raises(_results.ResultsError, match=f"origin '{origin}'"):
        _results.results()


def test_a_folder_of_another_experiment_s_name_is_refused(folder):
    write_result(folder / "vae_mnist_study")
    with pytest.raises(
        _results.ResultsError, match="holds results of vae_mnist; expected a folder"
    ):
        _results.results()


def test_collect_takes_metrics_and_figures_and_leaves_the_notes(folder, tmp_path, capsys):
    workdir = tmp_path / "vae_mnist"
    assert experiments.main(["collect", str(workdir)]) == 1
    assert "no metrics.json" in capsys.readouterr().err
    write_result(workdir)
    (workdir / "figures").mkdir()
    (workdir / "figures" / "bound.png").write_bytes(b"picture")
    (folder / "vae_mnist").mkdir(parents=True)
    (folder / "vae_mnist" / "old.png").write_bytes(b"old")
    (folder / "vae_mnist" / "notes.md").write_text("words")
    assert experiments.main(["collect", str(workdir)]) == 0
    assert _pages.COMMAND in capsys.readouterr().out
    kept = sorted(path.name for path in (folder / "vae_mnist").iterdir())
    assert kept == ["bound.png", "metrics.json", "notes.md"]
    assert (folder / "vae_mnist" / "notes.md").read_text() == "words"


def test_files_that_a_run_read_are_known_by_their_names(folder, tmp_path):
    path = tmp_path / "vae_mnist" / "metrics.json"
    config = {"weights": "/home/someone/vgg16.pth", "train": "train", "sides": [8, 9.5]}
    command = "python -m experiments.vae_mnist --weights /home/someone/vgg16.pth"
    write_result(path.parent, config=config, cost={"wall_seconds": 1.0, "command": command})
    experiments.main(["collect", str(path.parent)])
    text = (folder / "vae_mnist" / "metrics.json").read_text()
    assert text == path.read_text().replace("/home/someone/", "")
    assert json.loads(text)["config"] == config | {"weights": "vgg16.pth"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "5", '{"metrics": []}'])
def test_what_is_no_result_is_one_line(folder, tmp_path, capsys, content):
    for where in (folder / "vae_mnist", tmp_path / "vae_mnist"):
        where.mkdir(parents=True)
        (where / "metrics.json").write_text(content)
    for verb in (["collect", str(tmp_path / "vae_mnist")], ["list"], ["write"]):
        assert experiments.main(verb) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "vae_mnist/metrics.json" in line
        assert "remove it" in line or "collect it again" in line
    assert (folder / "vae_mnist" / "metrics.json").read_text() == content


@pytest.mark.parametrize("name", ["run", "../vae_mnist", "vae_mnist_study", ""])
def test_collect_takes_nothing_under_another_name(folder, tmp_path, name):
    write_result(tmp_path / "vae_mnist")
    (tmp_path / "vae_mnist" / "mine.png").write_bytes(b"a user's")
    with pytest.raises(_results.ResultsError, match="results of vae_mnist; expected a folder of"):
        _results.collect(tmp_path / "vae_mnist", name)
    assert (tmp_path / "vae_mnist" / "mine.png").exists()
    assert not folder.exists()


def test_a_picture_that_cannot_be_copied_costs_no_old_one(folder, tmp_path):
    write_result(tmp_path / "vae_mnist")
    (tmp_path / "vae_mnist" / "figures" / "bound.png").mkdir(parents=True)
    (folder / "vae_mnist").mkdir(parents=True)
    (folder / "vae_mnist" / "old.png").write_bytes(b"old")
    assert experiments.main(["collect", str(tmp_path / "vae_mnist")]) == 1
    assert (folder / "vae_mnist" / "old.png").read_bytes() == b"old"


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
    assert mnist.endswith("[results: latent=2 mnist train (official)]")
    (digits,) = (line for line in lines if line.startswith("vae_digits"))
    assert digits.endswith("[no results yet]")


def of_seed(seed, **changes):
    """What a result of one seed holds, in place of `write_result`'s."""
    config = {"latent": 20, "hidden": 500, "seed": seed}
    records = [{**record("bound", -100.0 - seed), "seed": seed}]
    made = {"config": config, "metrics": records, "commit": f"c{seed}"}
    cost = {"wall_seconds": 60.0, "command": f"run --seed {seed}"}
    return made | {"cost": cost} | changes


def test_a_run_of_another_seed_joins_the_results(folder, tmp_path, capsys):
    target, workdir = folder / "vae_mnist", tmp_path / "vae_mnist"
    write_result(target, **of_seed(0))
    (target / "bound.png").write_bytes(b"of the first seed")
    (workdir / "figures").mkdir(parents=True)
    (workdir / "figures" / "bound.png").write_bytes(b"of another")
    # An option that is newer than the kept run has its default here.
    config = {"latent": 20, "hidden": 500, "seed": 1, "optimizer": "adam"}
    for seed in (1, 2):
        write_result(workdir, **of_seed(seed, config=config))
        assert experiments.main(["collect", str(workdir), "--add"]) == 0
    assert _pages.COMMAND in capsys.readouterr().out
    found = json.loads((target / "metrics.json").read_text())
    assert [(r["seed"], r["value"]) for r in found["metrics"]] == [(0, -100), (1, -101), (2, -102)]
    assert found["config"]["seed"] == 0
    assert found["commit"] == ["c0", "c1", "c2"]
    assert found["cost"]["wall_seconds"] == 180
    assert [*found["cost"]["members"]] == ["seed=0", "seed=1", "seed=2"]
    assert found["cost"]["command"] == "run --seed 0\nrun --seed 1\nrun --seed 2"
    assert len(found["data"]) == 1
    assert (target / "bound.png").read_bytes() == b"of the first seed"
    text = _pages.page("vae_mnist", _results.results()["vae_mnist"])
    assert "seeds: 0, 1, 2" in text
    assert "commit c0, c1, c2" in text
    assert "−101.0 ± 1.0" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"latent": 10, "hidden": 500, "seed": 1}}, "has latent 20, the run 10; expect"),
        (
            {"config": {"latent": 20, "hidden": 500, "optimizer": "adagrad", "seed": 1}},
            "has optimizer 'adam', the run 'adagrad'; expected runs that differ in seeds, or in",
        ),
        (of_seed(0), "has seed=0, the run seed=0; expected other seeds, such as --seed 1, or"),
    ],
)
def test_other_runs_do_not_join(folder, tmp_path, changes, message):
    write_result(folder / "vae_mnist", **of_seed(0))
    before = (folder / "vae_mnist" / "metrics.json").read_text()
    write_result(tmp_path / "vae_mnist", **of_seed(1, **changes))
    with pytest.raises(_results.ResultsError, match=message):
        _results.collect(tmp_path / "vae_mnist", "vae_mnist", add=True)
    assert (folder / "vae_mnist" / "metrics.json").read_text() == before


def of_methods(seed, **methods):
    """A result of detectors_study: {method: AP50}."""
    records = [
        {**record(metric, value, member=method), "seed": seed}
        for method, ap50 in methods.items()
        for metric, value in {"test/ap50": ap50, "test/seconds": 1.5}.items()
    ]
    config = {"methods": [*methods], "epochs": [3.0] * len(methods), "dataset": "bccd"}
    members = {method: {"wall_seconds": 60.0} for method in methods}
    return {
        "experiment": "detectors_study",
        "config": {**config, "seed": seed},
        "metrics": records,
        "cost": {"wall_seconds": 60.0 * len(methods), "members": members, "command": "run"},
    }


def test_members_of_a_study_join_the_results_and_are_drawn_together(folder, tmp_path):
    target, workdir = folder / "detectors_study", tmp_path / "detectors_study"
    write_result(target, **of_methods(0, sppnet=0.5, fast_rcnn=0.6))
    (target / "precision_and_time.png").write_bytes(b"of two methods")
    for made in (of_methods(0, joint=0.7), of_methods(1, sppnet=0.7, fast_rcnn=0.6, joint=0.5)):
        write_result(workdir, **made)
        _results.collect(workdir, "detectors_study", add=True)
    found = json.loads((target / "metrics.json").read_text())
    assert found["config"]["methods"] == ["sppnet", "fast_rcnn", "joint"]
    assert found["config"]["epochs"] == [3.0, 3.0, 3.0]
    assert {(r["member"], r["seed"]): r["value"] for r in found["metrics"][::2]} == {
        ("sppnet", 0): 0.5, ("fast_rcnn", 0): 0.6, ("joint", 0): 0.7,
        ("sppnet", 1): 0.7, ("fast_rcnn", 1): 0.6, ("joint", 1): 0.5,
    }  # fmt: skip
    assert found["cost"]["wall_seconds"] == 360
    assert [*found["cost"]["members"]] == [
        f"{method}/seed={seed}" for seed in (0, 1) for method in ("sppnet", "fast_rcnn", "joint")
    ]
    assert (target / "precision_and_time.png").read_bytes().startswith(b"\x89PNG")
    assert _results._means(found)["sppnet"]["test/ap50"] == pytest.approx(0.6)


def test_members_that_are_there_do_not_join_again(folder, tmp_path):
    write_result(folder / "detectors_study", **of_methods(0, sppnet=0.5, fast_rcnn=0.6))
    write_result(tmp_path / "detectors_study", **of_methods(1, fast_rcnn=0.6))
    with pytest.raises(_results.ResultsError, match="has epochs"):
        _results.collect(tmp_path / "detectors_study", "detectors_study", add=True)
    write_result(tmp_path / "detectors_study", **of_methods(0, fast_rcnn=0.6, joint=0.7))
    there = "has sppnet seed=0, fast_rcnn seed=0, the run fast_rcnn seed=0, joint seed=0"
    with pytest.raises(_results.ResultsError, match=there):
        _results.collect(tmp_path / "detectors_study", "detectors_study", add=True)


def test_nothing_joins_where_nothing_is(folder, tmp_path):
    write_result(tmp_path / "vae_mnist", **of_seed(1))
    with pytest.raises(_results.ResultsError, match=r"holds no metrics\.json"):
        _results.collect(tmp_path / "vae_mnist", "vae_mnist", add=True)
    assert not folder.exists()
