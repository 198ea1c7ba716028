"""Stability of a weighted ranking: rank probabilities, Kendall's tau, smallest weight change that flips the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CONCENTRATION = 20.0
"""Concentration of the Dirichlet distribution around the weights: P(best) does not depend on their second digit."""


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


def drawn_weights(weights: Floats, num_draws: int, concentration: float = CONCENTRATION, seed: int = 0) -> Floats:
    """Return weights `(num_draws, criteria)` from Dirichlet(concentration x weights); a weight of 0 stays 0."""
    made = np.zeros((num_draws, len(weights)))
    positive = weights > 0
    made[:, positive] = np.random.default_rng(seed).dirichlet(concentration * weights[positive], size=num_draws)
    return made


def stability(names: Sequence[str], point: npt.ArrayLike, draws: npt.ArrayLike) -> Stability:
    """Return the stability of the ranking by `point` `(M,)` over score `draws` `(B, M)`.

    Both weights and quality may vary between draws.
    Source: Lahdelma & Salminen 2001 (SMAA-2, rank acceptability).
    """
    board, drawn = np.asarray(point, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    m = drawn.shape[1]
    ahead = (drawn[:, None, :] > drawn[:, :, None] + 1e-12).sum(axis=2)  # number of better entries
    level = (np.abs(drawn[:, None, :] - drawn[:, :, None]) <= 1e-12).sum(axis=2)  # number of ties, with itself
    p_rank = np.zeros((m, m))
    for place in range(m):
        p_rank[:, place] = (((ahead <= place) & (place < ahead + level)) / level).mean(axis=0)
    taus = kendall_tau(board, drawn[:200])
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
        if rival == first or d[to] < 0 or (d[to] == 0 and behind > 0 and not _can_reach(d, now)):
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


def _can_reach(d: Floats, now: Floats) -> bool:
    """Return whether a rival that never leads can be level, with all weight on criteria with equal utility."""
    return bool(float((d.max() - d) @ now) >= -float(d @ now) - 1e-12)
