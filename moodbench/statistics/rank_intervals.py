"""Rank intervals, significance groups and Pareto membership of a dataset's entries from bootstrap draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.statistics.bootstrap import JointDraws
from moodbench.statistics.composite import (
    COMPOSITES,
    CRITERIA,
    MEASURED,
    Anchors,
    LogScale,
    Weights,
    geomean_quality,
    minmax_draws,
)
from moodbench.statistics.intervals import clipped
from moodbench.statistics.pareto import contributions, membership
from moodbench.statistics.ranks import num_draws, rank_all
from moodbench.statistics.speed_noise import tied_fastest
from moodbench.statistics.stability import drawn_weights

Floats = npt.NDArray[np.float64]
PARETO_COSTS: Mapping[str, str] = {
    "latency_p50_s": "p_pareto_latency",
    "memory_peak_batch1_bytes": "p_pareto_memory",
    "train_time_s": "p_pareto_train_time",
}
"""Cost to the column with the probability that no entry has both a lower error and a lower cost."""
AREA_COLUMNS: Mapping[str, str] = {
    "latency_p50_s": "hypervolume_latency",
    "memory_peak_batch1_bytes": "hypervolume_memory",
    "train_time_s": "hypervolume_train_time",
}
"""Cost to the column with the hypervolume of error and that cost that only this entry contributes."""
AREA_SCALES = {"memory_peak_batch1_bytes": LogScale(2**36, 2**25), "train_time_s": LogScale(1e6, 0.1)}
"""Fixed ends of the areas: 64 GiB to 32 MiB, 1,000,000 s to 0.1 s; latency has those of its anchor."""
QUALITY_COLUMNS = (
    "f1_low",
    "f1_high",
    "accuracy_rank_low",
    "accuracy_rank_high",
    "accuracy_letters",
    "tied_best",
    "tied_f1",
    "tied_latency",
    *PARETO_COSTS.values(),
    *AREA_COLUMNS.values(),
)
"""Columns added by `with_quality`; null if unknown."""
SCORE_COLUMNS = ("rank_low", "rank_high", "p_best")
"""Columns added by `with_places`; null if unknown."""


@dataclass(frozen=True)
class ScoreDraws:
    """Scores of a dataset's entries in each bootstrap draw."""

    names: tuple[str, ...]
    scores: Floats
    """`(B, M)` under the given weights: uncertainty from the test examples and the seeds."""
    free: Floats
    """`(B, M)` with the weights drawn too, from a Dirichlet distribution around the given ones."""
    num_items: int

    def of(self, names: Sequence[str]) -> ScoreDraws:
        """Return the draws of some entries, in that order."""
        at = [self.names.index(name) for name in names]
        return ScoreDraws(tuple(names), self.scores[:, at], self.free[:, at], self.num_items)


@dataclass(frozen=True)
class UtilityDraws:
    """Utilities of a dataset's entries in each bootstrap draw, independent of the weights."""

    names: tuple[str, ...]
    utilities: Floats
    """`(B, M, criteria)`."""
    link: Callable[[Any], Any]
    """Function from a weighted sum to a score."""
    num_items: int

    def under(self, weights: Weights) -> ScoreDraws:
        """Return the scores under these weights, and under weights drawn around them."""
        fixed: Floats = np.array(weights.as_series().tolist())
        free = np.einsum("bmc,bc->bm", self.utilities, drawn_weights(fixed, len(self.utilities)))
        return ScoreDraws(self.names, self.link(self.utilities @ fixed), self.link(free), self.num_items)


