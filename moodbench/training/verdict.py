"""Whether a fit was trained enough, read from its own learning curve: pure functions of what the fit recorded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from moodbench.training.outcome import CurvePoint

TrainingVerdict = Literal["ok", "chance", "undertrained", "overfitted"]
NOT_ENOUGH: tuple[TrainingVerdict, ...] = ("chance", "undertrained")
"""Verdicts of fits that were not trained enough, the worse first."""
LEVEL = 0.95
"""One-sided level of the bound that accuracy must pass to be above that of always naming the most frequent class."""
LEAST_FALL = 0.05
"""Share by which the mean loss must have fallen to be called falling."""
NUM_ERRORS = 2.0
"""Standard errors that a difference must exceed."""
T_QUANTILES = {2: 2.920, 4: 2.132}
"""Degrees of freedom to the 95 % quantile of Student's t where that is above NUM_ERRORS."""
LEAST_POINTS = 4
"""With fewer losses their trend is unknown."""
POINTS_OF_QUARTERS = 8
"""With fewer losses, halves of the curve are compared in place of its last two quarters."""
FACTOR = 3
"""A fit that was too short is proposed again with about so many times its steps."""


def training_verdict(
    curve: Sequence[CurvePoint],
    *,
    best_step: int,
    num_steps: int,
    planned_steps: int,
    accuracy: float,
    num_validation: int,
    majority_share: float,
    num_look_texts: int,
) -> TrainingVerdict | None:
    """Return whether a fit was trained enough; None where its curve has fewer than LEAST_POINTS losses and it is above chance.

    chance: validation `accuracy` of the chosen checkpoint, on `num_validation` texts, is not above `majority_share`, the
    share of their most frequent class, by the exact binomial test. undertrained: the best checkpoint is the last one, and
    the training loss still falls (see `is_falling`); never for a fit that stopped early, with `num_steps` below
    `planned_steps`. overfitted: the best checkpoint is not the last one, and the score of the last validation run is lower
    by more than NUM_ERRORS binomial standard errors, sqrt(m (1 - m) / `num_look_texts`) at the mean m of the two scores;
    not for nll, which is no share. What holds first, in this order, is the verdict, else ok.
    """
    if not is_above_chance(accuracy, num_validation, majority_share):
        return "chance"
    losses = [point.loss for point in curve if point.loss is not None]
    if len(losses) < LEAST_POINTS:
        return None
    looks = {point.step: point for point in curve if point.validation_score is not None}
    last = max(looks, default=best_step)
    if best_step == last:
        return "undertrained" if num_steps >= planned_steps and is_falling(losses) else "ok"
    if looks[last].metric != "nll" and best_step in looks:
        best, final = looks[best_step].validation_score or 0.0, looks[last].validation_score or 0.0
        middle = (best + final) / 2
        if best - final > NUM_ERRORS * math.sqrt(max(middle * (1 - middle), 0.0) / num_look_texts):
            return "overfitted"
    return "ok"


def is_above_chance(accuracy: float, num_texts: int, majority_share: float) -> bool:
    """Return whether an accuracy is above the share of the most frequent class, by a one-sided 95 % binomial bound.

    With k = accuracy x n right answers: P(X >= k) < 0.05 for X binomial with n and `majority_share`, which is the same as
    a lower Clopper-Pearson limit above that share. Source: Clopper & Pearson 1934, Biometrika 26:404-413.
    """
    return binomial_tail(round(accuracy * num_texts), num_texts, majority_share) < 1 - LEVEL


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X binomial with `n` and `p`."""
    if k <= 0 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    log_p, log_q = math.log(p), math.log1p(-p)
    ways = (math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k, n + 1))
    return math.fsum(math.exp(w + i * log_p + (n - i) * log_q) for i, w in zip(range(k, n + 1), ways, strict=True))


def is_falling(losses: Sequence[float]) -> bool:
    """Return whether the training loss still falls at the end: the mean of its last quarter against the quarter before.

    It must be lower by more than LEAST_FALL of itself and by more than NUM_ERRORS standard errors of the difference,
    sqrt(s1^2 / m + s2^2 / m). With so few points that the 95 % quantile of Student's t with 2 (m - 1) degrees of freedom is
    larger, it takes the place of NUM_ERRORS, so that noise alone passes in at most 5 % of cases. With fewer than
    POINTS_OF_QUARTERS points the two halves are compared. ValueError for fewer than LEAST_POINTS.
    """
    if len(losses) < LEAST_POINTS:
        raise ValueError(f"{len(losses)} losses; {LEAST_POINTS} or more are needed to see a trend")
    size = len(losses) // (4 if len(losses) >= POINTS_OF_QUARTERS else 2)
    before, after = (np.asarray(part, dtype=np.float64) for part in (losses[-2 * size : -size], losses[-size:]))
    fall = float(before.mean() - after.mean())
    error = math.sqrt(float(before.var(ddof=1) + after.var(ddof=1)) / size)
    errors = T_QUANTILES.get(2 * (size - 1), NUM_ERRORS)
    return fall > LEAST_FALL * float(before.mean()) and fall > errors * error


def suggested_epochs(num_steps: int, steps_per_epoch: int, epochs: float) -> int:
    """Return the whole number of epochs of about FACTOR times `num_steps` steps, and of at least one more than `epochs`."""
    return max(math.floor(FACTOR * num_steps / steps_per_epoch + 0.5), math.ceil(epochs) + 1)


def worst_training_verdict(verdicts: Iterable[object]) -> TrainingVerdict | None:
    """Return the worst verdict of several fits; None where there is none."""
    given = list(verdicts)
    order: tuple[TrainingVerdict, ...] = (*NOT_ENOUGH, "overfitted", "ok")
    return next((verdict for verdict in order if verdict in given), None)
