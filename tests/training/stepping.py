"""Steps over global batches on any number of devices, for the tests of updates."""

import jax
import numpy as np

from jaxstruct.training import (
    parallel,
)

ALL = [1, 2, 8]


def run(update, state, batches, devices):
    """The state and terms {name: (total, count)} after some global batches, on NumPy."""
    call, stacked = parallel.Call(update, devices), parallel.stack(state, devices)
    told = []
    for batch in batches:
        stacked, terms = call(stacked, parallel.share(batch, devices))
        told.append({k: (float(m.total[0]), float(m.count[0])) for k, m in terms.items()})
        for m in terms.values():  # every device says the same
            assert len({float(x) for x in m.total}) == len({float(x) for x in m.count}) == 1
    # Every device holds the same state, to the bit.
    for x in jax.tree.leaves(stacked.replace(key=jax.random.key_data(stacked.key))):
        for copy in np.asarray(x):
            np.testing.assert_array_equal(copy, np.asarray(x)[0])
    return jax.tree.map(lambda x: np.asarray(x[0]), stacked.replace(key=0 * stacked.step)), told


def close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)
