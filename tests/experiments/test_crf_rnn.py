"""A CRF as a layer behind a network: what it returns, and what each stage trains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _crf_rnn, crf_rnn
from experiments._crf_rnn import CRF, WithCRF
from experiments._segmenter_evaluation import Segmenter
from jaxstruct import data, models, ops
from jaxstruct.models import resnet
from jaxstruct.ops import dense_crf

NORMAL = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))


class Bright:
    """A network that takes bright pixels for class 1, half-heartedly."""

    def init(self, key, images):
        return {"params": {"head": {"gain": jnp.ones(())}}}

    def apply(self, variables, images):
        score = variables["params"]["head"]["gain"] * images.sum(-1)
        return jnp.stack([-score, score, 0 * score], -1)


def example(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (2, *size, 3)).astype(np.float32)
    image[:, : size[0] // 2] += 120
    mean, deviation = (np.array(x, np.float32) for x in NORMAL)
    return image, (image / 255 - mean) / deviation


def with_crf(shrink):
    constant = jax.nn.initializers.constant
    layer = models.CRFRNN(2, 8.0, 20.0, 2.0, constant(4.0), constant(2.0))
    return WithCRF(Bright(), layer, shrink, NORMAL)


def test_at_full_size_it_is_the_dense_crf_of_the_image():
    image, normalised = example((12, 16))
    model = with_crf(1)
    variables = model.init(jax.random.key(0), normalised)
    assert {part: [*x] for part, x in variables["params"].items()} == {
        "head": ["gain"],
        CRF: ["bilateral_weight", "gaussian_weight", "compatibility"],
    }
    found = jax.nn.softmax(jax.jit(model.apply)(variables, normalised))
    expected = dense_crf(
        -Bright().apply(variables, normalised), image, bilateral_weight=4.0, sigma_xy=8.0,
        sigma_rgb=20.0, gaussian_weight=2.0, sigma_gaussian=2.0, iterations=2,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_at_half_the_size_what_it_adds_is_interpolated():
    images, normalised = example((13, 15))  # of which squares of two leave a rest
    model = with_crf(2)
    variables = model.init(jax.random.key(0), normalised)
    network = Bright().apply(variables, normalised)
    whole = jax.jit(model.apply)(variables, normalised)
    added = whole - network
    assert added.shape == (2, 13, 15, 3)
    assert np.ptp(added) > 1
    coarse = _crf_rnn.shrunk(network, 2)
    assert coarse.shape == (2, 7, 8, 3)
    np.testing.assert_allclose(coarse[:, 1, 2], network[:, 2:4, 4:6].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(coarse[:, 6, 7], network[:, 12, 14], rtol=1e-5)
    crf = {"params": variables["params"][CRF]}
    refined = model.crf.apply(crf, coarse, _crf_rnn.shrunk(images, 2))
    expected = ops.resize_bilinear(refined - coarse, (14, 16))[:, :13, :15]
    np.testing.assert_allclose(added, expected, rtol=1e-3, atol=1e-4)


def test_each_stage_trains_its_part_and_begins_where_the_former_ended():
    with data.looking(imitations=True):
        network, crf, joint = crf_rnn.experiment(crf_rnn.SMOKE).stages
    key = jax.random.key(0)
    ended = jax.eval_shape(network.init, key, None)
    assert set(ended.params) == {"trunk", "head"}
    ones = lambda tree: jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), tree)
    ended = ended.replace(params=ones(ended.params), model_state=ones(ended.model_state))
    weights = crf.init(key, ended)
    assert set(weights.params) == {CRF}
    jax.tree.map(np.testing.assert_array_equal, weights.model_state["frozen"], ended.params)
    assert weights.params[CRF]["bilateral_weight"].tolist() == [3.0] * 11
    weights = weights.replace(params=jax.tree.map(lambda x: x + 1, weights.params))
    both = joint.init(key, weights)
    assert both.model_state["frozen"] == {}
    jax.tree.map(
        np.testing.assert_array_equal, both.params, {**ended.params, CRF: weights.params[CRF]}
    )
    first = _crf_rnn.fixed(
        _crf_rnn.with_crf(
            crf_rnn.SMOKE,
            Segmenter(network.init, (64, 64), NORMAL, ("a",) * 11, ("a",)),
            1,
        ),
        weights,
    )
    assert first.params[CRF]["bilateral_weight"].tolist() == [3.0] * 11
    assert first.params[CRF]["gaussian_weight"].tolist() == [1.0] * 11


def test_frozen_blocks_stay_frozen_when_all_is_trained():
    config = dataclasses.replace(crf_rnn.SMOKE, weights="a file", frozen=2)
    with data.looking(imitations=True):
        network, crf, joint = crf_rnn.experiment(config).stages
    begin = lambda key: network.init(key, None)
    ended = jax.eval_shape(begin, jax.random.key(0))
    frozen = [*ended.model_state["frozen"]["trunk"]]
    assert frozen
    last = jax.eval_shape(lambda key: joint.init(key, crf.init(key, begin(key))), jax.random.key(0))
    assert [*last.model_state["frozen"]["trunk"]] == frozen
    assert {*last.params} == {"trunk", "head", CRF}


def test_parts_have_rates_of_their_own_which_fall_to_0():
    config = dataclasses.replace(crf_rnn.SMOKE, crf_rate=0.1, joint_rate=0.01, trunk_rate=0.5)
    optimizer = _crf_rnn.optimizer_of(config, 2)
    params = {part: {"x": jnp.zeros(1)} for part in ("trunk", "head", CRF)}
    gradients, state = jax.tree.map(jnp.ones_like, params), optimizer.init(params)
    moved = []
    for _ in range(3):
        updates, state = optimizer.update(gradients, state, params)
        moved.append({part: float(x["x"][0]) for part, x in updates.items()})
    assert moved[0] == pytest.approx({"trunk": -0.005, "head": -0.01, CRF: -0.1}, rel=1e-3)
    assert moved[1][CRF] == pytest.approx(-0.1 * 0.5**0.9, rel=1e-3)
    assert moved[2] == pytest.approx(dict.fromkeys(moved[2], 0.0))
