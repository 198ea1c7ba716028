"""Fitted contenders kept loaded, to label one text at a time."""

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
    """What one contender says about one text."""

    name: str
    label: str
    probabilities: Mapping[str, float]
    seconds: float
    """From the text to its label; loading and a first warm-up call are not in it."""
    truncated: bool


class Panel:
    """The contenders of a store that were asked last; at most MOST_LOADED stay in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: OrderedDict[str, Classifier] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, model: str, text: str) -> Answer:
        """The answer of the fit that `model` means, an id or a name; one question at a time, so that times are true."""
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
