"""Notes on the score of a leaderboard: effective weights, the worth of a point, how robust the order is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moodbench.analysis.scoring import Scoring
from moodbench.report.formatting import milliseconds
from moodbench.statistics.bootstrap import JointDraws
from moodbench.statistics.composite import (
    CRITERIA,
    Weights,
    effective_shares,
    exchange_rate,
    latency_for_a_point,
)
from moodbench.statistics.pairs import AllPairs
from moodbench.statistics.stability import Flip, Stability, closest_flip, stability

LEAST_SHOWN = 5e-4
"""Smallest detectable difference that is shown; anything less would read 0.0 points."""


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


def robustness_notes(tested: list[Robustness]) -> list[str]:
    """Describe for each track how similar the orders are, and the smallest change of weights that moves the leader."""
    return [
        f"{_short(r.track)}: under weights and texts drawn anew the order keeps a Kendall tau of "
        f"{r.stability.kendall_tau:.2f} to the one shown. {_flip_words(r)}"
        for r in tested
    ]


def _flip_words(r: Robustness) -> str:
    if r.flip is None:
        return f"No weights put another entry before {r.first}."
    if r.flip.distance < 1e-9:
        return f"{r.flip.rival} is level with {r.first}."
    before, after = r.weights.as_series().to_numpy(), r.flip.weights
    moved = ", ".join(
        f"{name} {100 * a:.1f} to {100 * b:.1f} %"
        for name, a, b in zip(CRITERIA, before, after, strict=True)
        if abs(a - b) > 5e-4
    )
    return f"The smallest change of weights that brings another level with {r.first}: {moved} ({r.flip.rival})."


def score_notes(board: pd.DataFrame, scoring: Scoring, weights: Weights) -> list[str]:
    """Return notes on how the score of `board` is made by `scoring`.

    They give the effective share of each criterion and the worth of a point of accuracy.
    """
    if board.empty:
        return []
    scheme, composite = scoring.scheme, scoring.composite
    if scheme.utilities is None:
        return [
            "No score: rank 1 are those whom nobody beats in error, latency and memory at once, "
            "rank 2 those whom only rank 1 beats, and so on."
        ]
    w = ", ".join(f"{100 * v:g}% {k}" for k, v in weights.as_series().items())
    notes = [f"Score: {composite} ({scheme.help}), weights {w}."]
    if composite == "pinned":
        notes += _pinned_notes(scoring, weights)
    shares, worth = [], []
    leaders = board[board["score"].notna()].drop_duplicates("track").set_index("track")["name"]
    for name, rows in scoring.complete.items():
        if len(rows) < 2:
            continue
        share = effective_shares(scoring.spreads[name], weights)
        if not np.isnan(share["accuracy"]):
            shares.append(f"{_short(name)} " + ", ".join(f"{100 * v:.0f}% {k}" for k, v in share.items()))
        first = rows.iloc[rows["name"].tolist().index(leaders[name])]
        spans = [float(np.ptp(rows[c].astype(float))) for c in ("accuracy", "latency_p50_s")]
        seconds = latency_for_a_point(
            composite, weights, scoring.anchors, {str(k): v for k, v in first.items()}, spans[0], spans[1]
        )
        if seconds is not None:
            worth.append(
                f"{_short(name)} {milliseconds(seconds)} ms "
                f"({first['name']}, {milliseconds(first['latency_p50_s'])} ms)"
            )
    if shares:
        notes.append(f"What the weights amount to here, weight x spread among the entries: {'; '.join(shares)}.")
    if worth:
        notes.append(f"1 point of accuracy is worth so much more latency to the first: {'; '.join(worth)}.")
    return notes


def _pinned_notes(scoring: Scoring, weights: Weights) -> list[str]:
    """Return what 0 and 1 mean on each track and what a point weighs there, or that nothing is left to gain."""
    ends, rates, full = [], [], []
    anchors = scoring.anchors
    for name, zero in scoring.zeros.items():
        short = _short(name)
        tops = [1.0 if pd.isna(c) else float(c) for c in (zero["ceiling_accuracy"], zero["ceiling_f1_macro"])]
        if zero["accuracy"] >= tops[0] or zero["f1_macro"] >= tops[1]:
            full.append(f"{short} ({zero['name']} {100 * zero['accuracy']:.1f} % of {100 * tops[0]:.1f} %)")
            continue
        ends.append(f"{short} {zero['name']} {100 * zero['accuracy']:.1f} % to {100 * tops[0]:.1f} %")
        if weights.throughput + weights.latency > 0:
            spans = (tops[0] - float(zero["accuracy"]), tops[1] - float(zero["f1_macro"]))
            rates.append(f"{short} {exchange_rate(weights, anchors, *spans):.1f}x")
    notes = []
    if full:
        notes.append(
            f"No score on data where {anchors.baseline}, its zero, does as well as can be: {'; '.join(full)}. "
            "There is nothing left to gain. Accuracy and speed stand for themselves."
        )
    if ends:
        notes.append(
            f"0 quality is the baseline on the same data, 1 the agreement of two halves of the human raters "
            f"where raters are known, else 100 %; in accuracy: {'; '.join(ends)} (anchors version {anchors.version})."
        )
    if rates:
        notes.append(f"+1 point of accuracy and F1 weighs as much as so many times the speed: {'; '.join(rates)}.")
    return notes


def standing_notes(pairs: Mapping[str, AllPairs], joints: Mapping[str, JointDraws], entries: pd.DataFrame) -> list[str]:
    """Return notes on rank intervals and groups, the noise of speed, and what the pairs of each track can show."""
    if not pairs:
        return []
    return [
        "A rank such as 1–3: the data leave these places open (all pairs at once, 95 %); "
        "entries that share a letter under Groups are not separated in accuracy. "
        f"{_speed_words(joints, entries)}",
        *(f"{_short(track)}: {effect_words(each)}" for track, each in pairs.items()),
    ]


def _speed_words(joints: Mapping[str, JointDraws], entries: pd.DataFrame) -> str:
    """Describe whether rank intervals and Pareto chances include the noise of speed, for measured entries."""
    timed = entries[entries["latency_p50_s"].notna()]
    measured = set(zip(timed["track"], timed["name"], strict=True))
    drawn = [
        bool(moves)
        for track, j in joints.items()
        if j.speed_noise is not None
        for name, moves in zip(j.names, np.ptp(j.speed_noise, axis=0).any(axis=1), strict=True)
        if (track, name) in measured
    ]
    if not any(drawn):
        return "Speed is taken as measured: places and Pareto chances leave its noise out."
    words = "Places and Pareto chances hold the noise of speed, drawn over fresh processes"
    if all(drawn):
        return f"{words}."
    return (
        f"{words}, for {sum(drawn)} of {len(drawn)} results; "
        "that of the others is taken as measured (one process, or other load disturbed the clock)."
    )


def effect_words(each: AllPairs) -> str:
    """Describe the smallest difference that can be found and how many pairs each of two methods separates."""
    about = "these weights" if each.estimand == "checkpoint" else "training again"
    words = "Differences in accuracy found with 80 % power: "
    if each.one_pair < LEAST_SHOWN:
        words += "not known, as most pairs give the same answers"
    else:
        words += f"from {100 * each.one_pair:.1f} points on for one pair"
        median = ""
        if each.num_pairs > 1:
            words += f", from {100 * each.all_pairs:.1f} for all {each.num_pairs} at once"
            median = "median pair; "
        words += f" ({median}new texts, {about})"
    words += f". Pairs separated, all at once: {each.num_separated} of {each.num_pairs} by max-T"
    cross = "" if each.num_holm is None else f", {each.num_holm} by Holm on each pair's own test"
    return f"{words}{cross}."


def _short(track: str) -> str:
    return track.split(" (")[0]
