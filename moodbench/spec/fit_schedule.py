"""How many steps a fit takes, in batches of what size, and when it validates on how many texts: pure functions of the sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moodbench.config.schema import TrainDefaults
from moodbench.spec.resolved import FitSpec

MIN_BATCH_SIZE = 8
"""A batch is not made smaller than this, so that a gradient is the mean of more than a few texts."""
MIN_STEPS_PER_EPOCH = 8
"""With fewer, and `min_steps` above 0, the batch is made smaller."""
MIN_VALIDATION_TEXTS = 100
"""No score rests on fewer texts of a split that has them: the standard error of an accuracy of 0.8 is then 0.04."""
TRAINING_COST = 2.5
"""Forward passes that training on a text takes as long as; see moodbench.estimate.duration.fine_tune_s."""


@dataclass(frozen=True)
class Steps:
    """The optimiser steps of a fit."""

    num_train: int
    batch_size: int
    """Training texts per step; the last step of an epoch may have fewer."""
    num_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a pass over the training split."""
        return max(1, math.ceil(self.num_train / self.batch_size))

    @property
    def epochs(self) -> float:
        """Passes over the training split."""
        return self.num_steps / self.steps_per_epoch

    @property
    def num_texts(self) -> int:
        """Training texts processed by the end, each pass counted."""
        return self.texts_at(self.num_steps)

    def texts_at(self, step: int) -> int:
        """Return how many training texts were processed after `step` steps, each pass counted."""
        passes, rest = divmod(step, self.steps_per_epoch)
        return passes * self.num_train + min(rest * self.batch_size, self.num_train)


@dataclass(frozen=True)
class Schedule(Steps):
    """The steps of a fit and its validation runs."""

    look_steps: tuple[int, ...]
    """Steps after which the fit validates, in order; the last is the last step."""
    look_size: int
    """Validation texts of each of them."""
    final_size: int
    """Validation texts on which the chosen checkpoint is scored; equal to `look_size`, it is scored by its look."""

    @property
    def num_validation_texts(self) -> int:
        """Validation texts processed by the end, each run counted."""
        final = 0 if self.final_size == self.look_size else self.final_size
        return len(self.look_steps) * self.look_size + final


def steps_of(train: TrainDefaults, num_train: int) -> Steps:
    """Return the steps of a fit on `num_train` texts: those of its epochs, but within `min_steps` and `max_steps`."""
    one = Steps(num_train, _batch_size(train, num_train), 1)
    num_steps = max(math.ceil(train.epochs * one.steps_per_epoch), train.min_steps)
    if train.max_steps is not None:
        num_steps = min(num_steps, train.max_steps)
    return Steps(num_train, one.batch_size, num_steps)


def schedule_of(train: TrainDefaults, num_train: int, num_validation: int) -> Schedule:
    """Return the steps and validation runs of a fit.

    The recipe's wishes hold as far as validation takes no more than `validation_share` of the time, an early stop not
    foreseen. Beyond that, looks see a part of the validation split, and there are fewer of them where the part would be
    below MIN_VALIDATION_TEXTS. The chosen checkpoint is then scored on the whole split where two looks are possible besides,
    else on what half of the budget allows. With one look left, it is that score, on what the whole budget allows.
    """
    steps = steps_of(train, num_train)
    num_looks = _wished_looks(train, steps)
    share = train.validation_share
    budget = TRAINING_COST * steps.num_texts * share / (1 - share) if share < 1 else math.inf
    num_looks, look_size, final_size = _within(budget, num_looks, num_validation)
    looks = tuple(math.ceil(number * steps.num_steps / num_looks) for number in range(1, num_looks + 1))
    return Schedule(steps.num_train, steps.batch_size, steps.num_steps, looks, look_size, final_size)


def num_trained_on(fit: FitSpec, num_train: int) -> int:
    """Return how many of `num_train` texts of the training split, changed copies included, an epoch of `fit` goes through."""
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


def _wished_looks(train: TrainDefaults, steps: Steps) -> int:
    """Return how many looks the recipe asks for; epochs that are only there for `min_steps` bring none of their own."""
    of_epochs = math.ceil(round(min(train.epochs, steps.epochs) * train.evaluations_per_epoch, 9))
    wished = max(of_epochs, math.ceil(steps.num_steps / train.max_evaluation_steps))
    return min(wished, steps.num_steps)


def _within(budget: float, num_looks: int, num_validation: int) -> tuple[int, int, int]:
    """Return looks, texts per look and texts of the last score; `budget` counts the texts of all."""
    least = min(MIN_VALIDATION_TEXTS, num_validation)
    if num_looks * num_validation <= budget:
        return num_looks, num_validation, num_validation
    if num_validation == least:
        return max(1, int(budget // num_validation)), num_validation, num_validation
    final_size = num_validation if budget >= num_validation + 2 * least else int(budget / 2)
    affordable = min(num_looks, int((budget - final_size) // least))
    if affordable < 2:
        size = min(num_validation, max(least, int(budget)))
        return 1, size, size
    look_size = min(num_validation, int((budget - final_size) // affordable))
    return affordable, look_size, final_size
