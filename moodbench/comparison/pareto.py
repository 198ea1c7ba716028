"""Who is beaten in nothing: Pareto sets of two costs, how sure membership is, and the hypervolume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def pareto_set(costs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """`(M,)`: whether no other row of `costs` `(M, K)`, less is better, is as good in all and better in one; NaN never."""
    table = np.asarray(costs, dtype=np.float64)
    no_worse = (table[:, None] <= table[None]).all(axis=2)
    better = (table[:, None] < table[None]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0) & np.isfinite(table).all(axis=1))


def membership(error_draws: npt.ArrayLike, cost: npt.ArrayLike) -> Floats:
    """`(M,)`: the share of joint draws of the error `(B, M)` in which a contender is in the Pareto set with `cost` `(M,)`."""
    errors, fixed = np.asarray(error_draws, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    return np.asarray(np.mean([pareto_set(np.stack([row, fixed], axis=1)) for row in errors], axis=0))


def hypervolume(costs: npt.ArrayLike, reference: tuple[float, float]) -> float:
    """The area that the rows of `costs` `(M, 2)` dominate below `reference`. Source: Zitzler & Thiele 1998."""
    table = np.asarray(costs, dtype=np.float64)
    inside = table[(table < np.asarray(reference)).all(axis=1)]
    area, ceiling = 0.0, reference[1]
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        if y < ceiling:
            area += (reference[0] - x) * (ceiling - y)
            ceiling = y
    return float(area)
