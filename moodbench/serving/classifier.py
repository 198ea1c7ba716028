"""A fitted contender as an object that labels texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.errors import DataError
from moodbench.hardware import hardware
from moodbench.models.loading import deployed_form
from moodbench.models.loading import load_predictor as load_artifact
from moodbench.models.predictor import Predictor, predict_texts
from moodbench.serving.fits import ChosenFit, choose_fit
from moodbench.serving.texts import checked_text
from moodbench.store import Store

BATCH_SIZE = 32
"""Texts per forward pass unless asked otherwise."""


class Prediction(NamedTuple):
    """What a contender says about one text."""

    label: str
    """The most probable class."""
    probability: float
    """Its probability: the softmax of the logits, 0 to 1. How far to trust it is the board's `ece` and `brier`."""
    probabilities: Mapping[str, float]
    """The probability of every class, in the order of the data set's labels; they add up to 1."""
    truncated: bool
    """Whether the text was longer than the model reads, and cut."""


class Classifier:
    """A fitted contender, loaded and ready."""

    def __init__(self, predictor: Predictor, fit: ChosenFit) -> None:
        self._predictor = predictor
        self.fit = fit
        self.labels = fit.spec.dataset.labels

    def predict(self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE) -> list[Prediction]:
        """One prediction per text, in order; an empty text is a text like any other.

        DataError for what is no text. Texts of similar length share a forward pass of `batch_size`.
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
    """The softmax of each row in float64, with the row's maximum taken off first."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def open_classifier(
    store: Store, model: str | ChosenFit, device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
) -> Classifier:
    """The fit that `model` means, in the form that was evaluated and measured, on `device` (a baseline: on the CPU)."""
    fit = choose_fit(store, model) if isinstance(model, str) else model
    artifact = store.artifact(fit.fit_id)
    machine = hardware()
    if fit.spec.model.method == "baseline":
        return Classifier(load_artifact(fit.spec, artifact, "native", "cpu"), fit)
    from moodbench.models.device import prepare_torch

    prepare_torch(machine.num_cores)
    return Classifier(load_artifact(fit.spec, artifact, deployed_form(fit.spec), machine.device(device)), fit)
