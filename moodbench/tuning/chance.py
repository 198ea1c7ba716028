"""The score below which a training has learned nothing yet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moodbench.data.source import load_source
from moodbench.metrics import score_all
from moodbench.spec import FitSpec
from moodbench.trial import validation_of


def chance_of(metric: str, labels: npt.NDArray[np.int64], num_classes: int) -> float | None:
    """The best score of answering the same class to every text; None for nll, which moves from the first step."""
    if metric == "nll":
        return None
    answers = (np.tile(np.eye(num_classes)[each], (len(labels), 1)) for each in range(num_classes))
    return max(score_all(logits, labels)[metric] or 0.0 for logits in answers)


def chance_in(fit: FitSpec) -> float | None:
    """The same on the validation texts that `fit` chooses by; loads its data set."""
    assert fit.train is not None
    examples = load_source(fit.dataset.name, fit.dataset).examples
    labels = validation_of(examples, fit)["label"].to_numpy()
    return chance_of(fit.train.select_by, labels, len(fit.dataset.labels))
