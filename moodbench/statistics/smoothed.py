"""Smoothed bootstrap of one entry: macro-F1 where classes or errors are rare, and whether it is better than chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]
CHUNK = 250
"""Draws computed at once, which bounds memory."""
NUM_PSEUDO = 2.0
"""Number of pseudo-texts: one for each class would pull five classes too far towards chance."""
CHANCE_LEVEL = 0.025
"""One-sided level, for all entries together, at which the balanced accuracy of an entry must be above chance."""


class OwnDraws(NamedTuple):
    """Bootstrap draws of one entry, the mean over its seeds, before any seed effect."""

    f1_macro: Floats
    """`(B,)`."""
    balanced_accuracy: Floats
    """`(B,)`: the mean recall of the classes that occur among the labels."""
    chance: float
    """Balanced accuracy of an answer that does not depend on the text: 1 / number of classes among the labels."""


def own_draws(truth: Classes, columns: Classes, k: int, num_draws: int, rng: np.random.Generator) -> OwnDraws:
    """Return draws for labels `truth` `(n,)` and classes `columns` `(n, seeds)` predicted by one entry.

    The share of each pattern (a label and the predictions of all seeds) is drawn from a Dirichlet distribution, of
    its count and of NUM_PSEUDO pseudo-texts, which are spread evenly over the pairs of a label and an answer of the
    classes that occur. A class without errors therefore varies too.
    Source: Rubin 1981 (Bayesian bootstrap); for one seed and two classes, Jeffreys' prior 1/2 in each cell.
    """
    patterns, counts = np.unique(np.column_stack([truth, columns]), axis=0, return_counts=True)
    classes = np.unique(patterns)
    pseudo = [[label, *[answer] * columns.shape[1]] for label in classes for answer in classes]
    shapes = np.concatenate([counts, np.full(len(pseudo), NUM_PSEUDO / len(pseudo))])
    patterns = np.concatenate([patterns, np.array(pseudo)])
    hot = np.stack([patterns[:, :1] * k + patterns[:, 1:] == cell for cell in range(k * k)], axis=2).astype(np.float64)
    labels = np.unique(truth)
    f1, balanced = np.empty(num_draws), np.empty(num_draws)
    for start in range(0, num_draws, CHUNK):
        size = min(CHUNK, num_draws - start)
        weights = rng.standard_gamma(shapes, size=(size, len(shapes)))
        drawn = np.einsum("bp,psc->bsc", weights, hot, optimize=True).reshape(size, -1, k, k)
        f1[start : start + size] = f1_of_confusion(drawn).mean(axis=1)
        recall = np.diagonal(drawn, axis1=-2, axis2=-1)[..., labels] / drawn.sum(axis=-1)[..., labels]
        balanced[start : start + size] = recall.mean(axis=(1, 2))
    return OwnDraws(f1, balanced, 1 / len(labels))


def f1_of_confusion(confusion: Floats, occurs: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Return macro-F1 `(...)` of counts `(..., k, k)`: the unweighted mean over occurring classes, as in the metric.

    `occurs` `(..., k)` are the classes of the mean in draws: those that occur in the data. Without it, a draw that
    misses a rare class would have the macro-F1 of the other classes alone.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    below = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    f1 = np.divide(2 * hits, below, out=np.zeros_like(below), where=below > 0)
    return np.asarray(f1.sum(axis=-1) / (below > 0 if occurs is None else occurs).sum(axis=-1))
