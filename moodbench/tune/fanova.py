"""Functional ANOVA of regression trees: the share of a score's variance that each parameter explains alone.

Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance. A tree is
constant on boxes, so its mean over all other parameters and the variance of that mean are exact sums over leaves.
Unlike in the paper, the values of a list keep their order on one axis, and callers refit the forest for an interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def variance_shares(places: Array, scores: Array, num_trees: int, seed: int) -> Array | None:
    """Return the share of the variance that each parameter explains, as the mean over the trees of a random forest.

    `places` has shape `(trials, parameters)`, with values from 0 to 1. The shares add up to at most 1; interactions
    explain the rest. None if every tree is constant.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(num_trees, random_state=seed, n_jobs=1).fit(places, scores)
    found = [shares for each in forest.estimators_ if (shares := tree_shares(each.tree_, places.shape[1])) is not None]
    return np.mean(found, axis=0) if found else None


def tree_shares(tree: object, num_parameters: int) -> Array | None:
    """Return each parameter's share of a scikit-learn tree's variance over the unit cube; None if it is constant."""
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
    """Return the boxes on which the tree is constant: lower and upper corners `(leaves, parameters)`, and values."""
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
