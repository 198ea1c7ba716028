"""Leaderboards of the same entries under any weights.

What does not depend on the weights is computed once, because a slider waits for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from moodbench.analysis.leaderboard import speed_for_score
from moodbench.statistics.bootstrap import JointDraws
from moodbench.statistics.composite import CRITERIA, Anchors, Composite, Weights, get_composite, spread, weighted
from moodbench.statistics.overall import OVERALL, overall
from moodbench.statistics.pareto import layers
from moodbench.statistics.rank_intervals import (
    SCORE_COLUMNS,
    ScoreDraws,
    UtilityDraws,
    drawn_utilities,
    mean_draws,
    with_places,
)
from moodbench.statistics.stability import Flip, Stability, closest_flip, stability
from moodbench.statistics.together import TIES

NARROW = ["name", "provisional", "accuracy"]
"""Columns on which a rank depends besides the score."""
WORTH = ["name", "accuracy", "latency_p50_s", "base_accuracy", "ceiling_accuracy"]
"""Columns from which the value of a point of accuracy is computed."""


class Scoring:
    """Entries of a leaderboard, scored by one composite; `board` returns the leaderboard for one choice of weights."""

    def __init__(
        self,
        rows: pd.DataFrame,
        covered: Sequence[str],
        *,
        anchors: Anchors,
        composite: str = "pinned",
        joints: Mapping[str, JointDraws] | None = None,
        ties: pd.DataFrame | None = None,
    ) -> None:
        """Prepare `rows`, the result of `leaderboard.entries`; `covered` are the tracks of the overall rows.

        `joints` are the bootstrap draws by dataset, from which rank intervals are computed; `ties` is the result of
        `together.mean_ties`.
        """
        self.scheme: Composite = get_composite(composite)
        self.anchors, self.composite, self._joints, self._ties = anchors, composite, joints, ties
        self._given, self._covered = rows.reset_index(drop=True), covered
        grouped = self._given.groupby("track", sort=False) if len(rows) else ()
        self.tracks = {str(name): track.assign(**speed_for_score(track)) for name, track in grouped}
        """Dataset to its rows, with the speed that counts for the score."""
        self._drawn: dict[str, UtilityDraws | None] = {}

    @cached_property
    def utilities(self) -> Mapping[str, pd.DataFrame]:
        """Dataset to the utilities of its rows; empty if the composite has no score."""
        scheme = self.scheme.utilities
        return {} if scheme is None else {name: scheme(track, self.anchors) for name, track in self.tracks.items()}

    def board(self, weights: Weights, placed: str | None = None) -> pd.DataFrame:
        """Return the leaderboard under these weights; see `board.leaderboard`.

        With bootstrap draws the rows have rank intervals: see `standing.with_places`. If `placed` names a dataset, only
        its rows have them, which is faster.
        """
        if self._given.empty:
            return self._given
        table = self._ranked(self._scores(weights))
        if self._joints is not None:
            table = table.assign(**self._places(table, self.draws(weights, placed), placed))
        varying = {column: table[column] for column in self._varying}
        return self.rows.loc[table.index].assign(**varying).reset_index(drop=True)

    def draws(self, weights: Weights, placed: str | None = None) -> dict[str, ScoreDraws]:
        """Return the score draws of each dataset's entries; a dataset without draws or scores is left out.

        If `placed` names a dataset, only the draws that its rank intervals need are returned.
        """
        alone = placed is not None and not placed.startswith(OVERALL)
        found = {}
        for name in self.tracks:
            if alone and name != placed:
                continue
            if name not in self._drawn:
                self._drawn[name] = self._drawn_utilities(name)
            drawn = self._drawn[name]
            if drawn is not None:
                found[name] = drawn.under(weights)
        return found

    def _drawn_utilities(self, name: str) -> UtilityDraws | None:
        joint = (self._joints or {}).get(name)
        if joint is None or not self.utilities:
            return None
        complete = self.utilities[name].notna().all(axis=1)
        return drawn_utilities(self.tracks[name][complete], joint, self.anchors, self.composite)

    def _scores(self, weights: Weights) -> pd.Series[float]:
        """Return the score of each of `rows`; missing if a component is, or if the composite has no score."""
        if not self.utilities:
            return pd.Series(np.nan, index=self.rows.index, dtype="float64")
        scores = weighted(self._all_utilities, weights, self.scheme.link)
        if not self._covered:
            return scores
        own = self._given["track"].isin(self._covered)
        groups = scores[own].groupby(self._given.loc[own, "name"])
        mean = groups.mean().where(groups.count() == len(self._covered))
        names = self.rows["name"].iloc[len(self._given) :]
        return pd.concat([scores, names.map(mean).astype("float64")])

    def _places(self, table: pd.DataFrame, draws: Mapping[str, ScoreDraws], placed: str | None) -> Mapping[str, Any]:
        """Return SCORE_COLUMNS of the ranked `table`; missing in rows that were not requested by `placed`."""
        asked = {name: own for name, own in draws.items() if placed in (None, name)}
        if self._covered and (placed is None or placed.startswith(OVERALL)) and set(self._covered) <= set(draws):
            asked[OVERALL] = mean_draws([draws[t] for t in self._covered])
        parts = [with_places(table[table["part"] == name], own) for name, own in asked.items()]
        found = pd.concat(parts).reindex(table.index) if parts else with_places(table, None)
        return {column: found[column] for column in SCORE_COLUMNS}

    @cached_property
    def _varying(self) -> tuple[str, ...]:
        """Columns that depend on the weights."""
        return ("score", "rank", *(SCORE_COLUMNS if self._joints is not None else ()))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Rows of all datasets, then the overall rows, numbered; columns that depend on the weights are empty."""
        if self._given.empty:
            return self._given
        rows = self._given.assign(**dict.fromkeys(self._varying))
        if not self._covered:
            return rows
        rows = pd.concat([rows, overall(self._given, self._covered)], ignore_index=True)
        if self._ties is not None:
            means = rows["dataset"] == OVERALL
            for column in TIES:
                rows.loc[means, column] = rows.loc[means, "name"].map(self._ties[column])
        return rows

    @cached_property
    def _layers(self) -> pd.Series[float] | None:
        """Minus the Pareto layer of error, latency and memory of each row; None if the composite has a score."""
        if self.scheme.utilities is not None:
            return None
        return pd.concat(
            [_minus_layer(rows) for rows in (*self.tracks.values(), self.rows.loc[len(self._given) :]) if len(rows)]
        ).sort_index()

    def _ranked(self, scores: pd.Series[float]) -> pd.DataFrame:
        """Return NARROW of `rows` with scores and ranks, the best score of each part first.

        Ranks are among the clean rows of the part, or among all of them if none is clean. Without a score, the Pareto
        layer is the rank.
        """
        table = self._narrow.assign(score=scores)
        order = table["score"] if self._layers is None else self._layers
        known = order.notna()
        clean = known & ~table["provisional"]
        ranked = clean.where(clean.groupby(table["part"]).transform("any"), known)
        ranks = order.where(ranked).groupby(table["part"])
        table["rank"] = ranks.rank(ascending=False, method="min" if self._layers is None else "dense").astype("Int64")
        return table.sort_values(
            ["part", "rank", "score", "accuracy"], ascending=[True, True, False, False], na_position="last"
        )

    @cached_property
    def _narrow(self) -> pd.DataFrame:
        """NARROW of `rows`, and the part of the leaderboard of each row: its dataset, or overall."""
        parts = [*self.tracks, *([OVERALL] if self._covered else [])]
        own = self.rows["track"].where(self.rows["dataset"] != OVERALL, OVERALL)
        made = self.rows[NARROW].assign(part=pd.Categorical(own, categories=parts, ordered=True))
        return made.astype({"provisional": bool})

    @cached_property
    def _all_utilities(self) -> pd.DataFrame:
        return pd.concat(self.utilities.values()).sort_index()

    @cached_property
    def complete(self) -> Mapping[str, pd.DataFrame]:
        """Dataset to WORTH of its rows with a score; empty if the composite has no score."""
        return {
            name: self.tracks[name].loc[utilities.notna().all(axis=1), WORTH]
            for name, utilities in self.utilities.items()
        }

    @cached_property
    def zeros(self) -> Mapping[str, pd.Series[Any]]:
        """Dataset to the row of its baseline, which has skill 0; a dataset without one is left out."""
        found = {name: track[track["name"] == track["base_name"]] for name, track in self.tracks.items()}
        return {name: rows.iloc[0] for name, rows in found.items() if len(rows)}

    @cached_property
    def spreads(self) -> Mapping[str, pd.Series[float]]:
        """Dataset to the standard deviation of each utility over its complete rows; empty if there is no score."""
        return {name: spread(utilities) for name, utilities in self.utilities.items()}


