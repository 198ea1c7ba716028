"""How an order by weighted criteria holds when weights and scores move: P(rank), Kendall's tau, the smallest change that dethrones the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

Floats = npt.NDArray[np.float64]
CONCENTRATION = 20.0
"""Of the Dirichlet distribution around the weights: P(best) does not hang on their second digit."""


@dataclass(frozen=True)
class Stability:
    """How places vary over joint draws of scores; order of contenders as given."""

    names: tuple[str, ...]
    p_rank: Floats
    """`(M, M)`: the chance that the contender (row) has the place (column); ties are shared."""
    kendall_tau: float
    """Mean over the draws of Kendall's tau-b between the drawn scores and the board's; 1 is the same order throughout."""

    @property
    def p_best(self) -> Floats:
        """`(M,)`, adding up to 1."""
        return np.asarray(self.p_rank[:, 0])

    @property
    def expected_rank(self) -> Floats:
        """`(M,)`, 1 is best."""
        return np.asarray(self.p_rank @ np.arange(1, len(self.names) + 1))


def drawn_weights(weights: Floats, num_draws: int, concentration: float = CONCENTRATION, seed: int = 0) -> Floats:
    """`(num_draws, criteria)` from Dirichlet(concentration x weights); a weight of 0 stays 0."""
    made = np.zeros((num_draws, len(weights)))
    positive = weights > 0
    made[:, positive] = np.random.default_rng(seed).dirichlet(concentration * weights[positive], size=num_draws)
    return made


def stability(names: Sequence[str], point: npt.ArrayLike, draws: npt.ArrayLike) -> Stability:
    """The stability of the order by `point` `(M,)` over score `draws` `(B, M)`, of which weights and quality may both vary.

    Source: Lahdelma & Salminen 2001 (SMAA-2, rank acceptability).
    """
    board, drawn = np.asarray(point, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    num, m = drawn.shape
    ahead = (drawn[:, None, :] > drawn[:, :, None] + 1e-12).sum(axis=2)  # how many are better than each
    level = (np.abs(drawn[:, None, :] - drawn[:, :, None]) <= 1e-12).sum(axis=2)  # how many share its place, itself too
    p_rank = np.zeros((m, m))
    for place in range(m):
        p_rank[:, place] = (((ahead <= place) & (place < ahead + level)) / level).mean(axis=0)
    taus = [scipy.stats.kendalltau(board, row).statistic for row in drawn[: min(num, 200)]] if m > 1 else [1.0]
    finite = [t for t in taus if np.isfinite(t)]
    return Stability(tuple(names), p_rank, float(np.mean(finite)) if finite else 1.0)


@dataclass(frozen=True)
class Flip:
    """The smallest change of weights after which another contender is level with the first."""

    rival: str
    weights: Floats
    """The changed weights, adding up to 1."""
    distance: float
    """Sum of the absolute changes, 0 ... 2."""


def closest_flip(names: Sequence[str], utilities: npt.ArrayLike, weights: npt.ArrayLike) -> Flip | None:
    """The change of `weights` `(C,)` smallest in sum that brings a rival level with the first by `utilities` `(M, C)`.

    None where no weights do: the first is nowhere worse than any. Moving a share of weight from criterion i to j
    changes a rival's lead by d_j - d_i, d its utilities minus the first's: all goes to the criterion of the largest d, and is
    taken where d is smallest first. That is the optimum of the linear programme min |w' - w| with w' in the simplex and w' d >= 0.
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
    """With no criterion in its favour, a rival draws level where all weight may go to those in which the two are equal."""
    return bool(float((d.max() - d) @ now) >= -float(d @ now) - 1e-12)
