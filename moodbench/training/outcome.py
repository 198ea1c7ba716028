"""Outcome of a fit, the verdict whether it was trained enough by its learning curve and scores, and longer settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from moodbench.config.schema import TrainDefaults
from moodbench.spec.fit_schedule import steps_of

Report = Callable[[Mapping[str, Any]], None]
"""Callback for progress: step, num_steps, loss and others; `note` is a sentence for the user."""
TrainingVerdict = Literal["ok", "chance", "undertrained", "overfitted"]
NOT_ENOUGH: tuple[TrainingVerdict, ...] = ("chance", "undertrained")
"""Verdicts of fits that were not trained enough, worst first."""
LEVEL = 0.95
"""One-sided confidence level at which the accuracy must exceed the chance level, the share of the majority class."""
LEAST_FALL = 0.05
"""Relative decrease of the mean loss that counts as falling."""
NUM_ERRORS = 2.0
"""Number of standard errors that a difference must exceed."""
T_QUANTILES = {2: 2.920, 4: 2.132}
"""95 % quantiles of Student's t by degrees of freedom, where they exceed NUM_ERRORS."""
LEAST_POINTS = 4
"""Minimum number of losses for which a trend is tested."""
POINTS_OF_QUARTERS = 8
"""Minimum number of losses for comparing the last two quarters of the curve instead of its halves."""
FACTOR = 3
"""Suggested multiple of the training steps for a fit that was too short."""
MAX_EPOCHS = 1000
"""Upper limit of `TrainDefaults.epochs`."""


@dataclass(frozen=True)
class CurvePoint:
    """One point of the learning curve."""

    step: int
    loss: float | None
    """Mean training loss since the previous point."""
    metric: str | None = None
    validation_score: float | None = None


@dataclass(frozen=True)
class FitOutcome:
    """Statistics and scores of a fit; the trained model is in its artifact folder."""

    num_params: int
    num_trainable: int
    num_train: int
    num_validation: int
    """Validation texts behind the scores in `validation`: the whole split, or what the validation budget allows."""
    train_time_s: float
    """Training time from the first to the last step, including validation runs."""
    num_texts_trained: int
    """Training texts processed, summed over epochs."""
    best_step: int | None
    validation: Mapping[str, float | None]
    """Scores of the chosen checkpoint on the validation split."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters selected by validation, and settings that the fit determined."""
    curve: tuple[CurvePoint, ...] = ()
    num_attempts: int = 1
    """Attempts that contributed to the fit, including this one."""
    validation_time_s: float | None = None
    """Part of `train_time_s` spent on validation; None if the two are not measured separately."""
    peak_memory_bytes: int | None = None
    """Peak memory over these attempts; None if it is the peak of this process."""
    num_steps: int | None = None
    """Optimiser steps; None without gradient training."""
    training_verdict: str | None = None
    """Whether training was sufficient, see `training_verdict`; None if the learning curve does not show it."""


def training_verdict(
    curve: Sequence[CurvePoint],
    *,
    best_step: int,
    num_steps: int,
    planned_steps: int,
    accuracy: float,
    num_validation: int,
    majority_share: float,
    validation_size: int,
) -> TrainingVerdict | None:
    """Return whether a fit was trained enough.

    The verdict is the first of these that applies:

    - chance: the validation `accuracy` of the chosen checkpoint, on `num_validation` texts, is not above the chance
      level `majority_share`, the share of their most frequent class, by the exact binomial test.
    - None: the curve has fewer than LEAST_POINTS losses.
    - undertrained: the best checkpoint is the last one, and the training loss still falls (see `is_falling`). Never for
      a fit that stopped early, with `num_steps` below `planned_steps`.
    - overfitted: the best checkpoint is not the last one, and the score of the last validation run, on
      `validation_size` texts, is lower by more than NUM_ERRORS binomial standard errors,
      sqrt(m (1 - m) / `validation_size`) at the mean m of the two scores. Never for nll, which is not a proportion.
    - ok.
    """
    if not is_above_chance(accuracy, num_validation, majority_share):
        return "chance"
    losses = [point.loss for point in curve if point.loss is not None]
    if len(losses) < LEAST_POINTS:
        return None
    validations = {point.step: point for point in curve if point.validation_score is not None}
    last = max(validations, default=best_step)
    if best_step == last:
        return "undertrained" if num_steps >= planned_steps and is_falling(losses) else "ok"
    if validations[last].metric != "nll" and best_step in validations:
        best, final = validations[best_step].validation_score or 0.0, validations[last].validation_score or 0.0
        middle = (best + final) / 2
        if best - final > NUM_ERRORS * math.sqrt(max(middle * (1 - middle), 0.0) / validation_size):
            return "overfitted"
    return "ok"