def _minus_layer(rows: pd.DataFrame) -> pd.Series[float]:
    """Return minus the Pareto layer of the rows of one dataset, or of the overall rows.

    Missing for a row without all three costs, and for one that is not clean if others are.
    """
    costs = [1 - rows["accuracy"], rows["latency_p50_s"], rows["memory_peak_batch1_bytes"]]
    clean = ~rows["provisional"].astype(bool) & rows["latency_p50_s"].notna()
    fit = clean if clean.any() else pd.Series(True, index=rows.index)
    fit &= rows.get("on_all", True)
    return pd.Series(-layers(np.stack([c.astype(float).where(fit) for c in costs], axis=1)), index=rows.index)


@dataclass(frozen=True)
class Robustness:
    """How robust the order of one track is to changes of weights and scores."""

    track: str
    first: str
    stability: Stability
    """Over bootstrap draws of quality and Dirichlet draws of the weights."""
    flip: Flip | None
    """Smallest change of weights that changes the leader; None where no weights put another entry first."""
    weights: Weights

    def to_record(self) -> dict[str, object]:
        """Return plain values; `p_rank` has a list for each entry, with ranks in order."""
        flip = None if self.flip is None else {
            "rival": self.flip.rival,
            "weights": dict(zip(CRITERIA, self.flip.weights.tolist(), strict=True)),
            "distance": self.flip.distance,
        }  # fmt: skip
        return {
            "track": self.track,
            "p_rank": dict(zip(self.stability.names, self.stability.p_rank.tolist(), strict=True)),
            "expected_rank": dict(zip(self.stability.names, self.stability.expected_rank.tolist(), strict=True)),
            "kendall_tau": self.stability.kendall_tau,
            "closest_flip": flip,
        }


def robustness(board: pd.DataFrame, scoring: Scoring, weights: Weights) -> list[Robustness]:
    """Return how robust the order of each track of `board` is, which `scoring` made under `weights`.

    Tracks with fewer than two ranked entries, or whose examples cannot be paired, are left out; empty without a score.
    """
    found = []
    for name, draws in scoring.draws(weights).items():
        rows = board[board["track"] == name]
        names = rows.loc[rows["rank"].notna(), "name"].tolist()
        if len(names) < 2:
            continue
        own, score = (frame.set_index("name") for frame in (scoring.tracks[name], rows))
        utilities = scoring.utilities[name].set_axis(own.index).loc[names]
        found.append(
            Robustness(
                track=name,
                first=str(names[0]),
                stability=stability(names, score.loc[names, "score"].to_numpy(dtype=float), draws.of(names).free),
                flip=closest_flip(names, utilities.to_numpy(dtype=float), weights.as_series().to_numpy()),
                weights=weights,
            )
        )
    return found
