"""A dense CRF behind a segmenter: the search for its parameters, crf.json, what it changes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import _deeplab_scores, _segmenter_crf
from experiments._segmenter_crf import CRF, SearchCRF, Seen
from experiments._segmenter_evaluation import Segmenter
from jaxstruct.ops import dense_crf
from jaxstruct.training import RunError

SEGMENTER = Segmenter(None, (24, 24), ((0.0,), (1.0,)), ("dark", "bright"), ("dark", "bright"))
NOTHING = CRF(0.0, 8.0, 20.0, 0.0, 30.0, 3)
GOOD = NOTHING._replace(bilateral_weight=5.0)
BLIND = NOTHING._replace(gaussian_weight=50.0)
"""It sees no colours, and makes one class of all pixels. Equal deviations share a program."""


def noisy(seed):
    """A bright corner of an image, and logits that are wrong in some pixels."""
    rng = np.random.default_rng(seed)
    class_map = np.zeros((24, 24), np.uint8)
    class_map[10:, 8:] = 1
    image = np.repeat((40 + 150 * class_map)[..., None], 3, -1).astype(np.uint8)
    score = 2.0 * class_map - 1 + 1.5 * rng.normal(size=class_map.shape)
    distance = np.full(class_map.shape, 9.0)
    distance[8:12, 6:] = 1
    class_map[0] = 255
    return Seen(image, np.stack([-score, score], -1).astype(np.float32), class_map, distance)


@pytest.fixture(scope="module")
def found():
    return _segmenter_crf.search(SEGMENTER, [noisy(0), noisy(1)], [BLIND, GOOD, NOTHING])


def test_the_search_finds_the_best_of_a_grid(found):
    best, tried = found
    assert best == GOOD
    by = {one.parameters: one for one in tried}
    assert by[GOOD].mean_iou > 0.95 > 0.8 > by[None].mean_iou > by[BLIND].mean_iou
    assert by[NOTHING][1:3] == by[None][1:3]
    assert by[None].mean_iou != by[None].mean_iou_near
    lines = _segmenter_crf.table(tried).splitlines()
    assert [line.endswith("<-") for line in lines] == [False, False, False, True, False, False]
    weights = {one.parameters.bilateral_weight for one in tried if one.parameters}
    assert GOOD.bilateral_weight == max(weights) > min(weights)
    expected = f"bilateral_weight {max(weights):g} is the end of what was tried: name larger ones"
    assert lines[-1].startswith(expected)
    between = _segmenter_crf.Tried(GOOD._replace(bilateral_weight=99.0), 0.0, 0.0, 0.0)
    assert len(_segmenter_crf.table([*tried, between]).splitlines()) == 6


def test_a_search_in_which_nothing_helps_says_so(found):
    _, tried = found
    harmful = [one for one in tried if one.parameters in (None, BLIND)]
    assert _segmenter_crf.table(harmful).endswith(
        "none of these helps: name others with search_crf"
    )
    with pytest.raises(ValueError, match="got 0 images and 1 parameters"):
        _segmenter_crf.search(SEGMENTER, [], [GOOD])


def test_an_image_of_another_size_is_continued_by_its_mirror_image():
    one = noisy(4)
    cut = one._replace(image=one.image[:12, :12], logits=one.logits[:12, :12])
    twice = lambda x: np.concatenate([x, x[:, ::-1]], 1)
    whole = lambda x: np.concatenate([twice(x), twice(x)[::-1]])
    expected = _segmenter_crf.refined(GOOD, whole(cut.logits), whole(cut.image))[:12, :12]
    found = _segmenter_crf.refined(GOOD, cut.logits, cut.image)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("weights", [(4.0, 0.0), (4.0, 2.0)])
def test_what_the_crf_makes_of_logits_are_the_marginals_of_dense_crf(weights):
    one = noisy(2)
    parameters = CRF(weights[0], 8.0, 20.0, weights[1], 30.0, 3)
    *values, iterations = parameters
    expected = dense_crf(
        -one.logits,
        one.image,
        iterations=iterations,
        **dict(zip(CRF._fields, values, strict=False)),
    )
    np.testing.assert_allclose(
        _segmenter_crf.refined(parameters, one.logits, one.image), expected, atol=1e-5
    )


def config(**own):
    grid = {
        "bilateral_weights": (1.0, 3.0), "sigmas_xy": (30.0,), "sigmas_rgb": (5.0, 8.0),
        "gaussian_weights": (0.0, 1.0), "sigmas_gaussian": (1.0, 3.0),
    }  # fmt: skip
    return SimpleNamespace(**grid | own, iterations=10)


def test_the_grid_is_that_of_the_run_but_for_what_the_verb_names():
    whole = _segmenter_crf.grid_of(config(), SearchCRF())
    assert len(whole) == len(set(whole)) == 2 * 2 * (1 + 2)  # one without a Gaussian kernel
    own = SearchCRF(sigma_xy=(7.0, 9.0), gaussian_weight=(0.0,))
    named = _segmenter_crf.grid_of(config(), own)
    assert {one.sigma_xy for one in named} == {7.0, 9.0}
    assert {one.gaussian_weight for one in named} == {0.0}
    assert len(named) == 2 * 2 * 2
    with pytest.raises(ValueError, match=r"--sigma-rgb is 0\.0, expected more than 0"):
        SearchCRF(sigma_rgb=(0.0,))


def test_what_was_found_is_read_again(found, tmp_path):
    best, tried = found
    assert _segmenter_crf.read(None) is None
    assert _segmenter_crf.read(tmp_path) is None
    _segmenter_crf.write(tmp_path, best, tried, "val", 2, 70)
    assert _segmenter_crf.read(tmp_path) == _segmenter_crf.read(tmp_path, 70) == best
    assert _segmenter_crf.read(tmp_path, 71) is None  # found for a network that learned on
    written = json.loads((tmp_path / "crf.json").read_text())
    assert (written["split"], written["images"], len(written["tried"])) == ("val", 2, 4)
    assert written["tried"][0]["network"] == "alone"
    written["parameters"]["iterations"] += 0.0  # as another program may write it
    (tmp_path / "crf.json").write_text(json.dumps(written))
    assert isinstance(getattr(_segmenter_crf.read(tmp_path), "iterations", None), int)


@pytest.mark.parametrize("metrics", [{}, {"test/mean_iou": 0.5}])
def test_a_search_says_whether_scores_are_of_another_crf(monkeypatch, capsys, tmp_path, metrics):
    monkeypatch.setattr(_deeplab_scores, "found_crf", lambda *given: GOOD)
    run = SimpleNamespace(workdir=tmp_path, state="a state", metrics=metrics)
    _deeplab_scores.search_crf(None, SEGMENTER, None, SearchCRF(), run)
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'crf.json'} has the best of these; predict reads it")
    assert ("remove metrics.json for new ones" in said) == bool(metrics)


def test_pictures_are_of_the_crf_that_was_scored():
    metrics = {f"crf/{name}": float(x) for name, x in GOOD._asdict().items()}
    found = _segmenter_crf.scored({**metrics, "crf/seconds": 0.5, "test/mean_iou": 0.5})
    assert found == GOOD
    assert isinstance(found.iterations, int)
    assert _segmenter_crf.scored({"test/mean_iou": 0.5}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is not the JSON file that a run writes \(.*\)"),
        ("[]", "has no parameters bilateral_weight, sigma_xy"),
        ('{"parameters": {"sigma_xy": 3}}', "has no parameters bilateral_weight, sigma_xy"),
        ({"sigma_rgb": 0}, ": sigma_rgb is 0, expected a number, more than 0"),
        ({"bilateral_weight": -1.0}, ": bilateral_weight is -1.0, expected a number, at least 0"),
        ({"iterations": 2.5}, ": iterations is 2.5, expected a whole number, at least 0"),
        ({"sigma_xy": "30"}, ": sigma_xy is '30', expected a number, more than 0"),
    ],
)
def test_a_broken_file_is_one_clear_line(content, message, tmp_path):
    if isinstance(content, dict):
        content = json.dumps({"parameters": GOOD._asdict() | content})
    (tmp_path / "crf.json").write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        _segmenter_crf.read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "crf.json"))
    assert str(caught.value).endswith("; remove it, and search_crf writes it again")
    assert "\n" not in str(caught.value)


def accuracy(counts):
    return np.trace(counts) / counts.sum()


def test_gains_are_those_of_all_images_and_their_error_is_the_jackknifes():
    # Of four images with ten pixels each, so many are right.
    counts = lambda right: np.array([[[n, 10 - n], [0, 0]] for n in right])
    before, after = counts([5, 6, 2, 9]), counts([7, 6, 6, 9])
    gain, error = _deeplab_scores.paired(accuracy, before, after)
    differences = np.array([0.2, 0.0, 0.4, 0.0])
    assert gain == pytest.approx(differences.mean())
    # For a mean, the jackknife's error is the standard error.
    assert error == pytest.approx(differences.std(ddof=1) / 2)
    assert _deeplab_scores.paired(accuracy, before[:1], after[:1]) == (pytest.approx(0.2), 0)
    assert _deeplab_scores.paired(accuracy, before, before) == (0, 0)


def test_the_names_of_what_is_compared():
    one = noisy(3)
    right = np.where(one.class_map == 255, 0, one.class_map)
    wrong = right.copy()
    wrong[12:16, 10:] = 0
    found = _deeplab_scores.compared(
        SEGMENTER,
        *(np.stack([_segmenter_crf.counted(one, x, 2, [1, 5])] * 2) for x in (right, wrong)),
        (1, 5),
    )
    assert found["test/mean_iou"] == found["test/mean_iou_5px"] == 1
    assert found["test_crf/mean_iou"] < 1 == found["test_crf/mean_iou_1px"]
    assert found["gain/mean_iou"] == found["test_crf/mean_iou"] - 1
    assert found["gain/mean_iou_error"] == pytest.approx(0, abs=1e-9)
    assert found["gain/iou/bright"] < found["gain/iou/dark"] < 0
    assert set(found) >= {
        "test/accuracy", "test_crf/iou/dark", "gain/mean_iou_1px", "gain/mean_iou_5px_error",
    }  # fmt: skip
    words = _deeplab_scores.summary(found)
    assert words.startswith(f"the CRF changes the mean IoU by {100 * found['gain/mean_iou']:+.2f}")
    assert "classes that lose: bright -" in words
    assert ", dark -" in words
    better = found | {"gain/iou/bright": 0.1, "gain/iou/dark": 0.0}
    assert _deeplab_scores.summary(better).endswith("classes that lose: none")


def test_the_claims_are_about_numbers_that_are_measured():
    from experiments import _deeplab

    one = noisy(3)
    counts = np.stack([_segmenter_crf.counted(one, one.logits.argmax(-1), 2, [5])] * 2)
    found = _deeplab_scores.compared(SEGMENTER, counts, counts, (5,))
    named = {
        reference.metric
        for claim in _deeplab.GAINS
        for reference in [*claim.values, *(x for order in claim.orders for x in order)]
    }
    assert named <= set(found)
    assert 5 in _deeplab.Config.bands