def with_quality(
    track: pd.DataFrame, joint: JointDraws | None, latency_s: pd.Series[float], anchors: Anchors
) -> pd.DataFrame:
    """Return `track`, all rows of one dataset, with QUALITY_COLUMNS, which do not depend on the weights.

    f1_low and f1_high are the ends of the bootstrap interval. The rank interval (accuracy_rank_low,
    accuracy_rank_high), the significance groups (accuracy_letters: entries that share a letter do not differ
    significantly), tied_best and tied_f1 come from all pairs of entries. tied_latency, over fresh processes, comes from
    all pairs of entries whose clock was not disturbed.
    p_pareto_* is the probability of being in the Pareto set of error and that cost; latency is `latency_s`, drawn over
    processes, other costs are as measured. hypervolume_* is the area in error x log cost that only this row
    contributes, as a share of the area from no error at the lowest cost to all wrong at the highest (AREA_SCALES).
    Source: Mogstad et al. 2024 (rank intervals); Zitzler & Thiele 1998 (hypervolume).
    """
    made = track.assign(**dict.fromkeys(QUALITY_COLUMNS))
    for cost, column in AREA_COLUMNS.items():
        scale = AREA_SCALES.get(cost, anchors.latency_p50_s)
        dear = 1 - scale.utility((latency_s if cost == "latency_p50_s" else track[cost]).astype("float64"))
        area = np.stack([1 - track["accuracy"].astype(float).to_numpy(), dear.to_numpy(dtype=float)], axis=1)
        made[column] = contributions(area, (1.0, 1.0))
    if joint is None or not set(track["name"]) <= set(joint.names):
        return made
    at = [joint.names.index(name) for name in track["name"]]
    accuracy, f1 = (
        rank_all(joint.names, point, draws[: num_draws(len(at))], joint.num_items)
        for point, draws in ((joint.accuracy, joint.accuracy_draws), (joint.f1_macro, joint.f1_draws))
    )
    intervals = [clipped(joint.interval(name, "f1_macro")) for name in track["name"]]
    costs = {c: track[c].astype(float).to_numpy() for c in PARETO_COSTS}
    costs["latency_p50_s"] = latency_s.astype(float).to_numpy()
    clear = costs["latency_p50_s"].copy()
    clear[track["provisional"].to_numpy(dtype=bool)] = np.nan
    noise = np.zeros((len(joint.accuracy_draws), len(at))) if joint.speed_noise is None else joint.speed_noise[:, at, 0]
    fastest = tied_fastest(clear, noise[: num_draws(len(at))])
    if joint.speed_noise is not None:
        costs["latency_p50_s"] = costs["latency_p50_s"] * np.exp(joint.speed_noise[:, at, 0])
    return made.assign(
        f1_low=[i.low for i in intervals],
        f1_high=[i.high for i in intervals],
        accuracy_rank_low=accuracy.low[at],
        accuracy_rank_high=accuracy.high[at],
        accuracy_letters=[accuracy.letters[m] for m in at],
        tied_best=accuracy.tied_best[at],
        tied_f1=f1.tied_best[at],
        tied_latency=pd.array(fastest, dtype="boolean"),
        **{column: membership(1 - joint.accuracy_draws[:, at], costs[cost]) for cost, column in PARETO_COSTS.items()},
    )


def score_draws(
    track: pd.DataFrame,
    joint: JointDraws | None,
    speed: Mapping[str, Any],
    weights: Weights,
    anchors: Anchors,
    composite: str = "pinned",
) -> ScoreDraws | None:
    """Return the score draws of the rows with a score, with `speed` as the speed; None without draws or scores."""
    made = drawn_utilities(track.assign(**speed)[track["score"].notna()], joint, anchors, composite)
    return None if made is None else made.under(weights)


def drawn_utilities(
    rows: pd.DataFrame, joint: JointDraws | None, anchors: Anchors, composite: str = "pinned"
) -> UtilityDraws | None:
    """Return the utilities of `rows`, all with a score, in each draw; None without rows, draws or a score."""
    scheme = COMPOSITES[composite]
    if joint is None or scheme.utilities is None or rows.empty or not set(rows["name"]) <= set(joint.names):
        return None
    utilities = utility_draws(rows, joint, anchors, composite)
    return UtilityDraws(tuple(rows["name"]), utilities, scheme.link, joint.num_items)


def mean_draws(parts: Sequence[ScoreDraws]) -> ScoreDraws:
    """Return the unweighted mean over datasets, for the entries that all of them have."""
    names = [name for name in parts[0].names if all(name in part.names for part in parts)]
    kept = [part.of(names) for part in parts]
    scores, free = (np.mean([getattr(part, what) for part in kept], axis=0) for what in ("scores", "free"))
    return ScoreDraws(tuple(names), scores, free, min(part.num_items for part in kept))


