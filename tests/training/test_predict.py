"""What is asked of a trained run on the command line: predict, and verbs of its own."""

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxstruct.training import Experiment, RunError, Study, restore
from jaxstruct.training.predictions import Predictions
from tests.training import tiny
from tests.training.one_stage import Config, small


def test_predict_samples(call, place, trained):
    status, out, _ = call("predict", "--workdir", trained)
    assert (status, out) == (0, "predictions/samples.png\n")
    record = json.loads((place / "predictions/samples.json").read_text())
    assert record == {"image": None, "drawn": float(jax.random.normal(jax.random.key(0)))}
    assert Image.open(place / "predictions/samples.png").size[0] > 0
    call("predict", "--workdir", trained, "--sample-seed", "1", "--out", "more")
    assert json.loads((place / "more/samples.json").read_text())["drawn"] != record["drawn"]


def test_predict_takes_the_configuration_of_the_workdir(call, place):
    assert call("--rate", "0.2", "--workdir", "x", make=small)[0] == 0
    assert call("predict", "--workdir", "x", make=small)[0] == 0
    config = json.loads((place / "x/config.json").read_text())
    config["config"]["gone"] = 1
    (place / "x/config.json").write_text(json.dumps(config))
    status, _, err = call("predict", "--workdir", "x", make=small)
    assert status == 1
    assert "'gone'" in err


def test_predict_of_images(call, place, trained):
    images = place / "images"
    (images / "more").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.full((4, 6), 32896, np.uint16)
    Image.new("L", (6, 4), 100).save(images / "grey.png")
    Image.fromarray(deep).save(images / "deep.png")
    Image.new("RGBA", (6, 4), (0, 0, 0, 0)).save(images / "clear.png")
    Image.new("RGB", (6, 4), "red").quantize(2).save(images / "palette.png")
    Image.new("RGB", (6, 4), (10, 20, 30)).save(images / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), "white").save(images / "dot.png")
    Image.new("L", (4000, 3000), 9).save(images / "large.png")
    Image.new("L", (3, 2), 50).save(images / "more" / "grey.png")
    Image.new("L", (3, 2), 51).save(images / "grey.bmp")
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(noise).save(images / "broken.png")
    (images / "broken.png").write_bytes((images / "broken.png").read_bytes()[:600])
    files = [
        "grey.png",
        "broken.png",
        "deep.png",
        "clear.png",
        "missing.png",
        "palette.png",
        "turned.jpg",
        "dot.png",
        "large.png",
        "more/grey.png",
        "grey.bmp",
    ]
    status, out, err = call(
        "predict", "--workdir", trained, "--out", "out", "--images", *(images / f for f in files)
    )
    assert status == 1
    first, second = err.splitlines()
    assert first.startswith(f"skipped: {images / 'broken.png'} is not an image")
    assert second.startswith(f"skipped: {images / 'missing.png'} does not exist")
    records = {}
    for line in out.splitlines():
        target = place / line
        assert Image.open(target).size[0] > 0
        record = json.loads(target.with_suffix(".json").read_text())
        records[str(Path(record["image"]).relative_to(images))] = record
    assert list(records) == [f for f in files if f not in ("broken.png", "missing.png")]
    assert len(list((place / "out").iterdir())) == 2 * len(records)
    expected = {
        "grey.png": ([4, 6, 3], 100),
        "deep.png": ([4, 6, 3], 128),
        "clear.png": ([4, 6, 3], 255),
        "palette.png": ([4, 6, 3], 85),
        "turned.jpg": ([6, 4, 3], 20),
        "dot.png": ([1, 1, 3], 255),
        "large.png": ([3000, 4000, 3], 9),
        "more/grey.png": ([2, 3, 3], 50),
        "grey.bmp": ([2, 3, 3], 51),
    }
    for name, (shape, mean) in expected.items():
        assert records[name]["shape"] == shape
        assert records[name]["mean"] == pytest.approx(mean, abs=2)
    status, _, err = call("predict", "--workdir", trained, "--images", images / "dot.png")
    assert (status, err) == (0, "")


