"""Where each contender of a track may stand: rank intervals and letters from joint draws, on accuracy and on the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.comparison.composite import CRITERIA, Anchors, Weights, pinned_utilities
from moodbench.comparison.joint import JointDraws
from moodbench.comparison.ranks import rank_all

CONCENTRATION = 20
"""Of the Dirichlet distribution around the weights: P(best) does not hang on their second digit."""
COLUMNS = (
    "accuracy_rank_low",
    "accuracy_rank_high",
    "accuracy_letters",
    "tied_best",
    "rank_low",
    "rank_high",
    "p_best",
)
"""What `with_standing` adds; all null where nothing is known."""


def with_standing(
    track: pd.DataFrame, joint: JointDraws | None, speed: Mapping[str, Any], weights: Weights, anchors: Anchors
) -> pd.DataFrame:
    """`track`, the scored rows of one track, with COLUMNS.

    accuracy_rank_low ... accuracy_rank_high, accuracy_letters (contenders that share a letter are not separated) and
    tied_best go by accuracy, of all contenders of the track whatever is shown. rank_low ... rank_high and p_best go by
    the pinned score: quality drawn jointly, the baseline's too, speed as measured; p_best draws the weights as well, from a
    Dirichlet distribution around them. They are null for rows without a rank.
    Source: Mogstad et al. 2024 (rank intervals); Lahdelma & Salminen 2001 (SMAA-2, P(best)).
    """
    empty = track.assign(**dict.fromkeys(COLUMNS))
    if joint is None or not set(track["name"]) <= set(joint.names):
        return empty
    at = [joint.names.index(name) for name in track["name"]]
    names = [joint.names[m] for m in at]
    quality = rank_all(names, joint.accuracy[at], joint.accuracy_draws[:, at], joint.num_items)
    made = empty.assign(
        accuracy_rank_low=quality.low,
        accuracy_rank_high=quality.high,
        accuracy_letters=quality.letters,
        tied_best=quality.tied_best,
    )
    ranked = track["rank"].notna().to_numpy() if "rank" in track else np.zeros(len(track), dtype=bool)
    if not ranked.any() or "base_accuracy" not in track:
        return made
    rows = track.assign(**speed)[ranked]
    utilities = utility_draws(rows, joint, anchors)
    scores = 100 * utilities @ weights.as_series().to_numpy()
    standing = rank_all(rows["name"].tolist(), rows["score"].to_numpy(dtype=float), scores, joint.num_items)
    alpha = CONCENTRATION * weights.as_series().to_numpy()
    drawn = np.zeros((len(scores), len(alpha)))
    drawn[:, alpha > 0] = np.random.default_rng(0).dirichlet(alpha[alpha > 0], size=len(scores))
    free = np.einsum("bmc,bc->bm", utilities, drawn)
    best = free >= free.max(axis=1, keepdims=True) - 1e-12
    index = rows.index
    made.loc[index, "rank_low"] = standing.low
    made.loc[index, "rank_high"] = standing.high
    made.loc[index, "p_best"] = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return made.astype({"rank_low": "Int64", "rank_high": "Int64", "p_best": "float64"})


def utility_draws(rows: pd.DataFrame, joint: JointDraws, anchors: Anchors) -> npt.NDArray[np.float64]:
    """The pinned utilities `(B, rows, criteria)` of each draw: quality drawn, with its baseline, and speed as in `rows`."""
    fixed = pinned_utilities(rows, anchors).to_numpy(dtype=np.float64)
    made = np.repeat(fixed[None], len(joint.accuracy_draws), axis=0)
    at = [joint.names.index(name) for name in rows["name"]]
    base_at = [m for m, name in enumerate(joint.names) if name.split(" #")[0] == anchors.baseline]
    for criterion, column, draws in (
        ("accuracy", "accuracy", joint.accuracy_draws),
        ("f1", "f1_macro", joint.f1_draws),
    ):
        ceiling = rows[f"ceiling_{column}"].astype(float).fillna(1.0).to_numpy()
        base = rows[f"base_{column}"].astype(float).to_numpy()
        drawn_base = (
            draws[:, base_at].mean(axis=1)[:, None] if base_at else np.broadcast_to(base, (len(draws), len(at)))
        )
        span = np.maximum(ceiling - drawn_base, 1e-9)
        made[:, :, CRITERIA.index(criterion)] = np.clip((draws[:, at] - drawn_base) / span, anchors.skill_floor, 1)
    return made
