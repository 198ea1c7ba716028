"""What is said beside a board about its score: what the weights amount to, what a point is worth, and how its order holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moodbench.comparison.board import OVERALL, draws_by_track, speed_for_score
from moodbench.comparison.composite import (
    COMPOSITES,
    CRITERIA,
    Anchors,
    Weights,
    effective_shares,
    exchange_rate,
    latency_for_a_point,
    load_anchors,
)
from moodbench.comparison.joint import JointDraws
from moodbench.comparison.pairs import AllPairs
from moodbench.comparison.stability import Flip, Stability, closest_flip, stability


@dataclass(frozen=True)
class Robustness:
    """How the order of one track holds when weights and scores move."""

    track: str
    first: str
    stability: Stability
    """Over joint draws of quality and Dirichlet draws of the weights."""
    flip: Flip | None
    """None where no weights put another contender first."""
    weights: Weights

    def to_record(self) -> dict[str, object]:
        """Plain values; p_rank has a list for each contender, places in order."""
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


def robustness(
    contenders: pd.DataFrame,
    board: pd.DataFrame,
    joints: Mapping[str, JointDraws],
    weights: Weights,
    anchors: Anchors,
    composite: str,
) -> list[Robustness]:
    """For each track with two ranked contenders or more whose answers can be paired; empty without a score."""
    scheme = COMPOSITES[composite]
    if board.empty or scheme.utilities is None:
        return []
    found = []
    drawn = draws_by_track(contenders, joints, weights=weights, anchors=anchors, composite=composite)
    for name, draws in drawn.items():
        rows = board[board["track"] == name]
        ranked = rows[rows["rank"].notna()]
        if len(ranked) < 2:
            continue
        complete = rows[rows["score"].notna()]
        utilities = scheme.utilities(complete.assign(**speed_for_score(complete)), anchors).loc[ranked.index]
        names = ranked["name"].tolist()
        found.append(
            Robustness(
                track=name,
                first=str(names[0]),
                stability=stability(names, ranked["score"].to_numpy(dtype=float), draws.of(names).free),
                flip=closest_flip(names, utilities.to_numpy(dtype=float), weights.as_series().to_numpy()),
                weights=weights,
            )
        )
    return found


def robustness_notes(tested: list[Robustness]) -> list[str]:
    """For each track in words: how alike the orders are, and the smallest change of weights that dethrones the first."""
    return [
        f"{_short(r.track)}: under weights and texts drawn anew the order keeps a Kendall tau of {r.stability.kendall_tau:.2f} to "
        f"the one shown. {_flip_words(r)}"
        for r in tested
    ]


def _flip_words(r: Robustness) -> str:
    if r.flip is None:
        return f"No weights put another contender before {r.first}."
    if r.flip.distance < 1e-9:
        return f"{r.flip.rival} is level with {r.first}."
    before, after = r.weights.as_series().to_numpy(), r.flip.weights
    moved = ", ".join(
        f"{name} {100 * a:.1f} to {100 * b:.1f} %"
        for name, a, b in zip(CRITERIA, before, after, strict=True)
        if abs(a - b) > 5e-4
    )
    return f"The smallest change of weights that brings another level with {r.first}: {moved} ({r.flip.rival})."


def score_notes(board: pd.DataFrame, weights: Weights, composite: str) -> list[str]:
    """How the score is made, the effective share of each criterion, and what a point of accuracy is worth."""
    if board.empty:
        return []
    scheme, anchors = COMPOSITES[composite], load_anchors()
    if scheme.utilities is None:
        return [
            "No score: rank 1 are those whom nobody beats in error, latency and memory at once, rank 2 those whom only rank 1 beats, "
            "and so on."
        ]
    w = ", ".join(f"{100 * v:g}% {k}" for k, v in weights.as_series().items())
    notes = [f"Score: {composite} ({scheme.help}), weights {w}."]
    if composite == "pinned":
        notes += _pinned_notes(board, weights, anchors)
    shares, worth = [], []
    for name, rows in board[board["dataset"] != OVERALL].groupby("track", sort=False):
        complete = rows[rows["score"].notna()]
        if len(complete) < 2:
            continue
        speed = complete.assign(**speed_for_score(complete))
        share = effective_shares(scheme.utilities(speed, anchors), weights)
        if not np.isnan(share["accuracy"]):
            shares.append(f"{_short(str(name))} " + ", ".join(f"{100 * v:.0f}% {k}" for k, v in share.items()))
        first = speed.iloc[0]
        spans = [float(np.ptp(speed[c].astype(float))) for c in ("accuracy", "latency_p50_s")]
        seconds = latency_for_a_point(
            composite, weights, anchors, {str(k): v for k, v in first.items()}, spans[0], spans[1]
        )
        if seconds is not None:
            worth.append(
                f"{_short(str(name))} {1000 * seconds:.3g} ms ({first['name']}, {1000 * first['latency_p50_s']:.3g} ms)"
            )
    if shares:
        notes.append(f"What the weights amount to here, weight x spread among the contenders: {'; '.join(shares)}.")
    if worth:
        notes.append(f"1 point of accuracy is worth so much more latency to the first: {'; '.join(worth)}.")
    return notes


def _pinned_notes(board: pd.DataFrame, weights: Weights, anchors: Anchors) -> list[str]:
    """What 0 and 1 are on each track and what a point weighs there, or that nothing is left to gain."""
    ends, rates, full = [], [], []
    for name, rows in board[board["dataset"] != OVERALL].groupby("track", sort=False):
        base = rows[rows["name"] == rows["base_name"]]
        if base.empty:
            continue
        zero, short = base.iloc[0], _short(str(name))
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
            f"No score on data where {anchors.baseline}, its zero, does as well as can be: {'; '.join(full)}. There is nothing left "
            "to gain. Accuracy and speed stand for themselves."
        )
    if ends:
        notes.append(
            f"0 quality is the baseline on the same data, 1 the agreement of two halves of the human raters where raters are known, "
            f"else 100 %; in accuracy: {'; '.join(ends)} (anchors version {anchors.version})."
        )
    if rates:
        notes.append(f"+1 point of accuracy and F1 weighs as much as so many times the speed: {'; '.join(rates)}.")
    return notes


def standing_notes(pairs: Mapping[str, AllPairs], joints: Mapping[str, JointDraws]) -> list[str]:
    """How ranks are to be read, whose speed is drawn too, and what all pairs of each track can show."""
    if not pairs:
        return []
    return [
        "Rank 1–3: the data leave these places open (all pairs at once, 95 %); contenders that share a letter under Groups are "
        f"not separated in accuracy. {_speed_words(joints)}",
        *(f"{_short(track)}: {effect_words(each)}" for track, each in pairs.items()),
    ]


def _speed_words(joints: Mapping[str, JointDraws]) -> str:
    """Whether places and Pareto chances hold the noise of speed."""
    drawn = [
        bool(moves)
        for j in joints.values()
        if j.speed_noise is not None
        for moves in np.ptp(j.speed_noise, axis=0).any(axis=1)
    ]
    if not any(drawn):
        return "Speed is taken as measured: places and Pareto chances leave its noise out."
    words = "Places and Pareto chances hold the noise of speed, drawn over fresh processes"
    if all(drawn):
        return f"{words}."
    return (
        f"{words}, for {sum(drawn)} of {len(drawn)} results; that of the others is taken as measured (one process, or other load "
        "disturbed the clock)."
    )


def effect_words(each: AllPairs) -> str:
    """The smallest difference that is found and how many pairs two methods separate, in words."""
    about = "these weights" if each.estimand == "checkpoint" else "training again"
    words = f"Differences in accuracy found with 80 % power: from {100 * each.one_pair:.1f} points on for one pair"
    if each.num_pairs > 1:
        words += f", from {100 * each.all_pairs:.1f} for all {each.num_pairs} at once"
    words += f" (new texts, {about}). Pairs separated, all at once: {each.num_separated} of {each.num_pairs} by max-T"
    cross = "" if each.num_holm is None else f", {each.num_holm} by Holm on each pair's own test"
    return f"{words}{cross}."


def _short(track: str) -> str:
    return track.split(" (")[0]
