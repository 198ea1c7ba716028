"""How much of a score's variance over a search space each parameter explains alone: functional ANOVA of regression trees.

Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance. A tree is
constant on boxes, so its mean over all other parameters and the variance of that mean are sums over leaves, exactly.
Unlike there, values of a list keep their order on one axis, and the forest is drawn anew by whoever asks for an interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def variance_shares(places: Array, scores: Array, num_trees: int, seed: int) -> Array | None:
    """Per column of `places` `(trials, parameters)`, each from 0 to 1, its share of the variance: mean over a forest's trees.

    The shares add up to at most 1; what is missing are interactions. None where no tree varies.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(num_trees, random_state=seed, n_jobs=1).fit(places, scores)
    found = [shares for each in forest.estimators_ if (shares := tree_shares(each.tree_, places.shape[1])) is not None]
    return np.mean(found, axis=0) if found else None


def tree_shares(tree: object, num_parameters: int) -> Array | None:
    """The share of each parameter in the variance of one scikit-learn tree over the unit cube; None where it is constant."""
    lows, highs, values = _leaves(tree, num_parameters)
    widths = highs - lows
    volumes = widths.prod(axis=1)
    mean = float(volumes @ values)
    total = float(volumes @ (values - mean) ** 2)
    if total <= 1e-18:
        return None
    shares = np.zeros(num_parameters)
    for parameter in range(num_parameters):
        edges = np.unique(np.concatenate([lows[:, parameter], highs[:, parameter]]))
        middles, lengths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
        inside = (lows[:, parameter] < middles[:, None]) & (middles[:, None] < highs[:, parameter])
        marginal = inside @ (values * np.delete(widths, parameter, axis=1).prod(axis=1))
        shares[parameter] = float(lengths @ (marginal - mean) ** 2) / total
    return shares


def _leaves(tree: object, num_parameters: int) -> tuple[Array, Array, Array]:
    """Lower and upper corners `(leaves, parameters)` and the values of the boxes on which the tree is constant."""
    left: Sequence[int] = tree.children_left  # type: ignore[attr-defined]
    right: Sequence[int] = tree.children_right  # type: ignore[attr-defined]
    split, threshold, value = tree.feature, tree.threshold, tree.value  # type: ignore[attr-defined]
    lows, highs, values = [], [], []
    waiting = [(0, np.zeros(num_parameters), np.ones(num_parameters))]
    while waiting:
        node, low, high = waiting.pop()
        if left[node] < 0:
            lows.append(low)
            highs.append(high)
            values.append(float(value[node].ravel()[0]))
            continue
        below, above = high.copy(), low.copy()
        below[split[node]] = above[split[node]] = threshold[node]
        waiting += [(left[node], low, below), (right[node], above, high)]
    return np.array(lows), np.array(highs), np.array(values)
