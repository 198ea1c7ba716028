"""The leaderboard of a store with its notes, and what one reader sees of it: the answer, the best of each column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import AREA_COLUMNS, PARETO_COSTS, on_all, valid, without_trivial
from moodbench.analysis.results import REFERENCE_COLUMNS, REFERENCE_HELP, Results, read_results
from moodbench.analysis.robustness import Robustness, robustness
from moodbench.hardware import Hardware
from moodbench.report.formatting import missing
from moodbench.report.notes import (
    OF_RECIPES,
    coverage_note,
    not_trained_enough,
    rank_notes,
    robustness_notes,
    row_notes,
    score_notes,
    search_notes,
    training_notes,
)
from moodbench.statistics.all_pairs import AllPairs
from moodbench.statistics.composite import Weights
from moodbench.statistics.overall import OVERALL
from moodbench.store import Store
from moodbench.tune.result import SearchResult, searches

EXPORTED = [
    "track", "dataset", "num_train", "rank", "name", "model", "method", "quantization", "score", "provisional",
    "accuracy", "accuracy_low", "accuracy_high", "interval_method", "estimand",
    "f1_macro", "precision_macro", "recall_macro", "mcc", "auroc", "nll", "brier", "ece",
    "latency_p50_s", "latency_p99_s", "throughput_texts_per_s", "throughput_tokens_per_s", "throughput_batch_size",
    "memory_peak_batch1_bytes", "memory_libraries_bytes", "memory_weights_bytes", "memory_working_bytes",
    "memory_peak_bytes", "weights_bytes", "cold_start_s",
    "train_time_s", "num_steps", "training_verdict", "num_params", "num_trainable", "num_seeds", "num_test",
    "verdict", "quick", "device_name", "config_id", "fit_ids",
    "trivial", "rank_low", "rank_high", "p_best",
    "accuracy_rank_low", "accuracy_rank_high", "accuracy_letters", "tied_best",
    "f1_low", "f1_high", "tied_f1", "tied_latency", *PARETO_COSTS.values(), *AREA_COLUMNS.values(),
]  # fmt: skip
"""Columns of `--json` and `--csv`, in base units."""
HIGHER = ("score", "accuracy", "f1_macro", "precision_macro", "recall_macro", "mcc", "auroc", "throughput_texts_per_s")
LOWER = ("latency_p50_s", "latency_p99_s", "memory_peak_batch1_bytes", "train_time_s", "nll", "brier", "ece")
CLOCKED = ("score", "latency_p50_s", "latency_p99_s", "throughput_texts_per_s")
"""Columns that other load on the machine disturbs: provisional rows are then not compared, as in ranks."""

NO_SCORE = "No entry has a score here yet: a score needs quality, throughput, latency and the baseline's result."
CHANCE_ONLY = (
    "No entry is better than always giving the most frequent label, so none leads. More training, or more texts of the "
    "rare classes, would help."
)
DRAWN_FROM = "over bootstrap draws of the test texts, the seeds, and the speed where several processes measured it"
"""Sources of variation in rank intervals and in the probability to be the best, in words."""

TIED: Mapping[str, str] = {"accuracy": "tied_best", "f1_macro": "tied_f1", "latency_p50_s": "tied_latency"}
"""Column to the column that flags the rows that do not differ significantly from its best."""


@dataclass(frozen=True)
class LeaderboardView:
    """A leaderboard with the notes, failures and statistics shown beside it.

    A track is a dataset at one training size; `overall` is the track of all datasets together.
    """

    rows: pd.DataFrame
    failures: pd.DataFrame
    """Last failed attempt of each phase that has no record yet."""
    notes: tuple[str, ...]
    references: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(REFERENCE_COLUMNS)))
    """Human agreement on the test examples, where raters are known: no entries, so without rank and score."""
    robustness: tuple[Robustness, ...] = ()
    """How robust the order of each track is to changes of weights and scores; only computed on request."""
    searches: tuple[SearchResult, ...] = ()
    """Hyperparameter searches in the store."""
    pairs: Mapping[str, AllPairs] = field(default_factory=dict)
    """Detectable differences of the tests of all pairs, by track or `overall`."""

    def pairs_of(self, name: str) -> AllPairs | None:
        """Return what the tests of all pairs of a track can detect; None where its examples cannot be paired."""
        return self.pairs.get(OVERALL if name.startswith(OVERALL) else name)

    def references_of(self, name: str) -> pd.DataFrame:
        """Return the human reference rows of one track."""
        return self.references[self.references["track"] == name]

    @property
    def tracks(self) -> list[str]:
        """Names of the tracks, in order."""
        return [] if self.rows.empty else list(dict.fromkeys(self.rows["track"]))

    def track(self, name: str) -> pd.DataFrame:
        """Return the rows of one track."""
        return self.rows[self.rows["track"] == name]

    def reference_records(self) -> list[dict[str, Any]]:
        """Return the reference rows as plain values in base units, None where missing."""
        return _records(self.references)

    def to_records(self) -> list[dict[str, Any]]:
        """Return the rows as plain values in base units, None where missing."""
        return _records(self.rows.reindex(columns=EXPORTED))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return records


@dataclass(frozen=True)
class StoreView:
    """Contents of a store: its results and searches, as a leaderboard with notes under any weights."""

    results: Results
    searches: tuple[SearchResult, ...] = ()

    def leaderboard(
        self,
        weights: Weights | None = None,
        composite: str = "pinned",
        *,
        with_robustness: bool = False,
        ranked_track: str | None = None,
    ) -> LeaderboardView:
        """Return the leaderboard under these weights.

        `with_robustness` adds how robust its order is. `ranked_track` names the only track whose rows get rank
        intervals; by default all rows get them.
        """
        weights, scoring, results = weights or Weights(), self.results.scoring(composite), self.results
        leaderboard = scoring.leaderboard(weights, ranked_track).assign(composite=composite)
        tested = robustness(leaderboard, scoring, weights) if with_robustness else []
        notes = [*score_notes(leaderboard, scoring, weights), *self._lasting_notes, *robustness_notes(tested)]
        if self.searches and not leaderboard.empty:
            notes += search_notes(
                zip(leaderboard["model"], leaderboard["dataset"], leaderboard["config_id"], strict=True), self.searches
            )
        if len(results.references):
            meanings = "; ".join(f"{name}: {what}" for name, what in REFERENCE_HELP.items())
            notes.append(f"ref: human agreement on the same texts, not an entry. {meanings}.")
        return LeaderboardView(
            leaderboard,
            results.records.failures,
            tuple(notes),
            results.references,
            tuple(tested),
            self.searches,
            results.computed.pairs,
        )

    @cached_property
    def _lasting_notes(self) -> list[str]:
        """Notes that do not depend on the scores of the rows."""
        records, computed = self.results.records, self.results.computed
        rows = self.results.rows
        return [
            *coverage_note(rows, list(dict.fromkeys(computed.entries["track"]))),
            *row_notes(rows, records.failures, records.num_elsewhere),
            *training_notes(rows, records.fits),
            *rank_notes(computed.pairs, computed.draws, computed.entries),
        ]


def view_leaderboard(
    store: Store,
    machine: Hardware,
    *,
    weights: Weights | None = None,
    composite: str = "pinned",
    dataset: str | None = None,
) -> LeaderboardView:
    """Return the leaderboard of `store` as seen from `machine`.

    Speeds are those of this machine type if it was measured, otherwise those of the most common one.
    """
    shown = StoreView(read_results(store, machine, dataset), searches(store))
    return shown.leaderboard(weights, composite, with_robustness=True)


def answer(track: pd.DataFrame) -> str:
    """Describe the result of a track in words.

    It says who leads under these weights and how sure that is, who has a better score but no rank, and who was not
    trained enough. A model that is no better than chance never leads.
    """
    ranked = track[track["rank"].notna()]
    ahead, short = _ahead_without_place(track, ranked), not_trained_enough(ranked)
    text = _leader(ranked, CHANCE_ONLY if len(track) and without_trivial(track).empty else NO_SCORE)
    if len(ahead):
        be = "score higher" if len(ahead) > 1 else "scores higher"
        text += f" {listed(ahead)} {be}, but without a rank, because other load disturbed the clock."
    if len(short) and len(ranked) > 1:
        be = "were" if len(short) > 1 else "was"
        text += (
            f" {listed(short)} {be} not trained enough: "
            f"a difference to {'them' if len(short) > 1 else 'it'} is {OF_RECIPES}."
        )
    return text


def _ahead_without_place(track: pd.DataFrame, ranked: pd.DataFrame) -> list[str]:
    """Return the models that score above the leader but have no rank, because their score is provisional."""
    if ranked.empty or missing(ranked["score"].iloc[0]):
        return []
    disturbed = track["rank"].isna() & track["provisional"].astype(bool)
    return without_trivial(track[disturbed & (track["score"] > ranked["score"].iloc[0])])["name"].tolist()


def _leader(ranked: pd.DataFrame, without_ranks: str) -> str:
    if ranked.empty:
        return without_ranks
    first = ranked.iloc[0]
    if missing(first["score"]):
        front = listed(list(ranked.loc[ranked["rank"] == 1, "name"]))
        return f"The Pareto set of error, latency and memory: {front}."
    score = f"{first['score']:.1f}{'*' if first['provisional'] else ''}"
    text = f"{first['name']} leads with a score of {score}"
    if len(ranked) == 1:
        return f"{text}; no other entry has a rank here."
    second = ranked.iloc[1]
    if not missing(first.get("p_best")):
        text += f" and is the best with probability {chance(first['p_best'])}"
    if "rank_low" in ranked and ranked["rank_low"].notna().any():
        rivals = ranked.loc[(ranked["rank_low"] == 1) & (ranked["name"] != first["name"]), "name"]
        if len(rivals):
            return f"{text}; {listed(list(rivals))} could rank first too: the difference in score is not significant."
        return f"{text}; no other entry could rank first on these data."
    return f"{text}, {first['score'] - second['score']:.1f} ahead of {second['name']}."


def tied_best(track: pd.DataFrame, columns: Sequence[str] = (*HIGHER, *LOWER)) -> dict[str, set[object]]:
    """Return the index labels of the best rows of each column, and of the rows that do not differ significantly.

    Columns with fewer than two values are left out. Accuracy, F1 and P50 use the bootstrap draws where the leaderboard
    has them (TIED); other columns, and leaderboards without draws, give the best alone. Rows with a disturbed clock do
    not count in timed columns, invalid measurements do not count in measured columns, and rows that miss a dataset do
    not count at all, and neither do rows that are no better than chance.
    """
    found: dict[str, set[object]] = {}
    measured = without_trivial(on_all(valid(track)))
    undisturbed = measured[~measured["provisional"].astype(bool)]
    for column in columns:
        if column not in track or column not in (*HIGHER, *LOWER):
            continue
        values = (undisturbed if column in CLOCKED else measured)[column].dropna().astype(float)
        if len(values) > 1:
            best = values.max() if column in HIGHER else values.min()
            tied = track.get(TIED.get(column, ""))
            level = False if tied is None else tied.loc[values.index].eq(True)
            found[column] = set(values.index[(values == best) | level])
    return found


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return the names as a list in words, with those beyond `most` only counted."""
    shown = list(names[:most]) + ([f"{len(names) - most} others"] if len(names) > most else [])
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def chance(value: float) -> str:
    """Format a probability in percent, with over 99 % and under 1 % at the ends."""
    return "over 99 %" if value > 0.99 else "under 1 %" if value < 0.01 else f"{100 * value:.0f} %"
