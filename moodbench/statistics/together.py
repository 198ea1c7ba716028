"""Overall comparison: bootstrap draws averaged over datasets, and the entries that tie with the best in the mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from moodbench.statistics.bootstrap import JointDraws
from moodbench.statistics.paired import difference_interval
from moodbench.statistics.ranks import num_draws, rank_all

TIES = ("accuracy_rank_low", "accuracy_rank_high", "accuracy_letters", "tied_best", "tied_f1")
"""Columns of `mean_ties`."""


def mean_joint(joints: Mapping[str, JointDraws]) -> JointDraws | None:
    """Return the unweighted mean over datasets, draw by draw, of the entries that all datasets have; None without any.

    Datasets are independent, so that any draw of one can be paired with any draw of another.
    """
    parts = list(joints.values())
    names = [n for n in parts[0].names if all(n in part.names for part in parts)] if parts else []
    if not names:
        return None
    at = [[part.names.index(n) for n in names] for part in parts]
    means = {
        what: np.mean([getattr(part, what)[..., here] for part, here in zip(parts, at, strict=True)], axis=0)
        for what in ("accuracy", "f1_macro", "accuracy_draws", "f1_draws")
    }
    seeds = np.min([np.array(part.num_seeds)[here] for part, here in zip(parts, at, strict=True)], axis=0)
    return replace(
        parts[0],
        names=tuple(names),
        num_items=min(part.num_items for part in parts),
        num_seeds=tuple(seeds.tolist()),
        discordance=float(np.mean([part.discordance for part in parts])),
        speed_noise=None,
        **means,
    )


def mean_ties(joint: JointDraws) -> pd.DataFrame:
    """Return TIES of each entry, by name, from all pairs of entries."""
    found = [
        rank_all(joint.names, point, draws[: num_draws(len(joint.names))], joint.num_items)
        for point, draws in ((joint.accuracy, joint.accuracy_draws), (joint.f1_macro, joint.f1_draws))
    ]
    accuracy, f1 = found
    columns = [accuracy.low, accuracy.high, accuracy.letters, accuracy.tied_best, f1.tied_best]
    return pd.DataFrame(dict(zip(TIES, columns, strict=True)), index=pd.Index(joint.names, name="name"))


def separated(joint: JointDraws, a: str, b: str, level: float = 0.95) -> bool:
    """Return whether the interval of the difference in accuracy of two entries excludes 0."""
    draws = joint.accuracy_draws
    low, high = difference_interval(draws[:, joint.names.index(a)] - draws[:, joint.names.index(b)], level)
    return low > 0 or high < 0
