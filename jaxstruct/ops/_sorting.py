"""Sorting by scores and by classes, on a CPU by the digits of single integers.

What may be added: another key to sort by.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxstruct.ops._arrays import take, vary


def descending(scores: jax.Array, usable: jax.Array) -> jax.Array:
    """Unsigned integers that ascend as the scores descend: NaN first, what is not usable last."""
    bits = 8 * scores.dtype.itemsize
    unsigned = jnp.dtype(f"uint{bits}")
    # The two zeros are equal.
    word = lax.bitcast_convert_type(jnp.where(scores == 0, 0, scores), unsigned)
    sign = np.array(1 << (bits - 1), unsigned)
    ascending = jnp.where(word >= sign, ~word, word | sign)
    descending = jnp.where(jnp.isnan(scores), 0, ~ascending)
    return jnp.where(usable, descending, np.array(np.iinfo(unsigned).max, unsigned))


def order(words: Sequence[jax.Array], radix: bool) -> jax.Array:
    """The stable permutation that sorts by the words, the first of which counts most."""
    count = words[0].shape[0]
    iota = jnp.arange(count, dtype=jnp.int32)
    if not radix or any(word.dtype != jnp.uint32 for word in words):
        return lax.sort((*words, iota), num_keys=len(words), is_stable=True)[-1]
    # XLA sorts a single int32 on the CPU five times faster than a key with an index beside it. So a
    # digit stands above the position in one int32, and passes go from the lowest digit to the top.
    low = max(1, (count - 1).bit_length())
    digits = 32 - low
    positions, _ = vary(iota, words[0])
    for place, word in enumerate(reversed(words)):
        for shift in range(0, 32, digits):
            digit = (word >> shift) & np.uint32(2 ** min(digits, 32 - shift) - 1)

            def step(positions: jax.Array, digit: jax.Array) -> jax.Array:
                packed = (take(digit, positions) << low) | iota.astype(jnp.uint32)
                ascending = lax.bitcast_convert_type(packed ^ np.uint32(1 << 31), jnp.int32)
                return take(positions, lax.sort(ascending) & np.int32(2**low - 1))

            # Of labels most digits are the same for all; of scores they are not, and in a set so
            # small that it is sorted in microseconds, asking costs as much.
            if place:
                same = jnp.all(digit == digit[:1])
                positions = lax.cond(same, lambda positions, _: positions, step, positions, digit)
            else:
                positions = step(positions, digit)
    return positions
