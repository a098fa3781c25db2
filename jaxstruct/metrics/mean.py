"""A mean that stays a total and a count until the end.

The mean of batch means is wrong when the last batch is smaller, and a mean over devices is wrong
when they hold different numbers of valid examples; totals and counts add up in any grouping.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Mean(NamedTuple):
    """A total and the count it is to be divided by: two scalars, or two arrays of one shape."""

    total: Any
    count: Any

    @classmethod
    def of(cls, values: jax.Array, valid: jax.Array | None = None) -> Mean:
        """The mean of `values` [...] where `valid` (same shape, bool or 0/1); all without it.

        An invalid value is ignored whatever it is, NaN included. Raises ValueError when the
        shapes differ.
        """
        # In float32 at least: bool, integers and bfloat16 hold no total of many values.
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        if valid is None:
            return cls(jnp.sum(values), jnp.asarray(values.size, jnp.float32))
        if values.shape != valid.shape:
            raise ValueError(f"values {values.shape} and valid {valid.shape} must have one shape")
        return cls(jnp.sum(jnp.where(valid, values, 0)), jnp.sum(valid.astype(jnp.float32)))

    def add(self, other: Mean) -> Mean:
        """The mean over the examples of both."""
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> Any:
        """total / count; 0 where the count is 0."""
        some = self.count > 0
        return jnp.where(some, self.total / jnp.where(some, self.count, 1), 0)
