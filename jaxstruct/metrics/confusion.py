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
            predictions: integers of the same shape, 0 to classes - 1 where a label counts.
            classes: C.
            valid: bool [b], the examples that count; all without it.

        Returns:
            float32 counts, exact up to 2^24 a cell.

        Raises:
            ValueError: other shapes; or, outside of a trace, a prediction that is none of the
                classes (in a trace: counts of NaN, which the numbers below refuse). TypeError:
                labels or predictions are floating.
        """
        if labels.shape != predictions.shape:
            raise ValueError(
                f"labels {labels.shape} and predictions {predictions.shape} must have one shape"
            )
        for name, given in (("labels", labels), ("predictions", predictions)):
            if jnp.issubdtype(given.dtype, jnp.floating):
                raise TypeError(f"{name} have dtype {given.dtype}, expected an integer dtype")
        # No number of classes is too large for them then.
        labels, predictions = (
            x if x.dtype.itemsize > 4 else x.astype(jnp.int32) for x in (labels, predictions)
        )
        known = (labels >= 0) & (labels < classes)
        if valid is not None:
            if valid.shape != labels.shape[:1]:
                raise ValueError(f"got valid {valid.shape}, expected {labels.shape[:1]}")
            known &= valid.reshape(-1, *[1] * (labels.ndim - 1))
        astray = jnp.any(known & ((predictions < 0) | (predictions >= classes)))
        if not isinstance(astray, jax.core.Tracer) and astray:
            raise ValueError(
                f"predictions reach from {predictions.min()} to {predictions.max()}, expected 0 to "
                f"{classes - 1} where there is a label"
            )
        rows, columns = labels.astype(jnp.int32), predictions.astype(jnp.int32)
        pairs = jnp.where(known, rows * classes + columns, classes**2).ravel()
        counts = jnp.bincount(pairs, length=classes**2 + 1)[:-1].astype(jnp.float32)
        return cls(jnp.where(astray, jnp.nan, counts).reshape(classes, classes))

    def occurs(self) -> np.ndarray:
        """Which classes some label has, bool [C], on the host."""
        return self._numbers().sum(1) > 0

    def absent(self) -> int:
        """How many of the classes no label has: those that the means below leave out."""
        return int((~self.occurs()).sum())

    def iou(self) -> np.ndarray:
        """Intersection over union of each class [C], float64; NaN of one that no label has."""
        counts = self._numbers()
        right = np.diag(counts)
        union = counts.sum(0) + counts.sum(1) - right
        return np.divide(right, union, out=np.full(len(counts), np.nan), where=self.occurs())

    def mean_iou(self) -> float:
        """The mean of `iou` over the classes that occur. Raises ValueError where none does.

        Source: Everingham et al. 2010, PASCAL VOC's segmentation accuracy; Long et al. 2015.
        """
        return float(np.mean(self.iou()[self._occurring("mean IoU")]))

    def frequency_weighted_iou(self) -> float:
        """The mean of `iou`, each class weighing as many pixels as have it as their label.

        Raises ValueError where no pixel has a label.

        Source: Long et al. 2015, section 5.
        """
        there = self._occurring("frequency-weighted IoU")
        return float(np.average(self.iou()[there], weights=self._numbers().sum(1)[there]))

    def accuracy(self) -> float:
        """The share of labelled pixels that are right. Raises ValueError where none is labelled."""
        self._occurring("accuracy")
        counts = self._numbers()
        return float(np.diag(counts).sum() / counts.sum())

    def class_accuracy(self) -> np.ndarray:
        """Which share of each class's pixels is right [C], float64; NaN where no label has it."""
        counts = self._numbers()
        out = np.full(len(counts), np.nan)
        return np.divide(np.diag(counts), counts.sum(1), out=out, where=self.occurs())

    def mean_accuracy(self) -> float:
        """The mean of `class_accuracy` over the classes that occur.

        Raises ValueError where none does.

        Source: Long et al. 2015, section 5.
        """
        return float(np.mean(self.class_accuracy()[self._occurring("mean accuracy")]))

    def _occurring(self, number: str) -> np.ndarray:
        """`occurs`, where some class does."""
        if not self.occurs().any():
            raise ValueError(f"no pixel has a label, so that there is no {number}")
        return self.occurs()

    def _numbers(self) -> np.ndarray:
        counts = np.asarray(self.counts, np.float64)
        if np.isnan(counts).any():
            raise ValueError("counts are NaN: a prediction was none of the classes")
        return counts
