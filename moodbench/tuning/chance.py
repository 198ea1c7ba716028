"""The score below which a training has learned nothing yet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moodbench.data.source import load_source
from moodbench.metrics import score_all
from moodbench.spec import FitSpec
from moodbench.trial import validation_of

LEVEL = 0.99
"""Of 100 sets of answers that were drawn without reading the texts, 99 score no better than chance."""
NUM_DRAWS = 2_000


def chance_of(metric: str, labels: npt.NDArray[np.int64], num_classes: int) -> float | None:
    """The highest score that answers owe to no reading; None for nll, which moves from the first step.

    Such answers are the same class for every text, or drawn anew for each text with equal chances, or with the shares of the
    classes: a classifier that is not trained yet does the one or the other. Of drawn answers the score at `LEVEL` counts.
    """
    if metric == "nll":
        return None
    always = (np.tile(np.eye(num_classes)[each], (len(labels), 1)) for each in range(num_classes))
    same = max(score_all(logits, labels)[metric] or 0.0 for logits in always)
    sizes = np.bincount(labels, minlength=num_classes)
    generator = np.random.default_rng(0)
    drawn = [
        _drawn_scores(metric, sizes, chances, generator)
        for chances in (np.full(num_classes, 1 / num_classes), sizes / len(labels))
    ]
    return max(same, *(float(np.quantile(scores, LEVEL, method="higher")) for scores in drawn))


def _drawn_scores(
    metric: str, sizes: npt.NDArray[np.int64], chances: npt.NDArray[np.float64], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Accuracy or macro-F1 of `NUM_DRAWS` sets of answers with these `chances`, of `sizes` texts of each class.

    They are worked out from counts (draw, class, answer), for all draws at once.
    """
    counts = np.stack([generator.multinomial(size, chances, NUM_DRAWS) for size in sizes], axis=1)
    right = np.einsum("dkk->dk", counts)
    if metric == "accuracy":
        return np.asarray(right.sum(axis=1) / sizes.sum())
    return np.asarray((2 * right / np.maximum(counts.sum(axis=1) + sizes, 1)).mean(axis=1))


def chance_in(fit: FitSpec) -> float | None:
    """The same on the validation texts that `fit` chooses by; loads its data set."""
    assert fit.train is not None
    examples = load_source(fit.dataset.name, fit.dataset).examples
    labels = validation_of(examples, fit)["label"].to_numpy()
    return chance_of(fit.train.select_by, labels, len(fit.dataset.labels))
