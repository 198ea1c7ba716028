"""Scores, ranks and rank intervals of the same entries under any weights.

What does not depend on the weights is computed once, because a slider waits for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.leaderboard import candidates, speed_for_score
from moodbench.statistics.bootstrap import BootstrapDraws
from moodbench.statistics.composite import (
    Anchors,
    Composite,
    Weights,
    get_composite,
    layers,
    load_anchors,
    spread,
    utilities_of,
    values_of,
)
from moodbench.statistics.overall import OVERALL, TIES, items_of_mean, overall
from moodbench.statistics.rank_intervals import num_draws_of_pairs, rank_all

Floats = npt.NDArray[np.float64]
RANKING_COLUMNS = ["name", "provisional", "trivial", "accuracy"]
"""Columns on which a rank depends besides the score."""
SCORE_COLUMNS = ("rank_low", "rank_high", "p_best")
"""Columns added by `with_score_ranks`; null if unknown."""
CONCENTRATION = 20.0
"""Concentration of the Dirichlet distribution around the weights: P(best) does not depend on their second digit."""
EXCHANGE_COLUMNS = ["name", "accuracy", "latency_p50_s", "base_accuracy", "ceiling_accuracy"]
"""Columns from which the value of a point of accuracy is computed."""


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


class Scoring:
    """Entries of a leaderboard, scored by one composite; `leaderboard` returns the rows for one choice of weights."""

    def __init__(
        self,
        rows: pd.DataFrame,
        covered: Sequence[str],
        *,
        composite: str = "pinned",
        draws: Mapping[str, BootstrapDraws] | None = None,
        ties: pd.DataFrame | None = None,
    ) -> None:
        """Prepare `rows`, the result of `leaderboard.entries`; `covered` are the tracks of the overall rows.

        `draws` are the bootstrap draws by dataset, from which rank intervals are computed; `ties` is the result of
        `overall.mean_ties`.
        """
        self.scheme: Composite = get_composite(composite)
        self.anchors, self.composite, self._bootstrap, self._ties = load_anchors(), composite, draws, ties
        self._given, self._covered = rows.reset_index(drop=True), covered
        grouped = self._given.groupby("track", sort=False) if len(rows) else ()
        self.tracks = {str(name): track.assign(**speed_for_score(track)) for name, track in grouped}
        """Dataset to its rows, with the speed that counts for the score."""
        self._drawn: dict[str, UtilityDraws | None] = {}

    @cached_property
    def utilities(self) -> Mapping[str, pd.DataFrame]:
        """Dataset to the utilities of its rows; empty if the composite has no score."""
        if self.scheme.utilities is None:
            return {}
        return {name: utilities_of(track, self.scheme, self.anchors) for name, track in self.tracks.items()}

    def leaderboard(self, weights: Weights, ranked_track: str | None = None) -> pd.DataFrame:
        """Return the ranked rows under these weights: those of each dataset, then the overall rows, best first.

        With bootstrap draws the rows have rank intervals: see `with_score_ranks`. If `ranked_track` names a track, only
        its rows have them, which is faster.
        """
        if self._given.empty:
            return self._given
        table = self._ranked(self._scores(weights))
        if self._bootstrap is not None:
            table = table.assign(**self._rank_columns(table, self.draws(weights, ranked_track), ranked_track))
        varying = {column: table[column] for column in self._varying}
        return self.rows.loc[table.index].assign(**varying).reset_index(drop=True)

    def draws(self, weights: Weights, ranked_track: str | None = None) -> dict[str, ScoreDraws]:
        """Return the score draws of each dataset's entries; a dataset without draws or scores is left out.

        If `ranked_track` names a dataset, only the draws that its rank intervals need are returned.
        """
        alone = ranked_track is not None and not ranked_track.startswith(OVERALL)
        found = {}
        for name in self.tracks:
            if alone and name != ranked_track:
                continue
            if name not in self._drawn:
                self._drawn[name] = self._drawn_utilities(name)
            drawn = self._drawn[name]
            if drawn is not None:
                found[name] = drawn.under(weights)
        return found

    def _drawn_utilities(self, name: str) -> UtilityDraws | None:
        if not self.utilities:
            return None
        complete, draws = self.utilities[name].notna().all(axis=1), (self._bootstrap or {}).get(name)
        return utility_draws(self.tracks[name][complete], draws, self.anchors, self.scheme)

    def _scores(self, weights: Weights) -> pd.Series[float]:
        """Return the score of each of `rows`; missing if a component is, or if the composite has no score."""
        if not self.utilities:
            return pd.Series(np.nan, index=self.rows.index, dtype="float64")
        scores = self.scheme.score(self._all_utilities, weights)
        if not self._covered:
            return scores
        own = self._given["track"].isin(self._covered)
        groups = scores[own].groupby(self._given.loc[own, "name"])
        mean = groups.mean().where(groups.count() == len(self._covered))
        names = self.rows["name"].iloc[len(self._given) :]
        return pd.concat([scores, names.map(mean).astype("float64")])

    def _rank_columns(
        self, table: pd.DataFrame, draws: Mapping[str, ScoreDraws], ranked_track: str | None
    ) -> Mapping[str, Any]:
        """Return SCORE_COLUMNS of the ranked `table`; missing in rows that were not requested by `ranked_track`."""
        requested = {name: own for name, own in draws.items() if ranked_track in (None, name)}
        if (
            self._covered
            and (ranked_track is None or ranked_track.startswith(OVERALL))
            and set(self._covered) <= set(draws)
        ):
            requested[OVERALL] = mean_score_draws([draws[t] for t in self._covered])
        parts = [with_score_ranks(table[table["part"] == name], own) for name, own in requested.items()]
        found = pd.concat(parts).reindex(table.index) if parts else with_score_ranks(table, None)
        return {column: found[column] for column in SCORE_COLUMNS}

    @cached_property
    def _varying(self) -> tuple[str, ...]:
        """Columns that depend on the weights."""
        return ("score", "rank", *(SCORE_COLUMNS if self._bootstrap is not None else ()))

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
            if "trivial" in rows:
                rows.loc[means & rows["trivial"].eq(True), ["tied_best", "tied_f1"]] = False
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
        """Return RANKING_COLUMNS of `rows` with scores and ranks, the best score of each part first.

        Trivial rows, which are no better than chance, have no rank. Ranks are among the clean rows of the part, or
        among all others if none is clean. Without a score, the Pareto layer is the rank.
        """
        table = self._ranking_rows.assign(score=scores)
        order = table["score"] if self._layers is None else self._layers
        known = order.notna() & ~table["trivial"]
        clean = known & ~table["provisional"]
        ranked = clean.where(clean.groupby(table["part"]).transform("any"), known)
        ranks = order.where(ranked).groupby(table["part"])
        table["rank"] = ranks.rank(ascending=False, method="min" if self._layers is None else "dense").astype("Int64")
        return table.sort_values(
            ["part", "rank", "score", "accuracy"], ascending=[True, True, False, False], na_position="last"
        )

    @cached_property
    def _ranking_rows(self) -> pd.DataFrame:
        """RANKING_COLUMNS of `rows`, and the part of the leaderboard of each row: its dataset, or overall."""
        parts = [*self.tracks, *([OVERALL] if self._covered else [])]
        own = self.rows["track"].where(self.rows["dataset"] != OVERALL, OVERALL)
        made = self.rows.reindex(columns=RANKING_COLUMNS)
        made = made.assign(part=pd.Categorical(own, categories=parts, ordered=True), trivial=made["trivial"].eq(True))
        return made.astype({"provisional": bool})

    @cached_property
    def _all_utilities(self) -> pd.DataFrame:
        return pd.concat(self.utilities.values()).sort_index()

    @cached_property
    def complete(self) -> Mapping[str, pd.DataFrame]:
        """Dataset to EXCHANGE_COLUMNS of its rows with a score; empty if the composite has no score."""
        return {
            name: self.tracks[name].loc[utilities.notna().all(axis=1), EXCHANGE_COLUMNS]
            for name, utilities in self.utilities.items()
        }

    @cached_property
    def baselines(self) -> Mapping[str, pd.Series[Any]]:
        """Dataset to the row of its baseline, which has skill 0; a dataset without one is left out."""
        found = {name: track[track["name"] == track["base_name"]] for name, track in self.tracks.items()}
        return {name: rows.iloc[0] for name, rows in found.items() if len(rows)}

    @cached_property
    def spreads(self) -> Mapping[str, pd.Series[float]]:
        """Dataset to the standard deviation of each utility over its complete rows; empty if there is no score."""
        return {name: spread(utilities) for name, utilities in self.utilities.items()}


def _minus_layer(rows: pd.DataFrame) -> pd.Series[float]:
    """Return minus the Pareto layer of the rows of one dataset, or of the overall rows.

    Missing for a row without all three costs, and for one that is no candidate: see `leaderboard.candidates`.
    """
    costs = [1 - rows["accuracy"], rows["latency_p50_s"], rows["memory_peak_batch1_bytes"]]
    known = rows[rows["latency_p50_s"].notna()]
    fit = candidates(known).reindex(rows.index, fill_value=False)
    return pd.Series(-layers(np.stack([c.astype(float).where(fit) for c in costs], axis=1)), index=rows.index)


def utility_draws(
    rows: pd.DataFrame, draws: BootstrapDraws | None, anchors: Anchors, composite: Composite
) -> UtilityDraws | None:
    """Return the utilities of `rows` of one dataset, all with a score, in each draw; None without rows, draws or score.

    Quality and its baseline are from the draws; speed varies around that of `rows`.
    """
    if draws is None or composite.utilities is None or rows.empty or not set(rows["name"]) <= set(draws.names):
        return None
    values, base, ceiling = values_of(rows)
    at = [draws.names.index(name) for name in rows["name"]]
    quality = np.stack([draws.accuracy_draws, draws.f1_draws], axis=2)  # (B, entries, 2)
    if rows["base_name"].iloc[0] in draws.names:
        base = quality[:, [draws.names.index(rows["base_name"].iloc[0])]]
    speed = np.broadcast_to(values[:, 2:], (len(quality), *values[:, 2:].shape))
    if draws.speed_noise is not None:
        speed = speed * np.exp(draws.speed_noise[:, at, ::-1])  # its latency comes first
    utilities = composite.utilities(np.concatenate([quality[:, at], speed], axis=2), base, ceiling, anchors)
    return UtilityDraws(tuple(rows["name"]), utilities, composite.link, draws.f1_items)


def drawn_weights(weights: Floats, num_draws: int) -> Floats:
    """Return weights `(num_draws, criteria)` from Dirichlet(CONCENTRATION x weights); a weight of 0 stays 0."""
    made = np.zeros((num_draws, len(weights)))
    positive = weights > 0
    made[:, positive] = np.random.default_rng(0).dirichlet(CONCENTRATION * weights[positive], size=num_draws)
    return made


def mean_score_draws(parts: Sequence[ScoreDraws]) -> ScoreDraws:
    """Return the unweighted mean over datasets, for the entries that all of them have."""
    names = [name for name in parts[0].names if all(name in part.names for part in parts)]
    kept = [part.of(names) for part in parts]
    scores, free = (np.mean([getattr(part, what) for part in kept], axis=0) for what in ("scores", "free"))
    return ScoreDraws(tuple(names), scores, free, items_of_mean([part.num_items for part in kept]))


def with_score_ranks(track: pd.DataFrame, draws: ScoreDraws | None) -> pd.DataFrame:
    """Return `track` with SCORE_COLUMNS: the rank interval of each row with a rank, and its probability to be the best.

    Rank, rank interval and probability are about the same score, under the given weights. How the order depends on the
    weights is another question: see `robustness`.
    Source: Mogstad et al. 2024 (rank intervals).
    """
    ranked = track["rank"].notna().to_numpy()
    names = track.loc[ranked, "name"].tolist()
    found = {column: np.full(len(track), np.nan) for column in SCORE_COLUMNS}
    if draws is not None and names and set(names) <= set(draws.names):
        own = draws.of(names)
        few = own.scores[: num_draws_of_pairs(len(names))]
        ranking = rank_all(own.names, track.loc[ranked, "score"].to_numpy(dtype=float), few, own.num_items)
        best = own.scores >= own.scores.max(axis=1, keepdims=True) - 1e-9
        found["rank_low"][ranked], found["rank_high"][ranked] = ranking.low, ranking.high
        found["p_best"][ranked] = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return track.assign(
        rank_low=pd.array(found["rank_low"], dtype="Int64"),
        rank_high=pd.array(found["rank_high"], dtype="Int64"),
        p_best=found["p_best"],
    )
