"""Progress of a search in the store: its proposals and the time spent, so that a killed command loses neither."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moodbench.config.search_space import Configuration
from moodbench.store import Store

WRITE_EVERY_S = 5.0


@dataclass(frozen=True)
class Spent:
    """Time and training that all commands of a search have spent so far."""

    elapsed_s: float = 0.0
    """Seconds of searching."""
    open: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Fit id -> texts trained and seconds of interrupted configurations, whether or not they have ended since."""
    curves: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """Fit id -> learning curve of those configurations: pairs of texts trained and validation score."""

    def without(self, fit_ids: set[str]) -> tuple[int, float]:
        """Return the total texts and seconds of interrupted configurations, without those of `fit_ids`."""
        left = [cost for fit_id, cost in self.open.items() if fit_id not in fit_ids]
        return sum(texts for texts, _ in left), sum(seconds for _, seconds in left)


def put_proposal(store: Store, search_id: str, number: int, fit_id: str, configuration: Configuration) -> None:
    """Record that the search tries `configuration`; called before its training starts."""
    text = json.dumps({"number": number, "fit_id": fit_id, "configuration": configuration}, sort_keys=True)
    with store.attempt() as attempt:
        path = attempt.folder / "proposal.json"
        path.write_text(text, "utf-8")
        store.location.create(path, f"searches/{search_id}/proposals/{fit_id}.json")


def proposed(store: Store, search_id: str) -> dict[str, Configuration]:
    """Return the configurations that the search has started, by fit id, in the order in which they started."""
    found = [_read(store, key) for key in store.location.keys(f"searches/{search_id}/proposals")]
    return {each["fit_id"]: each["configuration"] for each in sorted(found, key=lambda each: each["number"])}


def spent(store: Store, search_id: str) -> Spent:
    """Return what all commands of the search have spent."""
    elapsed_s, costs, points = 0.0, dict[str, tuple[int, float]](), dict[str, set[tuple[int, float]]]()
    for key in store.location.keys(f"searches/{search_id}/sessions"):
        session = _read(store, key)
        elapsed_s += session["elapsed_s"]
        for fit_id, (texts, seconds) in session["open"].items():
            before = costs.get(fit_id, (0, 0.0))
            costs[fit_id] = (max(before[0], texts), before[1] + seconds)
        for fit_id, curve in session.get("curves", {}).items():  # earlier versions did not keep them
            points.setdefault(fit_id, set()).update((texts, score) for texts, score in curve)
    return Spent(elapsed_s, costs, {fit_id: tuple(sorted(curve)) for fit_id, curve in points.items()})


class Session:
    """Time spent by one command, written every few seconds, so that a kill loses no more than that."""

    def __init__(self, store: Store, search_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock, self._began, self._written = store, clock, clock(), -math.inf
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"
        self._key = f"searches/{search_id}/sessions/{name}.json"
        self._started: dict[str, tuple[float, int]] = {}
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._left: dict[str, float] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the session began."""
        return self._clock() - self._began

    def begin(self, fit_id: str, num_members: int) -> None:
        """Start counting time for a fit; `num_members` fits of the same trial share the trial's time equally."""
        self._started.setdefault(fit_id, (self._clock(), num_members))

    def reached(self, fit_id: str, texts: int, score: float) -> None:
        """Record a point of the fit's learning curve."""
        self._curves.setdefault(fit_id, []).append((texts, score))

    def end(self, fit_id: str) -> float:
        """Stop counting for a fit that has its record now, and return the seconds it took in this command."""
        return self._seconds(self._started.pop(fit_id, (self._clock(), 1)))

    def leave(self, fit_id: str) -> None:
        """Stop counting for a fit that ends in this command without a record, and keep its time."""
        self._left[fit_id] = self.end(fit_id)

    def write(self, *, now: bool = False) -> None:
        """Write what was spent; unless `now`, at most once every WRITE_EVERY_S."""
        if not now and self._clock() - self._written < WRITE_EVERY_S:
            return
        self._written = self._clock()
        seconds = self._left | {fit_id: self._seconds(each) for fit_id, each in self._started.items()}
        curves = {fit_id: self._curves[fit_id] for fit_id in seconds if fit_id in self._curves}
        costs = {
            fit_id: (max((texts for texts, _ in curves.get(fit_id, ())), default=0), each)
            for fit_id, each in seconds.items()
        }
        said = {"elapsed_s": self.elapsed_s, "open": costs, "curves": curves}
        with self._store.attempt() as attempt:
            path = attempt.folder / "session.json"
            path.write_text(json.dumps(said, sort_keys=True), "utf-8")
            self._store.location.replace(path, self._key)

    def _seconds(self, started: tuple[float, int]) -> float:
        return (self._clock() - started[0]) / started[1]


def _read(store: Store, key: str) -> Any:
    return json.loads(store.location.local(key).read_text("utf-8"))
