"""Predictions of a fitted model on an evaluation split, and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moodbench.data.ceiling import split_half_ceiling
from moodbench.metrics import score_all
from moodbench.metrics.classification import confusion
from moodbench.models.interface import Predictor
from moodbench.models.predictor import predict_texts

CEILING_SEED = 20140601


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a fitted model, and the ceiling that label noise sets on its scores."""

    ceiling_accuracy: float | None
    ceiling_f1_macro: float | None
    predictions: pd.DataFrame
    """One row per example, with columns example_id, label, predicted, logits, num_tokens, truncated, failed."""


def evaluate(
    predictor: Predictor, rows: pd.DataFrame, num_labels: int, neutral_band: float, batch_size: int
) -> Evaluation:
    """Return the evaluation of `predictor` on `rows` (example_id, text, label, rating_counts).

    The ceiling is computed only if all rows have ratings.
    """
    ceiling = None
    if rows["rating_counts"].notna().all():
        counts = np.stack(rows["rating_counts"].to_list()).astype(np.int64)
        ceiling = split_half_ceiling(counts, num_labels, neutral_band, np.random.default_rng(CEILING_SEED))
    return Evaluation(
        ceiling_accuracy=ceiling and ceiling.accuracy,
        ceiling_f1_macro=ceiling and ceiling.f1_macro,
        predictions=predictions_on(predictor, rows, batch_size),
    )


def predictions_on(predictor: Predictor, rows: pd.DataFrame, batch_size: int) -> pd.DataFrame:
    """Return the predictions on `rows` (example_id, text, label), in the format of `Evaluation.predictions`."""
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


def columns(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as columns of its record."""
    return {
        **figures_of_predictions(evaluation.predictions),
        "ceiling_accuracy": evaluation.ceiling_accuracy,
        "ceiling_f1_macro": evaluation.ceiling_f1_macro,
    }
