"""Units that are dropped by each example's key: alike in any batch, unlike in any two layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments._dropout import by_example


class Twice(nn.Module):
    """What three layers leave of ones, the last one all."""

    @nn.compact
    def __call__(self, x, *, train):
        rates = 0.25, 0.25, 0.0
        return [nn.Dropout(rate, deterministic=not train)(x) for rate in rates]


def dropped(keys, train=True):
    ones = jnp.ones((len(keys), 20, 30))
    with nn.intercept_methods(by_example(keys)):
        return [np.asarray(x) for x in Twice().apply({}, ones, train=train)]


def test_an_example_drops_by_its_own_key():
    keys = jax.random.split(jax.random.key(0), 3)
    first, second, whole = dropped(keys)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.04)
    assert (first[0] != first[1]).any()
    assert (first != second).any()
    assert (whole == 1).all()
    for number, key in enumerate(keys):
        np.testing.assert_array_equal(dropped(key[None])[0][0], first[number])
    assert all((x == 1).all() for x in dropped(keys, train=False))
