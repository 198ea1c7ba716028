"""Predictions of a fitted model on an evaluation split, their scores and their ceiling.

The ceiling is the agreement between human raters: accuracy above it measures noise in the labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.data.examples import RATINGS, labels_of_ratings
from moodbench.metrics import score_all
from moodbench.metrics.classification import confusion
from moodbench.models.predictor import Predictor, predict_texts

CEILING_SEED = 20140601


def predictions_on(predictor: Predictor, rows: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """Return the predictions on `rows` (example_id, text, label), one row per example.

    The columns are example_id, label, predicted, logits, num_tokens, truncated, failed.
    """
    logits, encoded = predict_texts(predictor, rows["text"].tolist(), batch_size)
    return pd.DataFrame(
        {
            "example_id": rows["example_id"].to_numpy(),
            "label": rows["label"].to_numpy().astype(np.int32),
            "predicted": logits.argmax(axis=1).astype(np.int32),
            "logits": list(logits),
            "num_tokens": [None if n < 0 else int(n) for n in encoded.num_tokens],
            "truncated": encoded.truncated,
            "failed": False,
        }
    )


def figures_of_predictions(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of an evaluation record that depend only on its predictions (label, logits, truncated)."""
    logits, labels = np.stack(predictions["logits"].to_list()), predictions["label"].to_numpy()
    num_classes = logits.shape[1]
    return {
        **score_all(logits, labels),
        "num_test": len(predictions),
        "num_classes": num_classes,
        "confusion": confusion(labels, logits.argmax(axis=1), num_classes).tolist(),
        "truncated_share": float(predictions["truncated"].mean()),
    }


def ceiling_columns(rows: pd.DataFrame, num_labels: int, neutral_band: float) -> dict[str, float | None]:
    """Return the columns of an evaluation record with the ceiling; None unless all `rows` have `rating_counts`."""
    ceiling = None
    if rows["rating_counts"].notna().all():
        counts = np.stack(rows["rating_counts"].to_list()).astype(np.int64)
        ceiling = split_half_ceiling(counts, num_labels, neutral_band, np.random.default_rng(CEILING_SEED))
    return {"ceiling_accuracy": ceiling and ceiling.accuracy, "ceiling_f1_macro": ceiling and ceiling.f1_macro}


class Ceiling(NamedTuple):
    """Scores of one half of the raters against the other half."""

    accuracy: float
    """Mean of `agreement`."""
    f1_macro: float
    agreement: npt.NDArray[np.float64]
    """How often the two halves agree on each item, `(items,)`."""


def split_half_ceiling(
    rating_counts: npt.NDArray[np.int64],
    num_labels: int,
    neutral_band: float,
    rng: np.random.Generator,
    num_splits: int = 20,
) -> Ceiling:
    """Return the agreement of two random halves of the raters, averaged over `num_splits` random halvings.

    `rating_counts` `(items, 9)` counts the ratings -4 .. +4 of each item in the dataset. Each half is labelled by the
    dataset's own rule; the label of half A is the prediction and that of half B the truth. With two labels, the sign of
    the mean decides (a fair coin for a mean of 0), without a neutral band. A model that predicts the label of all
    raters can slightly exceed the ceiling, because half of the raters are noisier than all of them.
    Source: split-half reliability, Spearman (1910), Brown (1910), without the step-up correction.
    """
    halves: tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]] = [], []
    for _ in range(num_splits):
        half = _draw_half(rating_counts, rng)
        for labels, counts in zip(halves, (half, rating_counts - half), strict=True):
            labels.append(_labels_of(counts, num_labels, neutral_band, rng))
    first, second = np.array(halves[0]), np.array(halves[1])
    scores = score_all(np.eye(num_labels)[first.ravel()], second.ravel())
    accuracy, f1_macro = scores["accuracy"], scores["f1_macro"]
    assert accuracy is not None and f1_macro is not None
    return Ceiling(accuracy, f1_macro, np.asarray((first == second).mean(axis=0)))


def leave_one_out_agreement(
    rating_counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float
) -> npt.NDArray[np.float64]:
    """Return the exact share of raters of each item who agree with its other raters, `(items,)`.

    The label of a rater follows from their own rating, and the label of the others from the mean of their ratings, both
    by the dataset's own rule. With two labels, a rating or mean of 0 counts as a fair coin, so the agreement is 0.5.
    NaN for an item with fewer than two raters.
    """
    num_raters, total = rating_counts.sum(axis=1), rating_counts @ RATINGS
    agreed = np.zeros(len(rating_counts))
    for rating, count in zip(RATINGS, rating_counts.T, strict=True):
        others = (total - rating) / np.maximum(num_raters - 1, 1)
        if num_labels == 2:
            sides = np.sign(others) * np.sign(rating)
            agrees = np.where(sides == 0, 0.5, sides > 0)
        else:
            own = labels_of_ratings(np.full(len(others), float(rating)), num_labels, neutral_band)
            agrees = own == labels_of_ratings(others, num_labels, neutral_band)
        agreed += count * agrees
    return np.where(num_raters > 1, agreed / np.maximum(num_raters, 1), np.nan)


def _draw_half(counts: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the rating counts `(items, 9)` of a random half of each item's ratings, drawn without replacement.

    Of an odd number of ratings, the half is rounded up or down at random.
    """
    left = counts.sum(axis=1)
    wanted = (left + rng.integers(0, 2, size=len(left))) // 2
    drawn = np.zeros_like(counts)
    for k in range(counts.shape[1]):
        left = left - counts[:, k]
        drawn[:, k] = rng.hypergeometric(counts[:, k], left, np.minimum(wanted, counts[:, k] + left))
        wanted = wanted - drawn[:, k]
    return drawn


def _labels_of(
    counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    means = (counts @ RATINGS) / np.maximum(counts.sum(axis=1), 1)
    if num_labels == 2:
        coin = rng.choice([-1.0, 1.0], size=len(means))
        return labels_of_ratings(np.where(means == 0, coin, means), 2, 0.0)
    return labels_of_ratings(means, num_labels, neutral_band)