def is_above_chance(accuracy: float, num_texts: int, majority_share: float) -> bool:
    """Return whether an accuracy is above the chance level, by a one-sided exact binomial test at 5 %.

    The chance level is `majority_share`, the share of the most frequent class. With k = accuracy x n correct answers,
    the test requires P(X >= k) < 0.05 for X binomial with n and `majority_share`. This is equivalent to a lower
    Clopper-Pearson limit above `majority_share`.

    Source: Clopper & Pearson 1934, Biometrika 26:404-413.
    """
    from scipy.special import bdtrc

    return bool(bdtrc(round(accuracy * num_texts) - 1, num_texts, majority_share) < 1 - LEVEL)


def is_falling(losses: Sequence[float]) -> bool:
    """Return whether the training loss still falls at the end of the curve.

    The mean of the last quarter is compared with the mean of the quarter before, each of m points; with fewer than
    POINTS_OF_QUARTERS points, the two halves are compared. The decrease must exceed LEAST_FALL of the earlier mean, and
    NUM_ERRORS standard errors of the difference, sqrt(s1^2 / m + s2^2 / m). If there are so few points that the 95 %
    quantile of Student's t with 2 (m - 1) degrees of freedom is larger than NUM_ERRORS, that quantile is used, so that
    the false-positive rate under noise is at most 5 %.

    Raises: ValueError if there are fewer than LEAST_POINTS losses.
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
    """Return the number of epochs with about FACTOR times `num_steps` steps, at least one more than `epochs`."""
    return max(math.floor(FACTOR * num_steps / steps_per_epoch + 0.5), math.ceil(epochs) + 1)


def longer(train: TrainDefaults, num_train: int, num_steps: int) -> TrainDefaults | None:
    """Return the training settings of a fit with the epochs suggested for it.

    The fit took `num_steps` steps on `num_train` texts. A lower `max_steps` is raised with the epochs. None if
    `MAX_EPOCHS` give no more steps than were planned for the fit.
    """
    planned = steps_of(train, num_train)
    epochs = min(suggested_epochs(num_steps, planned.steps_per_epoch, train.epochs), MAX_EPOCHS)
    most = None if train.max_steps is None else max(train.max_steps, epochs * planned.steps_per_epoch)
    more = train.model_copy(update={"epochs": float(epochs), "max_steps": most})
    return more if steps_of(more, num_train).num_steps > planned.num_steps else None


def longer_of(record: Mapping[Any, Any]) -> TrainDefaults | None:
    """Return `longer` of a fit's record; None if it has no gradient fit."""
    train = json.loads(record["spec"]).get("train") if isinstance(record["spec"], str) else None
    if train is None or pd.isna(record["num_steps"]):
        return None
    return longer(TrainDefaults.model_validate(train), int(record["num_train"]), int(record["num_steps"]))


def worst_training_verdict(verdicts: Iterable[object]) -> TrainingVerdict | None:
    """Return the worst of several verdicts, or None if no fit has one."""
    given = list(verdicts)
    order: tuple[TrainingVerdict, ...] = (*NOT_ENOUGH, "overfitted", "ok")
    return next((verdict for verdict in order if verdict in given), None)
