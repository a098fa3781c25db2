"""The demonstration of the dense CRF: its command, its unaries, its strokes, and `refine`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import dense_crf_demo
from experiments.dense_crf_demo import PHOTOGRAPHS, SMOKE, Config, drawn, unary
from jaxstruct.training import main, run

ROOT = Path(__file__).parents[2]
WATER, DUCK, BLACK = (64, 128, 0), (0, 64, 0), (0, 0, 0)
SHAPE = (24, 30)


@pytest.fixture
def refine(tmp_path, monkeypatch, capsys):
    """`refine` in an empty folder: exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dense_crf_demo.py"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another

    def command(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(
                dense_crf_demo.experiment,
                smoke=SMOKE,
                arguments=["refine", *map(str, arguments)],
            )
        return caught.value.code, *capsys.readouterr()

    return command


def disk():
    """Where a duck is."""
    rows, columns = np.indices(SHAPE)
    return (rows - 11) ** 2 + (columns - 14) ** 2 < 49


def write_pair(folder):
    """A duck on water with noise, and a label map that is wrong and unknown around its border."""
    noise = np.random.default_rng(0).normal(0, 4, (*SHAPE, 3))
    colors = np.where(disk()[..., None], (200, 180, 160), (40, 60, 90))
    Image.fromarray((colors + noise).astype(np.uint8)).save(folder / "image.png")
    rows, columns = np.indices(SHAPE)
    labels = np.full((*SHAPE, 3), WATER, np.uint8)
    labels[(abs(rows - 12) < 8) & (abs(columns - 13) < 8)] = BLACK
    labels[(abs(rows - 10) < 6) & (abs(columns - 16) < 6)] = DUCK  # a corner of it is water
    Image.fromarray(labels).save(folder / "labels.png")
    return labels


@pytest.mark.slow
def test_the_command_scores_draws_and_gives_the_same_bits_again(tmp_path):
    command = [sys.executable, "-m", "experiments.dense_crf_demo", "--smoke"]
    answer = subprocess.run(
        [*command, "--workdir", str(tmp_path / "run")], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    results = json.loads((tmp_path / "run/metrics.json").read_text())
    records = results["metrics"]
    assert {record["member"] for record in records} == {"coffee"}
    metrics = {record["metric"]: record["value"] for record in records}
    assert metrics["accuracy"] > metrics["unary_accuracy"] + 0.1
    assert metrics["changed"] > 0.1
    assert metrics["free_energy_drop"] > 0.5
    assert "inference corrects noisy unaries (accuracy): ours 0." in answer.stderr
    (source,) = results["data"]
    assert (source["name"], source["split"]) == ("scikit-image", "coffee")
    assert source["origin"] == "package"
    assert results["cost"]["command"] == "python -m experiments.dense_crf_demo --smoke"
    pictures = {path.name for path in (tmp_path / "run/figures").iterdir()}
    assert pictures == {"refinement.png", "free_energy.png"}
    again = run(dense_crf_demo.experiment(SMOKE), tmp_path / "again")
    assert again.records == records
    assert again.metrics == {f"coffee/{name}": value for name, value in metrics.items()}
    for name in pictures:
        ours, theirs = (Image.open(tmp_path / f / "figures" / name) for f in ("run", "again"))
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_label_is_right_with_its_probability():
    labels = np.array([[0, 2], [255, 1]])
    image = np.zeros((2, 2, 3), np.uint8)
    p = np.exp(-np.asarray(unary(image, labels, 3, 0.7, Config(), color_model=False)))
    expected = [[[0.7, 0.15, 0.15], [0.15, 0.15, 0.7]], [[1 / 3, 1 / 3, 1 / 3], [0.15, 0.7, 0.15]]]
    np.testing.assert_allclose(p, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"probability 1.0, expected"):
        unary(image, labels, 3, 1.0, Config(), color_model=False)


def test_colors_tell_of_pixels_without_a_label():
    # Label 0 is dark, label 1 bright, of twice as many pixels; what is green is like neither.
    image = np.full((1, 8, 3), (20, 20, 20), np.uint8)
    image[0, 3:7], image[0, 7] = (220, 220, 220), (20, 220, 20)
    labels = np.array([[0, 255, 255, 1, 255, 1, 255, 255]])
    config = Config(filter="exact", evidence_xy=1000.0)
    costs = unary(image, labels, 2, 0.9, config, color_model=True)
    p = np.exp(-np.asarray(costs))[0, :, 0]
    # The floor of the density is a thousandth of what a pixel of this color gives.
    sure = 0.9 - 0.8 * 0.001 / 1.002
    np.testing.assert_allclose(p, [0.9, sure, sure, 0.1, 1 - sure, 0.1, 1 - sure, 0.5], atol=1e-5)
    near = Config(filter="exact", evidence_xy=0.5)
    far = np.exp(-np.asarray(unary(image, labels, 2, 0.9, near, color_model=True)))[0, :, 0]
    assert p[1] > far[1] > far[2] > 0.5


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_label_has_strokes_and_others_to_find(name):
    shape = (160, 240)
    strokes = PHOTOGRAPHS[name].values()
    given, held_out = (drawn(of, shape) for of in zip(*strokes, strict=True))
    for labels in (given, held_out):
        assert labels.shape == shape
        counts = [np.sum(labels == i) for i in range(len(strokes))]
        assert min(counts) >= 15
        assert np.sum(labels != 255) == sum(counts) < 0.1 * labels.size
    both = (given != 255) & (held_out != 255)
    assert both.sum() < 0.1 * np.sum(held_out != 255)


def test_strokes_are_lines_through_their_points():
    page = drawn(["0,50 100,50", "50,0 50,10 | 99,99 99,99"], (10, 20))
    assert (page[5] == 0).all()
    assert page[0, 10] == page[1, 10] == page[9, 19] == 1
    assert np.sum(page != 255) == 20 + 2 + 1


def test_refined_borders_are_those_of_the_image(refine, tmp_path):
    given = write_pair(tmp_path)
    wrong = np.any(given != np.where(disk()[..., None], DUCK, WATER), -1)
    assert wrong.mean() > 0.15
    status, out, err = refine(
        "--image", "image.png", "--labels", "labels.png", "--filter", "exact", "--sigma-xy", "8"
    )
    assert status == 0, err
    line, target, picture = out.splitlines()
    assert (target, picture) == ("labels-refined.png", "labels-refined-overlay.png")
    refined = np.asarray(Image.open(target))
    np.testing.assert_array_equal(refined, np.where(disk()[..., None], DUCK, WATER))
    unknown = np.all(given == BLACK, -1)
    changed = np.any(refined != given, -1) & ~unknown
    counts = f"{changed.sum()} of {np.sum(~unknown)} labelled pixels changed, {unknown.sum()} got a"
    assert line.startswith(counts)
    before, after = (float(x.replace(",", "")) for x in re.findall(r"(\S+) (?:to|nats)", line))
    assert before > after
    assert np.ptp(np.asarray(Image.open(picture).convert("L"))) > 50
    again = refine(
        "--image", "image.png", "--labels", "labels.png", "--filter", "exact", "--sigma-xy", "8"
    )
    assert again[0] == 0
    assert again[1].split()[-2:] == ["labels-refined-2.png", "labels-refined-2-overlay.png"]
    np.testing.assert_array_equal(np.asarray(Image.open("labels-refined-2.png")), refined)


def test_an_output_that_is_named_is_replaced_and_nothing_else(refine, tmp_path):
    write_pair(tmp_path)
    Path("a.png").write_text("an output of before")
    shutil.copy("labels.png", "a-overlay.png")
    before = Path("a-overlay.png").read_bytes()
    status, out, err = refine(
        *("--image", "image.png", "--labels", "a-overlay.png", "--output", "a.png"),
        *("--filter", "exact", "--iterations", "1"),
    )
    assert status == 0, err
    assert out.split()[-2:] == ["a.png", "a-overlay-2.png"]
    assert Image.open("a.png").size == SHAPE[::-1]
    assert Path("a-overlay.png").read_bytes() == before


def test_scribbles_in_a_palette_become_a_map_with_that_palette(refine, tmp_path):
    write_pair(tmp_path)
    index = np.zeros(SHAPE, np.uint8)
    index[11, 10:18], index[2, 3:27] = 7, 5
    scribbles = Image.fromarray(index)
    scribbles.putpalette([0] * 15 + [*WATER, 9, 9, 9, *DUCK])
    scribbles.save("scribbles.png")
    status, out, err = refine(
        *("--image", "image.png", "--labels", "scribbles.png", "--output", "made/duck.png"),
        *("--gt-prob", "0.9", "--color-model", "--filter", "exact", "--evidence-rgb", "30"),
        *("--iterations", "0"),  # the evidence of the scribbles alone
    )
    assert status == 0, err
    assert out.splitlines()[1:] == ["made/duck.png", "made/duck-overlay.png"]
    found = Image.open("made/duck.png")
    assert found.mode == "P"
    np.testing.assert_array_equal(np.asarray(found), np.where(disk(), 7, 5))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "--image"),
        (["--image", "image.png"], 2, "--labels"),
        (["--image", "image.png", "--labels", "labels.png", "--label", "x"], 2, "mean --labels?"),
        (["--image", "no.png", "--labels", "labels.png"], 1, "no.png does not exist"),
        (["--image", "image.png", "--labels", "no.png"], 1, "no.png does not exist"),
        (["--image", "text.png", "--labels", "labels.png"], 1, "text.png is not an image that"),
        (["--image", "image.png", "--labels", "text.png"], 1, "text.png is not an image that"),
        (["--image", "small.png", "--labels", "labels.png"], 1, "small.png has 5 x 4 pixels, lab"),
        (["--image", "small.png", "--labels", "small.png"], 1, "one label (0, 0, 255) beside"),
        (["--image", "image.png", "--labels", "image.png"], 1, "expected at most 255 labels"),
        (["--image", "image.png", "--labels", "labels.png", "--gt-prob", "1"], 1, "probability 1"),
        (["--image", "image.png", "--labels", "labels.png", "--output", "a.jpg"], 1, "a .png"),
        (
            ["--image", "image.png", "--labels", "labels.png", "--output", "image.png"],
            1,
            "name another --output",
        ),
        (
            ["--image", "image.png", "--labels", "labels.png", "--output", "text.png/a.png"],
            1,
            "cannot write text.png/a.png (",
        ),
    ],
)
def test_what_cannot_be_refined_is_one_line(refine, tmp_path, arguments, status, said):
    write_pair(tmp_path)
    Image.new("RGB", (5, 4), "blue").save("small.png")
    Path("text.png").write_text("no image")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found, out, err = refine(*arguments, "--filter", "exact", "--iterations", "1")
    assert (found, out) == (status, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
@pytest.mark.real_data("crf_demo")
def test_ducks(refine, real_data):
    """pydensecrf's sample: what is unknown in one of its annotations is annotated in the other."""
    folder = real_data / "crf_demo"
    status, out, err = refine(
        "--image", folder / "im1.png", "--labels", folder / "anno1.png", "--output", "ducks.png"
    )
    assert status == 0, err
    assert "8,512 got a label" in out
    ours, given, full = (
        np.asarray(Image.open(path).convert("RGB"))
        for path in ("ducks.png", folder / "anno1.png", folder / "anno1-b.png")
    )
    assert {tuple(color) for color in ours.reshape(-1, 3)} == {WATER, DUCK}
    known = given.any(-1)
    assert 0.01 < np.mean((ours != given).any(-1)[known]) < 0.05
    assert np.mean((ours == full).all(-1)[~known]) > 0.8