def with_places(track: pd.DataFrame, draws: ScoreDraws | None) -> pd.DataFrame:
    """Return `track` with SCORE_COLUMNS: the rank interval of each row with a rank, and its probability to be the best.

    Source: Mogstad et al. 2024 (rank intervals); Lahdelma & Salminen 2001 (SMAA-2, P(best)).
    """
    ranked = track["rank"].notna().to_numpy()
    names = track.loc[ranked, "name"].tolist()
    found = {column: np.full(len(track), np.nan) for column in SCORE_COLUMNS}
    if draws is not None and names and set(names) <= set(draws.names):
        own = draws.of(names)
        few = own.scores[: num_draws(len(names))]
        standing = rank_all(own.names, track.loc[ranked, "score"].to_numpy(dtype=float), few, own.num_items)
        best = own.free >= own.free.max(axis=1, keepdims=True) - 1e-9
        found["rank_low"][ranked], found["rank_high"][ranked] = standing.low, standing.high
        found["p_best"][ranked] = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return track.assign(
        rank_low=pd.array(found["rank_low"], dtype="Int64"),
        rank_high=pd.array(found["rank_high"], dtype="Int64"),
        p_best=found["p_best"],
    )


def utility_draws(rows: pd.DataFrame, joint: JointDraws, anchors: Anchors, composite: str = "pinned") -> Floats:
    """Return the utilities `(B, rows, criteria)` of each draw.

    Quality and its baseline are from the draws; speed varies around that of `rows`.
    """
    utilities = COMPOSITES[composite].utilities
    assert utilities is not None, "a board without a score has no utilities"
    made = np.repeat(utilities(rows, anchors).to_numpy(dtype=np.float64)[None], len(joint.accuracy_draws), axis=0)
    at = [joint.names.index(name) for name in rows["name"]]
    base_at = [m for m, name in enumerate(joint.names) if name == rows["base_name"].iloc[0]]
    for criterion, column, draws in zip(
        CRITERIA[:2], MEASURED[:2], (joint.accuracy_draws, joint.f1_draws), strict=True
    ):
        base = draws[:, base_at] if base_at else rows[f"base_{column}"].astype(float).to_numpy()
        if composite == "minmax":
            utility = minmax_draws(draws[:, at])
        elif composite == "geomean":
            utility = geomean_quality(draws[:, at], base)
        else:
            ceiling = rows[f"ceiling_{column}"].astype(float).fillna(1.0).to_numpy()
            utility = np.clip((draws[:, at] - base) / np.maximum(ceiling - base, 1e-9), anchors.skill_floor, 1)
        made[:, :, CRITERIA.index(criterion)] = utility
    if joint.speed_noise is not None:
        noise = joint.speed_noise[:, at]
        made[:, :, 2:] = _speed_utilities(rows, noise, anchors, composite)
    return made


def _speed_utilities(rows: pd.DataFrame, noise: Floats, anchors: Anchors, composite: str) -> Floats:
    """Return the utilities `(B, rows, 2)` of throughput and latency with `noise` added to their logs.

    `noise` is `(B, rows, 2)`, with latency first.
    """
    throughput = rows["throughput_texts_per_s"].to_numpy(dtype=np.float64) * np.exp(noise[:, :, 1])
    latency = rows["latency_p50_s"].to_numpy(dtype=np.float64) * np.exp(noise[:, :, 0])
    if composite == "minmax":
        return np.stack([minmax_draws(np.asarray(throughput)), minmax_draws(np.asarray(-latency))], axis=2)
    made = []
    for values, scale in ((throughput, anchors.throughput_texts_per_s), (latency, anchors.latency_p50_s)):
        if composite == "geomean":
            made.append(np.sign(scale.log_span) * np.log(values / np.sqrt(scale.worst * scale.best)))
        else:
            made.append(np.clip(np.log(values / scale.worst) / scale.log_span, 0, 1))
    return np.stack(made, axis=2)
