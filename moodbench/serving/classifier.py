"""A fitted model as an object that labels texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.errors import DataError
from moodbench.hardware import hardware
from moodbench.models.predictor import Predictor, deployed_form, predict_texts
from moodbench.models.predictor import load_predictor as load_artifact
from moodbench.serving.fits import ChosenFit, choose_fit
from moodbench.serving.texts import checked_text
from moodbench.store import Store

BATCH_SIZE = 32
"""Default number of texts per forward pass."""


class Prediction(NamedTuple):
    """Prediction of a model for one text."""

    label: str
    """The most probable class."""
    probability: float
    """Softmax probability of `label`, 0 to 1. For its calibration, see `ece` and `brier` on the leaderboard."""
    probabilities: Mapping[str, float]
    """Probability of every class, in the order of the dataset's labels; they sum to 1."""
    truncated: bool
    """Whether the text exceeded the maximum length of the model and was truncated."""


class Classifier:
    """A fitted model, loaded and ready to predict."""

    def __init__(self, predictor: Predictor, fit: ChosenFit) -> None:
        self._predictor = predictor
        self.fit = fit
        self.labels = fit.spec.dataset.labels

    def predict(self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE) -> list[Prediction]:
        """Return one prediction per text, in order; an empty text is allowed.

        Texts of similar length share a forward pass of `batch_size` texts.
        Raises: DataError if an item is not a text, or if logits are not finite.
        """
        if isinstance(texts, str):
            raise DataError(f"texts is the one text {texts[:40]!r}; expected a list of texts")
        if not len(texts):
            return []
        checked = [checked_text(text, f"text {i}") for i, text in enumerate(texts)]
        logits, encoded = predict_texts(self._predictor, checked, batch_size)
        broken = ~np.isfinite(logits).all(axis=1)
        if broken.any():
            raise DataError(f"text {int(broken.argmax())}: {self.fit} gives logits that are not finite; fit it again")
        return [
            Prediction(self.labels[best], row[best], dict(zip(self.labels, row, strict=True)), bool(cut))
            for best, row, cut in zip(
                logits.argmax(axis=1), probabilities(logits).tolist(), encoded.truncated, strict=True
            )
        ]


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the softmax of each row in float64, computed after subtracting the maximum of the row."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def open_classifier(
    store: Store, model: str | ChosenFit, device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
) -> Classifier:
    """Load the fit that `model` names, in the form that was evaluated and measured; baselines run on the CPU."""
    fit = choose_fit(store, model) if isinstance(model, str) else model
    artifact = store.artifact(fit.fit_id)
    machine = hardware()
    if fit.spec.model.method == "baseline":
        return Classifier(load_artifact(fit.spec, artifact, "native", "cpu"), fit)
    from moodbench.models.device import prepare_torch

    prepare_torch(machine.num_cores)
    return Classifier(load_artifact(fit.spec, artifact, deployed_form(fit.spec), machine.device(device)), fit)