def test_class_maps_become_index_pngs_and_all_records_one_file(call, place):
    labels = np.array([[0, 1, 2], [255, 1, 3]], np.uint8)

    def experiment(config: Config) -> Experiment:
        def predict(key, state, image):
            array = np.asarray if image.shape[0] == 4 else jnp.asarray
            return {"boxes": [[0, 0, 1, 1]], "class_map": array(labels)}, Figure(figsize=(1, 1))

        def collect(records):
            found = [[r["image"], r["boxes"], int(r["class_map"].max())] for r in records]
            return {"detections.json": found}

        colors = np.array([[9, 9, 9], [200, 0, 0]], np.uint8)
        made = dataclasses.replace(small(config), predict=predict, collect=collect, colors=colors)
        return made

    assert call("--workdir", "x", make=experiment)[0] == 0
    for name, height in (("a.png", 4), ("b.png", 5)):
        Image.new("L", (6, height), 100).save(place / name)
    command = ("predict", "--workdir", "x", "--out", "out", "--images", "a.png", "b.png")
    status, out, _ = call(*command, make=experiment)
    assert status == 0
    assert out.split() == ["out/a.png", "out/b.png", "out/detections.json"]
    record = json.loads((place / "out/b.json").read_text())
    assert record == {
        "image": "b.png",
        "boxes": [[0, 0, 1, 1]],
        "class_map": "b-class_map.png",
    }
    np.testing.assert_array_equal(np.asarray(Image.open(place / "out/a-class_map.png")), labels)
    with Image.open(place / "out/b-class_map.png") as opened:
        assert (opened.mode, opened.size) == ("P", (3, 2))
        np.testing.assert_array_equal(np.asarray(opened), labels)
        palette = np.array(opened.getpalette()).reshape(-1, 3)
    # The experiment's colours, then VOC's: 2 is dark green, 3 olive, void a pale pink.
    assert palette[[0, 1, 2, 3, 255]].tolist() == [
        *([9, 9, 9], [200, 0, 0], [0, 128, 0], [128, 128, 0], [224, 224, 192])
    ]
    together = json.loads((place / "out/detections.json").read_text())
    assert together == [[name, [[0, 0, 1, 1]], 255] for name in ("a.png", "b.png")]


def test_predict_of_the_best_checkpoint(call, place, trained):
    status, _, err = call("predict", "--workdir", trained, "--checkpoint", "best")
    assert status == 0
    best = restore(tiny.experiment, trained, which="best").state
    assert err == f"note: the best checkpoint is that of stage 'second', step {int(best.step)}\n"
    status, _, err = call("predict", "--workdir", trained, "--checkpoint", "worst")
    assert status == 2
    assert len(err.splitlines()) == 1


def test_predict_does_not_write_over_the_image_it_was_given(call, place, trained):
    Image.new("L", (6, 4), 100).save(place / "a.png")
    before = (place / "a.png").read_bytes()
    status, out, _ = call("predict", "--workdir", trained, "--out", ".", "--images", "a.png")
    assert (status, out) == (0, "a-2.png\n")
    assert (place / "a.png").read_bytes() == before
    assert json.loads((place / "a-2.json").read_text())["image"] == "a.png"


def test_predict_replaces_no_file(call, place, trained):
    for name in ("a", "b"):
        Image.new("L", (6, 4), 100).save(place / f"{name}.jpg")
    (place / "a.png").write_bytes(b"a user's")
    (place / "b.json").write_bytes(b"a user's")
    (place / "samples.png").symlink_to("nowhere")
    before = {f: f.read_bytes() for f in place.iterdir() if f.exists()}
    command = ("predict", "--workdir", trained, "--out", ".")
    for number in (2, 3):
        status, out, _ = call(*command, "--images", "a.jpg", "b.jpg")
        assert (status, out.split()) == (0, [f"a-{number}.png", f"b-{number}.png"])
        assert json.loads((place / f"a-{number}.json").read_text())["image"] == "a.jpg"
    assert call(*command)[1] == "samples-2.png\n"
    assert {f: f.read_bytes() for f in before} == before
    assert not (place / "nowhere").exists()


def test_two_calls_at_once_replace_nothing_of_each_other(tmp_path):
    """Each writes while the other has found the name free, and has written nothing yet."""
    both = threading.Barrier(2, timeout=60)

    class Slow:
        def __init__(self, text):
            self.text = text

        def savefig(self, path):
            both.wait()
            path.write_text(self.text)

    def call(name):
        written = Predictions(tmp_path)
        path = written.add(Path("a.jpg"), {"by": name}, Slow(name))
        written.collect(lambda records: {"all.txt": [r["by"] for r in records]})
        return path

    with ThreadPoolExecutor(2) as pool:
        paths = dict(zip("12", pool.map(call, "12"), strict=True))
    assert sorted(path.name for path in paths.values()) == ["a-2.png", "a.png"]
    for name, path in paths.items():
        assert path.read_text() == name
        assert json.loads(path.with_suffix(".json").read_text())["by"] == name
    found = [json.loads((tmp_path / name).read_text()) for name in ("all.txt", "all-2.txt")]
    assert sorted(found) == [["1"], ["2"]]


