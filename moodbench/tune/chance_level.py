"""Chance level: the score up to which a training has not learned anything yet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moodbench.data.source import load_source
from moodbench.metrics import score_all
from moodbench.spec import FitSpec
from moodbench.trial import validation_of

LEVEL = 0.99
"""Quantile that defines chance level: 99 of 100 sets of answers drawn without reading the texts score no better."""
NUM_DRAWS = 2_000


def chance_of(metric: str, labels: npt.NDArray[np.int64], num_classes: int) -> float | None:
    """Return the highest score of answers given without reading the texts; None for nll.

    Such answers are the same class for every text, or drawn for each text, either with equal probabilities or with the
    shares of the classes: an untrained classifier gives one or the other. Of drawn answers the quantile `LEVEL` counts.
    The nll needs no chance level, because it moves from the first step on.
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
    """Return accuracy or macro-F1 of `NUM_DRAWS` sets of answers drawn with the probabilities `chances`.

    `sizes` is the number of texts per class. All draws are computed at once, from counts `(draw, class, answer)`.
    """
    counts = np.stack([generator.multinomial(size, chances, NUM_DRAWS) for size in sizes], axis=1)
    right = np.einsum("dkk->dk", counts)
    if metric == "accuracy":
        return np.asarray(right.sum(axis=1) / sizes.sum())
    return np.asarray((2 * right / np.maximum(counts.sum(axis=1) + sizes, 1)).mean(axis=1))


def chance_in(fit: FitSpec) -> float | None:
    """Load the dataset of `fit` and return the chance level on its validation texts; see `chance_of`."""
    assert fit.train is not None
    examples = load_source(fit.dataset.name, fit.dataset).examples
    labels = validation_of(examples, fit)["label"].to_numpy()
    return chance_of(fit.train.select_by, labels, len(fit.dataset.labels))
