"""Finished runs become results: what is taken, what is refused, what joins."""

import json
import shlex

import pytest

from experiments import __main__ as experiments
from experiments import _pages, _results
from tests.experiments.written import record, write_result


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


PLACES = ["vgg16.pth", "/w/vgg16.pth", "../w/vgg16.pth", "~/my w/vgg16.pth"]


@pytest.mark.parametrize("here", PLACES)
@pytest.mark.parametrize("there", PLACES)
def test_weights_are_known_by_their_names_wherever_they_lay(folder, tmp_path, here, there):
    target, workdir = folder / "vae_mnist", tmp_path / "vae_mnist"
    read = {"weights": {"first": [{"file": "vgg16.pth", "sha256": "0"}]}}

    def write(place, seed, **changes):
        config = {"latent": 20, "hidden": 500, "optimizer": place, "seed": seed}
        command = shlex.join(["run", "--optimizer", place, "--seed", str(seed)])
        made = of_seed(seed, config=config, cost={"wall_seconds": 60.0, "command": command})
        write_result(workdir, **made, **changes)

    write(here, 0, **read)
    _results.collect(workdir, "vae_mnist")
    if here.startswith("~"):  # as it was collected before
        kept = json.loads((target / "metrics.json").read_text())
        kept["config"]["optimizer"] = here
        (target / "metrics.json").write_text(json.dumps(kept))
    write(there, 1)  # as of a study, whose members alone have read files
    about = {"experiment": "vae_mnist", "config": {}, "data": [], **read}
    (workdir / "seed=1").mkdir()
    (workdir / "seed=1" / "config.json").write_text(json.dumps(about))
    _results.collect(workdir, "vae_mnist", add=True)
    found = json.loads((target / "metrics.json").read_text())
    assert found["config"]["optimizer"] == "vgg16.pth"
    assert found["cost"]["command"] == (
        "run --optimizer vgg16.pth --seed 0\nrun --optimizer vgg16.pth --seed 1"
    )


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