def test_a_picture_that_fails_leaves_its_name_free(tmp_path):
    class Failing:
        def savefig(self, path):
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        Predictions(tmp_path).add(Path("a.jpg"), {}, Failing())
    assert list(tmp_path.iterdir()) == []


def test_one_file_for_all_images_replaces_none(call, place):
    def experiment(config: Config) -> Experiment:
        collect = lambda records: {"all.json": len(records)}
        return dataclasses.replace(small(config), collect=collect)

    assert call("--workdir", "x", make=experiment)[0] == 0
    for name in ("all.json", "all-2.json"):
        _, out, _ = call("predict", "--workdir", "x", "--out", "out", make=experiment)
        assert out.split()[-1] == f"out/{name}"
        assert json.loads((place / "out" / name).read_text()) == 1


def test_predict_that_cannot_be(call, place, trained):
    status, out, err = call("predict")
    assert (status, out) == (1, "")
    assert err == "error: no run in runs/tiny: train first, or name its folder with --workdir\n"
    assert list(place.iterdir()) == []
    (place / "file").touch()
    status, _, err = call("predict", "--workdir", trained, "--out", "file/out")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "file/out" in err
    status, _, err = call("predict", "--workdir", trained, "--member", "seed=0")
    assert status == 2
    assert "--member" in err


def test_a_verb_of_its_own(call, place, trained):
    status, out, err = call("scaled", "--by", "10", "--workdir", trained)
    assert status == 0, err
    records = json.loads((trained / "metrics.json").read_text())["metrics"]
    (error,) = (r["value"] for r in records if (r["stage"], r["metric"]) == ("second", "error"))
    assert out == f"scaled {10 * error}\n"
    _, out, _ = call("scaled", "--help")
    assert "--by FLOAT" in out
    status, _, err = call("scaled", "--bye", "10")
    assert status == 2
    assert "unknown option --bye; did you mean --by?" in err
    status, _, err = call("scaled")
    assert status == 1
    assert "train first" in err


@dataclass(frozen=True)
class Copy:
    source: Path  # what is copied
    times: int = 1  # how often


def without_stages(config: Config) -> Experiment:
    def copy(arguments, run):
        print(*[arguments.source] * arguments.times, run.state, run.metrics, config.rate)

    score = lambda states: {"rate": config.rate}
    return Experiment(config, score=score, commands={"copy": (Copy, copy)})


def test_a_verb_asks_for_what_has_no_default(call, place):
    status, out, err = call("copy", "--source", "a.png", "--times", "2", make=without_stages)
    assert (status, out) == (0, "a.png a.png None {} 0.1\n"), err
    assert list(place.iterdir()) == []
    status, out, err = call("copy", "--times", "2", make=without_stages)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "--source" in err
    _, out, _ = call("copy", "--help", make=without_stages)
    text = " ".join(out.replace("│", " ").split())
    for part in (
        "--source PATH what is copied (required)",
        "--times INT how often (default: 1)",
        "--rate FLOAT of Adam (default: 0.1)",
        "--member {None}|STR which experiment of a study",
        "--workdir {None}|PATH folder of the run",
    ):
        assert part in text, (part, text)
    status, _, err = call("predict", make=without_stages)
    assert (status, err) == (1, "error: this experiment has no predict; there is copy\n")


def test_an_argument_of_a_verb_must_not_be_called_as_an_option_is(call, place):
    @dataclass(frozen=True)
    class Again:
        rate: float = 1.0
        workdir: str = ""

    def make(config: Config) -> Experiment:
        return Experiment(config, commands={"again": (Again, lambda arguments, run: None)})

    status, _, err = call("again", "--workdir", "x", make=make)
    assert status == 2
    assert err.startswith("error: two options are named rate, workdir; rename the experiment's own")


def test_without_stages_a_verb_has_the_configuration_of_its_command(call, place):
    assert call("--workdir", "x", make=without_stages)[0] == 0
    there = ("copy", "--source", "a", "--workdir", "x")
    assert call(*there, make=without_stages)[1] == "a None {'rate': 0.1} 0.1\n"
    assert call(*there, "--rate", "0.5", make=without_stages)[1] == "a None {} 0.5\n"


def test_predict_of_a_study_of_one_member_needs_no_name(call, place):
    def made(config: Config) -> Study:
        return Study(config, {"alone": small(config)})

    assert call("--workdir", "x", make=made)[0] == 0
    status, out, err = call("predict", "--workdir", "x", make=made)
    assert status == 0, err
    assert "predictions" in out


