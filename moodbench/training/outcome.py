"""Outcome of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Report = Callable[[Mapping[str, Any]], None]
"""Callback for progress: step, num_steps, loss and others; `note` is a sentence for the user."""


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
    """Whether training was sufficient, see `verdict.training_verdict`; None if the learning curve does not show it."""
