"""The input of every metric: labels, predicted classes and log probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Validated logits `(n, k)` and true labels `(n,)`; values shared by several metrics are cached."""

    logits: FloatArray
    """Raw scores of the model, finite, shape `(n, k)` with k >= 2."""
    labels: IntArray
    """True class of each row, 0 ... k-1, shape `(n,)`."""

    @classmethod
    def checked(cls, logits: npt.ArrayLike, labels: npt.ArrayLike) -> Predictions:
        """Return validated predictions, with logits in float64 and labels in int64.

        Raises: ValueError for invalid shapes or labels, and for logits that are not finite.
        """
        scores = np.asarray(logits, dtype=np.float64)
        classes = np.asarray(labels)
        if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
            raise ValueError(f"logits have shape {scores.shape}; needed is (n, k) with n >= 1 and k >= 2")
        if classes.shape != (len(scores),):
            raise ValueError(
                f"labels have shape {classes.shape}; needed is ({len(scores)},), one for each row of logits"
            )
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"labels have dtype {classes.dtype}; needed are integers")
        not_finite = ~np.isfinite(scores).all(axis=1)
        if not_finite.any():
            raise ValueError(
                f"{int(not_finite.sum())} of {len(scores)} rows of logits are not finite (NaN or infinite), "
                f"the first is row {int(not_finite.argmax())}; such rows are failed examples and have no score"
            )
        if classes.min() < 0 or classes.max() >= scores.shape[1]:
            raise ValueError(
                f"labels run from {classes.min()} to {classes.max()}; with {scores.shape[1]} columns of logits "
                f"allowed are 0 to {scores.shape[1] - 1}"
            )
        return cls(scores, classes.astype(np.int64))

    @property
    def num_classes(self) -> int:
        """Number of classes k, the columns of the logits."""
        return int(self.logits.shape[1])

    @cached_property
    def predicted(self) -> IntArray:
        """Predicted class of each row, `(n,)`: the one with the largest logit, the first of equal ones."""
        return self.logits.argmax(axis=1).astype(np.int64)

    @cached_property
    def log_probabilities(self) -> FloatArray:
        """Log softmax of the logits, `(n, k)`, in float64; the row maximum is subtracted first for stability."""
        shifted = self.logits - self.logits.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)
