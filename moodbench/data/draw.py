"""Which rows to take of a source with too many: by class, seeded, from their labels alone. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import Sampling


def class_sizes(counts: npt.NDArray[np.int64], size: int, by: Sampling = "stratified") -> npt.NDArray[np.int64]:
    """How many rows to take of each class of `counts` (classes,), `size` together; all where there are no more.

    `stratified` keeps the shares: rounded down, and the largest remainders one more (largest-remainder rule); a class
    whose share is below one gets one, at the cost of the largest. `balanced` takes equally many of each; what a class
    lacks is taken from the others alike, and the first classes get the odd ones.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if size >= counts.sum():
        return counts
    if by == "balanced":
        return _balanced(counts, size)
    there = counts > 0
    exact = counts * size / counts.sum()
    take = np.where(there, np.maximum(np.floor(exact).astype(np.int64), 1), 0)
    for label in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        if take.sum() < size and exact[label] >= 1:
            take[label] += 1
    while take.sum() > size and take.max() > 1:
        take[take.argmax()] -= 1
    return take


def _balanced(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    level = int(np.searchsorted([np.minimum(counts, n).sum() for n in range(size + 1)], size, side="right")) - 1
    take = np.minimum(counts, level)
    take[np.flatnonzero(counts > level)[: size - take.sum()]] += 1
    return take


def draw_rows(
    labels: npt.NDArray[np.int32], size: int | None, seed: int, by: Sampling = "stratified"
) -> npt.NDArray[np.int64]:
    """Ascending indices of at most `size` of the rows whose label is not negative, the same for a seed.

    Each class is drawn without replacement, wherever its rows stand: a source sorted by label is no obstacle.
    """
    known = np.flatnonzero(labels >= 0)
    if size is None or size >= len(known):
        return known
    take = class_sizes(np.bincount(labels[known]), size, by)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:wanted] for label, wanted in enumerate(take)]
    return np.sort(np.concatenate(chosen))
