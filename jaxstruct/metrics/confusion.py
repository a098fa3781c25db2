"""Which class was taken for which, and the numbers that a segmentation is judged by.

What may be added: another number that follows from the counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

VOID = 255  # of a class map: no label


class Confusion(NamedTuple):
    """Counts [C, C]: how many pixels of class i (row) were taken for class j (column)."""

    counts: Any

    @classmethod
    def of(
        cls,
        labels: jax.Array,
        predictions: jax.Array,
        classes: int,
        valid: jax.Array | None = None,
    ) -> Confusion:
        """The counts of class maps.

        Args:
            labels: integers [b, ...]; what is none of the classes (255, void) does not count.
            predictions: integers of the same shape, 0 to classes - 1.
            classes: C.
            valid: bool [b], the examples that count; all without it.

        Returns:
            float32 counts, exact up to 2^24 a cell.

        Raises:
            ValueError: other shapes.
        """
        if labels.shape != predictions.shape:
            raise ValueError(
                f"labels {labels.shape} and predictions {predictions.shape} must have one shape"
            )
        known = (labels >= 0) & (labels < classes)
        if valid is not None:
            if valid.shape != labels.shape[:1]:
                raise ValueError(f"got valid {valid.shape}, expected {labels.shape[:1]}")
            known &= valid.reshape(-1, *[1] * (labels.ndim - 1))
        rows, columns = labels.astype(jnp.int32), predictions.astype(jnp.int32)
        pairs = jnp.where(known, rows * classes + columns, classes**2).ravel()
        counts = jnp.bincount(pairs, length=classes**2 + 1)[:-1].astype(jnp.float32)
        return cls(counts.reshape(classes, classes))

    def occurs(self) -> np.ndarray:
        """Which classes some label has, bool [C], on the host."""
        return np.asarray(self.counts).sum(1) > 0

    def iou(self) -> np.ndarray:
        """Intersection over union of each class [C], float64; NaN of one that no label has."""
        counts = np.asarray(self.counts, np.float64)
        right = np.diag(counts)
        union = counts.sum(0) + counts.sum(1) - right
        return np.divide(right, union, out=np.full(len(counts), np.nan), where=self.occurs())

    def mean_iou(self) -> float:
        """The mean of `iou` over the classes that occur. Raises ValueError where none does.

        Source: Everingham et al. 2010, PASCAL VOC's segmentation accuracy; Long et al. 2015.
        """
        if not self.occurs().any():
            raise ValueError("no pixel has a label, so that there is no mean IoU")
        return float(np.mean(self.iou()[self.occurs()]))

    def accuracy(self) -> float:
        """The share of labelled pixels that are right. Raises ValueError where none is labelled."""
        counts = np.asarray(self.counts, np.float64)
        if not counts.sum():
            raise ValueError("no pixel has a label, so that there is no accuracy")
        return float(np.diag(counts).sum() / counts.sum())
