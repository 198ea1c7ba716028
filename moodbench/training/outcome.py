"""What fitting gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Report = Callable[[Mapping[str, Any]], None]
"""Receives progress: step, num_steps, loss and the like; `note` is a sentence for the person who watches."""


@dataclass(frozen=True)
class CurvePoint:
    """One point of the learning curve."""

    step: int
    loss: float | None
    """Mean training loss since the last point."""
    metric: str | None = None
    validation_score: float | None = None


@dataclass(frozen=True)
class FitOutcome:
    """How a fit went; what was learned is in its folder."""

    num_params: int
    num_trainable: int
    num_train: int
    num_validation: int
    """Validation texts that `validation` rests on: the whole split, or as many as the validation budget allows."""
    train_time_s: float
    """Time spent learning, from the first step to the last, validation runs included."""
    num_texts_trained: int
    """Training texts processed, each pass counted."""
    best_step: int | None
    validation: Mapping[str, float | None]
    """Scores of the kept state on the validation split."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that validation chose."""
    curve: tuple[CurvePoint, ...] = ()
    num_attempts: int = 1
    """Attempts whose work is in it, this one included."""
    validation_time_s: float | None = None
    """Part of the training time that validation took; None where learning and validation are not told apart."""
    peak_memory_bytes: int | None = None
    """The most memory that any of them used; None where that is this process's own peak."""
    num_steps: int | None = None
    """Optimiser steps done; None where nothing is trained by gradients."""
    training_verdict: str | None = None
    """Whether it was trained enough, see `verdict.training_verdict`; None where the learning curve does not say."""
