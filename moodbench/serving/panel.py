"""Fitted models that stay loaded to label one text at a time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from moodbench.serving.classifier import Classifier, open_classifier
from moodbench.store import Store

MOST_LOADED = 4
WARM_UP = "warm up"


@dataclass(frozen=True)
class Answer:
    """Prediction of one model for one text, with the time that it took."""

    name: str
    label: str
    probabilities: Mapping[str, float]
    seconds: float
    """Seconds from the text to its label, without loading and a first warm-up call."""
    truncated: bool


class Panel:
    """The most recently used models of a store; at most MOST_LOADED stay in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: OrderedDict[str, Classifier] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, model: str, text: str) -> Answer:
        """Return the answer of the fit that `model` names by fit id or model name.

        Calls run one at a time, so that they do not distort each other's times.
        """
        with self._lock:
            classifier = self._classifier(model)
            began = time.perf_counter()
            (said,) = classifier.predict([text], batch_size=1)
            seconds = time.perf_counter() - began
        return Answer(str(classifier.fit.record["model"]), said.label, said.probabilities, seconds, said.truncated)

    def _classifier(self, model: str) -> Classifier:
        if model not in self._loaded:
            self._loaded[model] = open_classifier(self._store, model)
            self._loaded[model].predict([WARM_UP], batch_size=1)
            if len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(model)
        return self._loaded[model]
