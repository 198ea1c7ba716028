"""Pareto sets of costs, the probability of membership, and the hypervolume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def pareto_set(costs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return whether each row of `costs` `(M, K)` is in the Pareto set, `(M,)`; a row with NaN never is.

    Less is better: no other row is as good in all columns and better in one.
    """
    table = np.asarray(costs, dtype=np.float64)
    no_worse = (table[:, None] <= table[None]).all(axis=2)
    better = (table[:, None] < table[None]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0) & np.isfinite(table).all(axis=1))


def membership(error_draws: npt.ArrayLike, cost: npt.ArrayLike) -> Floats:
    """Return the share of the draws in which each entry is in the Pareto set of error and `cost`, `(M,)`.

    The bootstrap draws of the error are `(B, M)`; `cost` is `(M,)`, or `(B, M)` if it is drawn too.
    """
    errors, costs = np.asarray(error_draws, dtype=np.float64), np.atleast_2d(np.asarray(cost, dtype=np.float64))
    found = np.zeros(errors.shape[1])
    for m in range(errors.shape[1]):
        gap = errors - errors[:, [m]]  # (B, M), negative where the other entry has the lower error
        own = costs[:, [m]]
        beaten = ((gap <= 0) & (costs < own)) | ((gap < 0) & (costs <= own))
        found[m] = (~beaten.any(axis=1)).mean() if np.isfinite(own).all() else 0.0
    return found


def contributions(costs: npt.ArrayLike, reference: tuple[float, float]) -> Floats:
    """Return how much the hypervolume of `costs` `(M, 2)` falls without each row, `(M,)`; NaN for a missing cost."""
    table = np.asarray(costs, dtype=np.float64)
    known = np.isfinite(table).all(axis=1)
    whole = hypervolume(table[known], reference)
    left = [
        whole - hypervolume(table[known & (np.arange(len(table)) != m)], reference) if known[m] else np.nan
        for m in range(len(table))
    ]
    return np.array(left, dtype=np.float64)


def layers(costs: npt.ArrayLike) -> Floats:
    """Return the Pareto layer of each row of `costs` `(M, K)`, `(M,)`; NaN for rows with a missing cost.

    Layer 1 is the Pareto set, layer 2 the Pareto set of the rest, and so on.
    Source: Goldberg 1989 (non-dominated sorting).
    """
    table = np.asarray(costs, dtype=np.float64).copy()
    found = np.full(len(table), np.nan)
    layer = 0
    while np.isfinite(table).all(axis=1).any():
        layer += 1
        front = pareto_set(table)
        found[front] = layer
        table[front] = np.nan
    return found


def hypervolume(costs: npt.ArrayLike, reference: tuple[float, float]) -> float:
    """Return the area that the rows of `costs` `(M, 2)` dominate below `reference`.

    Source: Zitzler & Thiele 1998.
    """
    table = np.asarray(costs, dtype=np.float64)
    inside = table[(table < np.asarray(reference)).all(axis=1)]
    area, ceiling = 0.0, reference[1]
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        if y < ceiling:
            area += (reference[0] - x) * (ceiling - y)
            ceiling = y
    return float(area)
