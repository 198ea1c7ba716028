"""Sampling rows from a large source: per class, seeded, from the labels alone. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import Sampling


def class_sizes(counts: npt.NDArray[np.int64], size: int, by: Sampling = "stratified") -> npt.NDArray[np.int64]:
    """Return how many rows to take from each class, shape `(classes,)`; they sum to `size`.

    `counts` `(classes,)` are the available rows; all are taken if there are no more than `size`. `stratified` keeps the
    class shares with the largest-remainder method: round down, then add one to the classes with the largest remainders.
    A class whose exact share is below one row still gets one, at the expense of the largest class; with fewer rows than
    classes, the largest classes get one each. `balanced` takes the same number from each class. If a class has too few
    rows, the others make up for it equally, and the first classes get the remainder.
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
    if take.sum() > size:  # fewer rows than classes
        take[np.argsort(-counts, kind="stable")[size:]] = 0
    return take


def _balanced(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    level = int(np.searchsorted([np.minimum(counts, n).sum() for n in range(size + 1)], size, side="right")) - 1
    take = np.minimum(counts, level)
    take[np.flatnonzero(counts > level)[: size - take.sum()]] += 1
    return take


def draw_rows(
    labels: npt.NDArray[np.int32], size: int | None, seed: int, by: Sampling = "stratified"
) -> npt.NDArray[np.int64]:
    """Return the ascending indices of at most `size` rows with a non-negative label, determined by `seed`.

    Each class is sampled without replacement from all of its rows, so the source may be sorted by label.
    """
    known = np.flatnonzero(labels >= 0)
    if size is None or size >= len(known):
        return known
    take = class_sizes(np.bincount(labels[known]), size, by)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:wanted] for label, wanted in enumerate(take)]
    return np.sort(np.concatenate(chosen))
