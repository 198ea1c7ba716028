"""Entry point of this package: fits any model."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd

from moodbench.config.schema import FineTuning
from moodbench.hardware import Device
from moodbench.spec import FitSpec
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.outcome import FitOutcome, Report


def fit(
    spec: FitSpec,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    folder: Path,
    device: Device,
    report: Report,
    checkpoints: CheckpointArea,
    *,
    num_gpus: int = 1,
) -> FitOutcome:
    """Fit the model of `spec`, save the artifact in `folder`, and return the outcome.

    `checkpoints` is where a later attempt may resume from; only fine-tuning writes them.
    """
    num_labels = len(spec.dataset.labels)
    if spec.model.method in get_args(FineTuning):
        from moodbench.training.fine_tuning import fine_tune

        return fine_tune(spec, train, validation, folder, device, report, checkpoints, num_gpus=num_gpus)
    if spec.model.method == "prompted":
        from moodbench.training.prompted import fit_prompted

        return fit_prompted(spec, train, folder)
    if spec.model.method == "linear-probe":
        from moodbench.training.probe import fit_probe

        return fit_probe(spec, train, validation, folder, device, report)
    from moodbench.training.baselines import fit_majority, fit_tfidf, fit_vader

    if spec.model.baseline == "tfidf-logreg":
        assert spec.tfidf is not None
        return fit_tfidf(train, validation, spec.tfidf, num_labels, folder)
    fit_counts = fit_vader if spec.model.baseline == "vader" else fit_majority
    return fit_counts(train, validation, num_labels, folder)
