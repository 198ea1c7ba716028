"""A fit of a store, chosen by its id or by the name of its model, as an object that labels texts."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.benchmark.from_store import fit_spec_of
from moodbench.config.schema import InferenceDtype, PreparationStep
from moodbench.errors import DataError, SpecError, StoreError, UnknownNameError, UsageError
from moodbench.hardware import hardware
from moodbench.models.predictor import Predictor, deployed_dtype, deployed_form, predict_texts
from moodbench.models.predictor import load_predictor as load_artifact
from moodbench.preparation import MARKUP_NAMES, prepare_counted
from moodbench.spec import FitSpec
from moodbench.store import Store

BATCH_SIZE = 32
"""Default number of texts per forward pass."""
SEARCH_RUN = "search-"
"""Prefix of the run ids of search trials."""
MAX_LOADED = 4
WARM_UP = "warm up"


@dataclass(frozen=True)
class ChosenFit:
    """The selected fit of a store."""

    spec: FitSpec
    record: dict[str, Any]
    num_alternatives: int
    """Number of other fits of the same model in the store."""

    @property
    def fit_id(self) -> str:
        """Id of the fit."""
        return str(self.record["fit_id"])

    @property
    def cleaning(self) -> tuple[PreparationStep, ...]:
        """Steps by which the source of its training texts was cleaned, as its entry declares with `prepare`."""
        source = self.spec.dataset.file or self.spec.dataset.hub
        return source.prepare if source else ()

    @property
    def cleaning_note(self) -> str:
        """End of a sentence about the fit that says what is cleaned; empty if nothing is."""
        names = " and ".join(MARKUP_NAMES.get(step, step) for step in self.cleaning)
        return f"texts are cleaned as those of {self.record['dataset']} were ({names})" if names else ""

    def __str__(self) -> str:
        """Return a description for messages: model, id, dataset, number of training texts, seed."""
        record = self.record
        return (
            f"{record['model']}, fit {self.fit_id} ({record['dataset']}, {record['num_train']:,} training texts, "
            f"seed {record['seed']})"
        )


def choose_fit(store: Store, model: str) -> ChosenFit:
    """Return the fit with the id `model`, or the preferred fit of the model with this name.

    Order of preference: fits that are not search trials (these do not use the recipe of the model), then the most
    training texts, the lowest seed, and the newest.
    Raises: UnknownNameError, which suggests the nearest name; StoreError if the store has no fit.
    """
    fits = store.records("fits")
    fits = fits[fits["status"] == "ok"]
    if fits.empty:
        raise StoreError(f"{store.uri}: has no fit yet; start with `moodbench run quickstart`, or give --store")
    found = fits[fits["fit_id"] == model]
    if found.empty:
        found = fits[fits["model"] == model]
    if found.empty:
        known = fits["fit_id"] if re.fullmatch("[0-9a-f]{8,20}", model) else fits["model"]
        raise UnknownNameError(f"model in {store.uri}:", model, set(known))
    found = found.assign(tried=found["run_id"].fillna("").str.startswith(SEARCH_RUN))
    best = found.sort_values(["tried", "num_train", "seed", "ended_at"], ascending=[True, False, True, False]).iloc[0]
    best = best.drop("tried")
    spec = fit_spec_of(best, store.uri)
    others = int((fits["model"] == best["model"]).sum()) - 1
    return ChosenFit(spec, dict(best), others)


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

    def predict(self, texts: Iterable[str], *, batch_size: int = BATCH_SIZE) -> list[Prediction]:
        """Return one prediction per text, in order; an empty text is allowed.

        Texts are cleaned like those of training. Texts of similar length share a forward pass of `batch_size` texts.
        Raises: DataError if an item is not a text, or if logits are not finite; UsageError for another batch size.
        """
        if isinstance(texts, str):
            raise DataError(f"texts is the one text {texts[:40]!r}; expected a list of texts")
        if not isinstance(texts, Iterable):
            raise DataError(f"texts is {_kind(texts)}; expected a list of texts")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size {batch_size!r}: allowed is a whole number, 1 or more")
        given = [checked_text(text, f"text {i}") for i, text in enumerate(texts)]
        checked = [prepare_counted(text, self.fit.cleaning, Counter()) for text in given]
        if not checked:
            return []
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
    store: Store,
    model: str | ChosenFit,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    inference_dtype: InferenceDtype = "auto",
) -> Classifier:
    """Load the fit that `model` names, in the form that was evaluated and measured; baselines run on the CPU.

    Raises: SpecError if `inference_dtype` is not "auto" and the model is a baseline or its weights are quantised.
    """
    fit = choose_fit(store, model) if isinstance(model, str) else model
    artifact = store.artifact(fit.fit_id)
    machine = hardware()
    dtype = deployed_dtype(fit.spec, machine.device(device), inference_dtype)
    if fit.spec.model.method == "baseline":
        if inference_dtype != "auto":
            raise SpecError(
                f"model {fit.spec.model.name}: inference_dtype {inference_dtype!r}: a baseline has no weights in a "
                "number format; leave it out"
            )
        return Classifier(load_artifact(fit.spec, artifact, "native", "cpu"), fit)
    from moodbench.models.device import prepare_torch

    prepare_torch(machine.num_cores)
    form = deployed_form(fit.spec)
    return Classifier(load_artifact(fit.spec, artifact, form, machine.device(device), dtype=dtype), fit)


class LoadedModels:
    """The most recently used models of a store; at most MAX_LOADED stay in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded = lru_cache(MAX_LOADED)(self._load)
        self._lock = threading.Lock()

    def ask(self, model: str, text: str) -> tuple[Prediction, float]:
        """Return the prediction of the fit that `model` names by fit id or model name, and the seconds that it took.

        They are those from the text to its label, without loading and a first warm-up call.

        Calls run one at a time, so that they do not distort each other's times.
        """
        with self._lock:
            classifier = self._loaded(model)
            began = time.perf_counter()
            (prediction,) = classifier.predict([text], batch_size=1)
            return prediction, time.perf_counter() - began

    def _load(self, model: str) -> Classifier:
        classifier = open_classifier(self._store, model)
        classifier.predict([WARM_UP], batch_size=1)
        return classifier


def checked_text(value: Any, where: str) -> str:
    """Return `value` if it is a text that can be encoded as UTF-8.

    Raises: DataError, which says what `value` is instead.
    """
    if not isinstance(value, str):
        raise DataError(f"{where} is {_kind(value)}; expected a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds half a surrogate pair at character {error.start}; expected Unicode") from error
    return value


def _kind(value: Any) -> str:
    names = {
        type(None): "missing or null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")
