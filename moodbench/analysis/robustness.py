"""Robustness of the order of a leaderboard: rank probabilities, Kendall's tau, smallest weight change that flips it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.scoring import Scoring
from moodbench.statistics.composite import CRITERIA, Weights

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """Variation of the ranks over draws of the scores; entries are in the order given."""

    names: tuple[str, ...]
    p_rank: Floats
    """`(M, M)`: probability that the entry (row) has the rank (column, best first); tied entries share their ranks."""
    kendall_tau: float
    """Mean of Kendall's tau-b between drawn and point scores, over 200 draws at most; 1 is the same order in all."""

    @property
    def p_best(self) -> Floats:
        """Probability of each entry to be the best, `(M,)`; they sum to 1."""
        return np.asarray(self.p_rank[:, 0])

    @property
    def expected_rank(self) -> Floats:
        """Expected rank of each entry, `(M,)`; 1 is best."""
        return np.asarray(self.p_rank @ np.arange(1, len(self.names) + 1))


def stability(names: Sequence[str], point: npt.ArrayLike, draws: npt.ArrayLike) -> Stability:
    """Return the stability of the ranking by `point` `(M,)` over score `draws` `(B, M)`.

    Both weights and quality may vary between draws.
    Source: Lahdelma & Salminen 2001 (SMAA-2, rank acceptability).
    """
    scores, drawn = np.asarray(point, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    m = drawn.shape[1]
    ahead = (drawn[:, None, :] > drawn[:, :, None] + 1e-12).sum(axis=2)  # number of better entries
    level = (np.abs(drawn[:, None, :] - drawn[:, :, None]) <= 1e-12).sum(axis=2)  # number of ties, with itself
    p_rank = np.zeros((m, m))
    for place in range(m):
        p_rank[:, place] = (((ahead <= place) & (place < ahead + level)) / level).mean(axis=0)
    taus = kendall_tau(scores, drawn[:200])
    return Stability(tuple(names), p_rank, float(taus.mean()) if len(taus) else 1.0)


def kendall_tau(point: Floats, draws: Floats) -> Floats:
    """Return Kendall's tau-b between `point` `(M,)` and each of `draws` `(B, M)`, without those that are constant.

    Source: Kendall 1945, The treatment of ties in ranking problems.
    """
    first, second = np.triu_indices(len(point), 1)
    of_point, of_draws = np.sign(point[first] - point[second]), np.sign(draws[:, first] - draws[:, second])
    scale = np.sqrt((of_point**2).sum() * (of_draws**2).sum(axis=1))
    return np.asarray((of_draws @ of_point)[scale > 0] / scale[scale > 0])


@dataclass(frozen=True)
class Flip:
    """Smallest change of weights that brings another entry level with the first."""

    rival: str
    weights: Floats
    """Changed weights, which sum to 1."""
    distance: float
    """Sum of the absolute changes, 0 to 2."""


def closest_flip(names: Sequence[str], utilities: npt.ArrayLike, weights: npt.ArrayLike) -> Flip | None:
    """Return the smallest change of `weights` `(C,)` that brings a rival level with the first by `utilities` `(M, C)`.

    None if no weights do, because the first is nowhere worse than any rival. The size of a change is the sum of its
    absolute values. Let d be a rival's utilities minus the first's: moving a share of weight from criterion i to j
    changes its lead by d_j - d_i times that share. All moved weight goes to the criterion with the largest d, and it
    is taken from the criteria with the smallest d first. This is the optimum of the linear programme min |w' - w| with
    w' in the simplex and w' d >= 0.
    """
    table, now = np.asarray(utilities, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    first = int(np.argmax(table @ now))
    found: list[Flip] = []
    for rival in range(len(names)):
        d = table[rival] - table[first]
        to = int(np.argmax(d))
        behind = -float(d @ now)
        if rival == first or d[to] < 0:
            continue
        changed, needed = now.copy(), max(behind, 0.0)
        for i in np.argsort(d, kind="stable"):
            rate = d[to] - d[i]
            if needed <= 0 or rate <= 0:
                break
            moved = min(float(now[i]), needed / rate)
            changed[i] -= moved
            changed[to] += moved
            needed -= moved * rate
        if needed <= 1e-12:
            found.append(Flip(names[rival], changed, float(np.abs(changed - now).sum())))
    return min(found, key=lambda flip: flip.distance, default=None)


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


def robustness(leaderboard: pd.DataFrame, scoring: Scoring, weights: Weights) -> list[Robustness]:
    """Return how robust the order of each track of `leaderboard` is, which `scoring` made under `weights`.

    Tracks with fewer than two ranked entries, or whose examples cannot be paired, are left out; empty without a score.
    """
    found = []
    for name, draws in scoring.draws(weights).items():
        rows = leaderboard[leaderboard["track"] == name]
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