def test_predict_of_seeds(call, place):
    status, _, err = call("--seeds", "2", "--seed", "3", "--workdir", "x", make=small)
    assert status == 0, err
    records = json.loads((place / "x/metrics.json").read_text())["metrics"]
    assert [record["seed"] for record in records] == [3, 4]
    for more in ((), ("--member", "seed=5"), ("--member", "nothing")):
        status, _, err = call("predict", "--workdir", "x", *more, make=small)
        assert status == 2
        assert "choose one with --member (seed=3, seed=4)" in err
        unknown = f", and not {more[1]}" if more else ""
        assert f"holds several runs{unknown}; choose" in err
        assert len(err.splitlines()) == 1
    seen = []

    def make(config: Config) -> Experiment:
        made = small(config)
        predict = lambda key, state, image: seen.append(state) or tiny.predict(key, state, image)
        return dataclasses.replace(made, predict=predict)

    for seed in (3, 4):
        assert call("predict", "--workdir", "x", "--member", f"seed={seed}", make=make)[0] == 0
        expected = restore(small(Config(seed=seed)), place / f"x/seed={seed}").state
        np.testing.assert_array_equal(seen[-1].params["w"], expected.params["w"])
    assert not np.array_equal(seen[0].params["w"], seen[1].params["w"])


def test_members_may_lie_behind_links(call, place):
    assert call("--seeds", "2", "--rate", "0.2", "--workdir", "x", make=small)[0] == 0
    (place / "big").mkdir()
    for member in ("seed=0", "seed=1"):
        (place / "x" / member).rename(place / "big" / member)
        (place / "x" / member).symlink_to(place / "big" / member)
    status, _, err = call("predict", "--workdir", "x", make=small)
    assert (status, "choose one with --member (seed=0, seed=1)" in err) == (2, True)
    status, _, err = call("predict", "--workdir", "x", "--member", "seed=1", make=small)
    assert (status, err) == (0, "")  # with the configuration of the run


def test_predict_of_a_study(call, place):
    @dataclass(frozen=True)
    class Sizes:
        rates: tuple[float, ...] = (0.1, 0.2)
        seed: int = 0

    def make(config):
        members = {f"rate={r}": small(Config(rate=r, seed=config.seed)) for r in config.rates}
        return Study(config, members)

    make.__annotations__ = {"config": Sizes}
    status, _, err = call("--workdir", "x", "--rates", "0.3", "0.4", make=make)
    assert status == 0, err
    status, _, err = call("predict", "--workdir", "x", make=make)
    assert status == 2
    assert "--member (rate=0.3, rate=0.4)" in err
    status, out, err = call("predict", "--workdir", "x", "--member", "rate=0.4", make=make)
    assert (status, out) == (0, "predictions/samples.png\n"), err
    status, _, err = call("--workdir", "y", "--rates", "0.3", "--seeds", "2", make=make)
    assert status == 0, err
    status, _, err = call("predict", "--workdir", "y", "--member", "rate=0.3/seed=1", make=make)
    assert status == 0, err
    # From Python, too: the configuration is the study's, not the member's.
    for folder, member, seed in (("x", "rate=0.4", 0), ("y", "rate=0.3/seed=1", 1)):
        found = restore(make, place / folder, member=member)
        assert found.config == Config(rate=float(member[5:8]), seed=seed)
        assert found.experiment.predict is not None
    with pytest.raises(RunError, match=r"member is 'rate=9', expected rate=0\.3, rate=0\.4"):
        restore(make, place / "x", member="rate=9")


def test_a_member_may_be_named_after_another_seed(call, place):
    def make(config: Config) -> Study:
        names = ("seed=7", "data_seed=8")
        return Study(config, {name: small(config) for name in names})

    assert call("--workdir", "x", make=make)[0] == 0
    for member in ("seed=7", "data_seed=8"):
        status, _, err = call("predict", "--workdir", "x", "--member", member, make=make)
        assert status == 0, err
        assert restore(make, place / "x", member=member).config == Config()


def test_predict_says_when_the_run_has_not_ended(call, place):
    assert call("--workdir", "x", make=small)[0] == 0
    _, _, err = call("predict", "--workdir", "x", make=small)
    assert err == ""
    (place / "x" / "metrics.json").unlink()
    status, _, err = call("predict", "--workdir", "x", make=small)
    assert status == 0
    assert err == "note: the run in x has not ended; this is stage 'train', step 5\n"
