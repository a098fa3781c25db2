"""What has to hold of every op: strict promotion of dtypes, arrays without examples or channels.

Tracing shows both; nothing is computed.
"""

import jax
import jax.numpy as jnp
import pytest

from jaxstruct import ops
from tests.ops.every_op import calls

CALLS = calls()
NAMES = [f"{call.op}-{i}" for i, call in enumerate(CALLS)]


def test_every_op_is_called():
    public = {name for name in ops.__all__ if callable(getattr(ops, name))}
    assert {call.op for call in CALLS} == public


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_strict_promotion_of_dtypes(call):
    with jax.numpy_dtype_promotion("strict"):
        out, pull = jax.eval_shape(call.f, *call.arrays), None
        if isinstance(out, jax.ShapeDtypeStruct) and jnp.issubdtype(out.dtype, jnp.floating):
            pull = lambda *arrays: jax.vjp(call.f, *arrays)[1](jnp.ones(out.shape, out.dtype))
            jax.eval_shape(pull, *call.arrays)


@pytest.mark.parametrize("kind", ["batch", "channels"])
def test_without_examples_or_channels(kind):
    empty = [call for call in calls(**{kind: 0}) if any(not x.size for x in call.arrays)]
    assert len(empty) > len(CALLS) / 2  # most ops have both
    for call in empty:
        try:
            out = jax.eval_shape(call.f, *call.arrays)
        except ValueError as error:
            said = str(error).splitlines()
            assert ["expected" in line for line in said] == [True], call.op
        else:
            assert not any(leaf.size for leaf in jax.tree.leaves(out)), call.op


def test_no_features():
    values = jnp.ones((5, 2))
    for filter in ("lattice", "exact"):
        with pytest.raises(ValueError, match=r"features has shape \(5, 0\), expected \[N, D\]"):
            ops.gaussian_filter(values, jnp.ones((5, 0)), filter=filter)
