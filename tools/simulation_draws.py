"""Parts of the simulated worlds: items of shared difficulty, recipes with seed effects, and their true accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.statistics.bootstrap import BootstrapDraws, bootstrap_draws
from moodbench.statistics.intervals import Interval
from moodbench.statistics.paired import paired_f1

Rng = np.random.Generator
Seen = tuple[bool, float | None]
"""Whether an interval covered or a test erred, and the width of the interval."""
Table = npt.NDArray[np.bool_]
NUM_DRAWS = 400
"""Bootstrap draws in each world: fewer than for the leaderboard, which only makes p-values coarser."""
ITEM_SD = 1.5
NUM_MODELS = 6
SPREAD = (0.0, 0.0, 0.1, 0.2, 0.6, 1.2)
"""Logit gap of each model to the best one, in worlds with a true order."""


class World(NamedTuple):
    """Simulated setting: one row of the table."""

    what: str
    world: str
    kind: Literal["covers", "errs"]
    once: Callable[[Rng], Seen]
    times: int = 1
    """Number of draws as a multiple of the usual one: 5 % and 5.6 % are hard to distinguish."""

    @property
    def slow(self) -> bool:
        """Whether one draw takes more than 0.01 s, because of six models at once or of raters."""
        return self.what.startswith(("rank", "max-T", "people"))


SHARP = 16
"""`World.times` of tests that use their whole level."""
FINE = 4
"""`World.times` of intervals whose share must be known to half a point: 93 and 95 % are otherwise hard to distinguish."""
Classes = npt.NDArray[np.int64]


def outcomes(
    rng: Rng, n: int, num_models: int, num_seeds: int, seed_sd: float, item_sd: float, below: Sequence[float] = ()
) -> Table:
    """Return right or wrong `(models, n, seeds)`, from logits that are lower by `below` for each model.

    Items share their difficulty between models; seed effects and chance are each model's own.
    """
    item = 1.5 + item_sd * rng.standard_normal((1, n, 1))
    seed = seed_sd * rng.standard_normal((num_models, 1, num_seeds))
    if len(below):
        seed = seed - np.asarray(below)[:, None, None]
    return np.asarray(rng.random((num_models, n, num_seeds)) < 1 / (1 + np.exp(-item - seed)))


@cache
def truth(seed_sd: float, item_sd: float, below: float = 0.0) -> float:
    """Return the expected accuracy of a recipe of `outcomes`, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    logits = 1.5 - below + np.hypot(item_sd, seed_sd) * nodes
    return float((weights / (1 + np.exp(-logits))).sum() / weights.sum())


def seen(interval: Interval, true: float) -> Seen:
    """Return whether the interval covers the true value, and its width."""
    return interval.low <= true <= interval.high, interval.high - interval.low


def labels(n: int) -> npt.NDArray[np.int64]:
    """Return labels `(n,)` of two classes of equal size."""
    return np.arange(n) % 2


def answers(right: Table) -> list[npt.NDArray[np.int64]]:
    """Return each model's predicted classes, `(n, seeds)` or `(n,)` for one seed, from `right` `(models, n, seeds)`."""
    truths = labels(right.shape[1])[:, None]
    tables = np.where(right, truths, 1 - truths)
    return [t[:, 0] if t.shape[1] == 1 else t for t in tables]


def joint(rng: Rng, right: Table) -> BootstrapDraws:
    """Return the bootstrap draws of models named a, b, ... with outcomes `right` `(models, n, seeds)`."""
    names = [chr(97 + m) for m in range(len(right))]
    draw = int(rng.integers(2**31))
    kinds = ["recipe"] * len(names)
    return bootstrap_draws(
        labels(right.shape[1]), answers(right), names, 2, kinds=kinds, num_draws=NUM_DRAWS, seed=draw
    )


def f1_difference(rng: Rng, truths: Classes, said: Sequence[Classes], true: float, k: int = 2) -> Seen:
    """Return whether the interval of the difference in macro-F1 of two models covers the true one, and its width."""
    found = paired_f1(truths, *said, k, num_draws=NUM_DRAWS, seed=int(rng.integers(2**31)))
    assert found.low is not None and found.high is not None, "no class is tiny"
    return found.low <= true <= found.high, found.high - found.low


def f1_test(rng: Rng, truths: Classes, said: Sequence[Classes], k: int = 2) -> Seen:
    """Return whether the test of the difference in macro-F1 of two equal models errs."""
    found = paired_f1(truths, *said, k, num_draws=NUM_DRAWS // 2, seed=int(rng.integers(2**31)))
    return found.p_value <= 0.05, None
