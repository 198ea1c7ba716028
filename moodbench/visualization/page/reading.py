"""What the page knows of a store: read once, and again when a record has come or gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from moodbench.comparison.composite import Weights
from moodbench.hardware import Hardware
from moodbench.store import Store
from moodbench.visualization.board_view import BoardView, Results, read_results

KINDS = ("fits", "evaluations", "measurements", "failures", "searches")
LOOK_EVERY_S = 2.0
"""A store is not asked more often whether it has changed."""


@dataclass(frozen=True)
class Reading:
    """A store as it was read."""

    store: Store
    results: Results
    at: datetime

    @property
    def is_empty(self) -> bool:
        """Whether there is no evaluated model."""
        return self.results.contenders.empty

    def view(self, weights: Weights, composite: str = "pinned") -> BoardView:
        """The board under these weights."""
        return self.results.view(weights, composite)

    @property
    def families(self) -> dict[str, str]:
        """Model to its family."""
        fits = self.results.fits
        return dict(zip(fits["model"], fits["family"].fillna("").astype(str), strict=True))


class Reader:
    """Readings of one store, shared by all visitors."""

    def __init__(self, store: Store, machine: Hardware, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._machine, self._clock = machine, clock
        self._lock = threading.Lock()
        self._looked = -float("inf")
        self._stamps: dict[str, str] | None = None
        self._reading: Reading | None = None

    def current(self) -> Reading:
        """The store as it is now, give or take LOOK_EVERY_S; StoreError when it cannot be read."""
        with self._lock:
            if self._reading is not None and self._clock() - self._looked < LOOK_EVERY_S:
                return self._reading
            stamps = {k: v for kind in KINDS for k, v in self.store.location.stamps(kind).items()}
            if self._reading is None or stamps != self._stamps:
                results = read_results(self.store, self._machine)
                self._reading, self._stamps = Reading(self.store, results, datetime.now()), stamps
            self._looked = self._clock()
            return self._reading
