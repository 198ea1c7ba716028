"""The leaderboard as one reader sees it: the rows shown, the answer in a sentence, the best of each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from moodbench.analysis.leaderboard import OVERALL
from moodbench.report.formatting import missing, on_all, valid
from moodbench.report.training_notes import OF_RECIPES, not_trained_enough
from moodbench.report.url_state import State

PRESETS: Mapping[str, tuple[int, int, int, int]] = {
    "Balanced": (30, 30, 20, 20),
    "Most accurate": (50, 50, 0, 0),
    "Quality first": (40, 40, 10, 10),
    "Fastest": (0, 0, 50, 50),
}
"""Preset name to the weights of accuracy, F1, throughput and latency."""
HIGHER = ("score", "accuracy", "f1_macro", "precision_macro", "recall_macro", "mcc", "auroc", "throughput_texts_per_s")
LOWER = ("latency_p50_s", "latency_p99_s", "memory_peak_batch1_bytes", "train_time_s", "nll", "brier", "ece")

DRAWN_ANEW = (
    "over joint draws of the test texts, the seeds, the speed where several processes measured it, "
    "and the weights (Dirichlet around those shown)"
)
"""Sources of variation in rank probabilities, in words."""

TIED: Mapping[str, str] = {"accuracy": "tied_best", "f1_macro": "tied_f1", "latency_p50_s": "tied_latency"}
"""Column to the column that flags the rows not separated from its best."""


def chosen_track(tracks: Sequence[str], state: State) -> str:
    """Return the one of `tracks` that `state` names, else `overall`, else the first."""
    if state.track in tracks:
        return state.track
    together = [t for t in tracks if t.startswith(OVERALL)]
    return (together or list(tracks))[0]


def visible(rows: pd.DataFrame, state: State, families: Mapping[str, str]) -> pd.DataFrame:
    """Return the `rows` that pass the search and the filters, with the ranks and groups of the whole leaderboard."""
    keep = pd.Series(True, index=rows.index)
    terms = [t.strip().lower() for t in state.search.split(";") if t.strip()]
    if terms:
        text = (rows["name"] + " " + rows["model"].map(families).fillna("") + " " + rows["method"]).str.lower()
        keep &= text.map(lambda words: any(term in words for term in terms))
    if state.methods:
        keep &= rows["method"].isin(state.methods)
    if state.max_params is not None:
        keep &= rows["num_params"] <= state.max_params * 1e6
    return rows[keep]


def answer(track: pd.DataFrame) -> str:
    """Describe the result of a track in words.

    It says who leads under these weights and how sure that is, who has a better score but no rank, and who was not
    trained enough.
    """
    ranked = track[track["rank"].notna()]
    ahead, short = _ahead_without_place(track, ranked), not_trained_enough(ranked)
    text = _leader(ranked)
    if len(ahead):
        be = "have better scores" if len(ahead) > 1 else "has a better score"
        text += f" {listed(ahead)} {be}, from a clock that other load disturbed, and so no place."
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
    return list(track.loc[track["rank"].isna() & (track["score"] > ranked["score"].iloc[0]), "name"])


def _leader(ranked: pd.DataFrame) -> str:
    if ranked.empty:
        return (
            "No entry has a score here yet: a score needs quality, throughput and latency, and the baseline's result."
        )
    first = ranked.iloc[0]
    if missing(first["score"]):
        front = listed(list(ranked.loc[ranked["rank"] == 1, "name"]))
        return f"Nobody beats {front} in error, latency and memory at once."
    score = f"{first['score']:.1f}{'*' if first['provisional'] else ''}"
    text = f"{first['name']} leads with a score of {score}"
    if len(ranked) == 1:
        return f"{text}; no other entry has a place here."
    second = ranked.iloc[1]
    if not missing(first.get("p_best")):
        text += f" and is the best with probability {chance(first['p_best'])}"
    if "rank_low" in ranked and ranked["rank_low"].notna().any():
        rivals = ranked.loc[(ranked["rank_low"] == 1) & (ranked["name"] != first["name"]), "name"]
        if len(rivals):
            return f"{text}; {listed(list(rivals))} could be first as well: the data do not separate them."
        return f"{text}; no other entry could be first on these data."
    return f"{text}, {first['score'] - second['score']:.1f} ahead of {second['name']}."


def tied_best(track: pd.DataFrame, columns: Sequence[str] = (*HIGHER, *LOWER)) -> dict[str, set[object]]:
    """Return the index labels of the best rows of each column, and of the rows not separated from them.

    Columns with fewer than two values are left out. Accuracy, F1 and P50 use the bootstrap draws where the leaderboard
    has them (TIED); other columns, and leaderboards without draws, give the best alone. Rows with a disturbed clock do
    not count in timed columns, invalid measurements do not count in measured columns, and rows that miss a dataset do
    not count at all.
    """
    found: dict[str, set[object]] = {}
    measured = on_all(valid(track))
    quiet = measured[~measured["provisional"].astype(bool)]
    for column in columns:
        if column not in track or column not in (*HIGHER, *LOWER):
            continue
        clocked = column in ("score", "throughput_texts_per_s", "latency_p50_s", "latency_p99_s")
        values = (quiet if clocked else measured)[column].dropna().astype(float)
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
