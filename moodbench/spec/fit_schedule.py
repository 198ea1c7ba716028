"""Number of steps, batch size, and validation schedule of a fit: pure functions of the split sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moodbench.config.schema import TrainDefaults
from moodbench.spec.resolved import FitSpec

MIN_BATCH_SIZE = 8
"""Lower limit when the batch size is reduced, so that a gradient is not the mean of only a few texts."""
MIN_STEPS_PER_EPOCH = 8
"""If an epoch has fewer steps and `min_steps` is above 0, the batch size is reduced."""
MIN_VALIDATION_TEXTS = 100
"""Minimum texts per validation run, if the split has as many; an accuracy of 0.8 then has a standard error of 0.04."""
TRAINING_COST = 2.5
"""Time to train on a text, in forward passes; see moodbench.estimate.duration.fine_tune_s."""


@dataclass(frozen=True)
class Steps:
    """The optimiser steps of a fit."""

    num_train: int
    batch_size: int
    """Training texts per step; the last step of an epoch may have fewer."""
    num_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps per pass over the training split."""
        return max(1, math.ceil(self.num_train / self.batch_size))

    @property
    def epochs(self) -> float:
        """Number of passes over the training split."""
        return self.num_steps / self.steps_per_epoch

    @property
    def num_texts(self) -> int:
        """Number of training texts processed by the end, counted once per pass."""
        return self.texts_at(self.num_steps)

    def texts_at(self, step: int) -> int:
        """Return how many training texts were processed after `step` steps, counted once per pass."""
        passes, rest = divmod(step, self.steps_per_epoch)
        return passes * self.num_train + min(rest * self.batch_size, self.num_train)


@dataclass(frozen=True)
class Schedule(Steps):
    """The steps of a fit and its validation runs."""

    validation_steps: tuple[int, ...]
    """Steps after which a validation run takes place, ascending; the last one is the last step of the fit."""
    validation_size: int
    """Validation texts per validation run."""
    final_size: int
    """Validation texts for the score of the best checkpoint; if equal to `validation_size`, its run is reused."""

    @property
    def num_validation_texts(self) -> int:
        """Number of validation texts processed by the end, counted once per run."""
        final = 0 if self.final_size == self.validation_size else self.final_size
        return len(self.validation_steps) * self.validation_size + final


def steps_of(train: TrainDefaults, num_train: int) -> Steps:
    """Return the steps of a fit on `num_train` texts: those of its epochs, limited by `min_steps` and `max_steps`."""
    one = Steps(num_train, _batch_size(train, num_train), 1)
    num_steps = max(math.ceil(train.epochs * one.steps_per_epoch), train.min_steps)
    if train.max_steps is not None:
        num_steps = min(num_steps, train.max_steps)
    return Steps(num_train, one.batch_size, num_steps)


def schedule_of(train: TrainDefaults, num_train: int, num_validation: int) -> Schedule:
    """Return the steps and validation runs of a fit.

    The validation runs are those of the recipe if they take at most `validation_share` of the time, without early
    stopping. Otherwise, each run uses a part of the validation split, and there are fewer runs if that part would be
    below MIN_VALIDATION_TEXTS. The best checkpoint is then scored on the whole split if the budget leaves room for two
    more runs, else on the texts that half of the budget allows. If only one run remains, it is also the final score,
    with the texts that the whole budget allows.
    """
    steps = steps_of(train, num_train)
    num_runs = _num_validation_runs(train, steps)
    share = train.validation_share
    budget = TRAINING_COST * steps.num_texts * share / (1 - share) if share < 1 else math.inf
    num_runs, validation_size, final_size = _fit_to_budget(budget, num_runs, num_validation)
    validations = tuple(math.ceil(number * steps.num_steps / num_runs) for number in range(1, num_runs + 1))
    return Schedule(steps.num_train, steps.batch_size, steps.num_steps, validations, validation_size, final_size)


def num_trained_on(fit: FitSpec, num_train: int) -> int:
    """Return the number of training texts per epoch of `fit`, after sub-sampling and including augmented copies.

    `num_train` is the size of the training split.
    """
    drawn = min(num_train, fit.dataset.max_train_examples or num_train)
    return drawn * (1 + fit.augmentation.copies) if fit.augmentation else drawn


def _batch_size(train: TrainDefaults, num_train: int) -> int:
    largest = train.effective_batch_size
    if not train.min_steps or num_train > (MIN_STEPS_PER_EPOCH - 1) * largest:
        return largest
    size = MIN_BATCH_SIZE
    while num_train > (MIN_STEPS_PER_EPOCH - 1) * 2 * size:
        size *= 2
    return min(size, largest)


def _num_validation_runs(train: TrainDefaults, steps: Steps) -> int:
    """Return how many validation runs the recipe requests; epochs added only to reach `min_steps` add none."""
    of_epochs = math.ceil(round(min(train.epochs, steps.epochs) * train.evaluations_per_epoch, 9))
    requested = max(of_epochs, math.ceil(steps.num_steps / train.max_evaluation_steps))
    return min(requested, steps.num_steps)


def _fit_to_budget(budget: float, num_runs: int, num_validation: int) -> tuple[int, int, int]:
    """Return the number of validation runs, the texts per run and the texts of the final score.

    `budget` is the maximum number of texts of all of these together.
    """
    least = min(MIN_VALIDATION_TEXTS, num_validation)
    if num_runs * num_validation <= budget:
        return num_runs, num_validation, num_validation
    if num_validation == least:
        return max(1, int(budget // num_validation)), num_validation, num_validation
    final_size = num_validation if budget >= num_validation + 2 * least else int(budget / 2)
    affordable = min(num_runs, int((budget - final_size) // least))
    if affordable < 2:
        size = min(num_validation, max(least, int(budget)))
        return 1, size, size
    validation_size = min(num_validation, int((budget - final_size) // affordable))
    return affordable, validation_size, final_size
