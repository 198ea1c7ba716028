"""What a search has begun and not ended: proposals and time spent, so that a killed command loses neither."""

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
    """Of all commands of a search so far."""

    elapsed_s: float = 0.0
    """Seconds of searching."""
    open: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Fit -> texts trained and seconds of configurations that were cut off, whether or not they ended since."""
    curves: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """Fit -> texts trained and validation score then, of those."""

    def without(self, fit_ids: set[str]) -> tuple[int, float]:
        """Texts and seconds of what was cut off, those of `fit_ids` left out."""
        left = [cost for fit_id, cost in self.open.items() if fit_id not in fit_ids]
        return sum(texts for texts, _ in left), sum(seconds for _, seconds in left)


def put_proposal(store: Store, search_id: str, number: int, fit_id: str, configuration: Configuration) -> None:
    """Nothing; writes, before its training starts, that the search tries `configuration`."""
    text = json.dumps({"number": number, "fit_id": fit_id, "configuration": configuration}, sort_keys=True)
    with store.attempt() as attempt:
        path = attempt.folder / "proposal.json"
        path.write_text(text, "utf-8")
        store.location.create(path, f"searches/{search_id}/proposals/{fit_id}.json")


def proposed(store: Store, search_id: str) -> dict[str, Configuration]:
    """Fit -> configuration of everything that the search began to try, in that order."""
    found = [_read(store, key) for key in store.location.keys(f"searches/{search_id}/proposals")]
    return {each["fit_id"]: each["configuration"] for each in sorted(found, key=lambda each: each["number"])}


def spent(store: Store, search_id: str) -> Spent:
    """What all commands of the search have spent."""
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
    """The time of one command, written every few seconds, so that a kill loses no more than those."""

    def __init__(self, store: Store, search_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock, self._began, self._written = store, clock, clock(), -math.inf
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"
        self._key = f"searches/{search_id}/sessions/{name}.json"
        self._started: dict[str, tuple[float, int]] = {}
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._left: dict[str, float] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def begin(self, fit_id: str, num_members: int) -> None:
        """Nothing; from now on the time of a slot with so many members counts for that fit, until it ends."""
        self._started.setdefault(fit_id, (self._clock(), num_members))

    def reached(self, fit_id: str, texts: int, score: float) -> None:
        """Nothing; that fit has trained so many texts, and its validation score is then so much."""
        self._curves.setdefault(fit_id, []).append((texts, score))

    def end(self, fit_id: str) -> float:
        """The seconds that the fit took in this command; it has its record now."""
        return self._seconds(self._started.pop(fit_id, (self._clock(), 1)))

    def leave(self, fit_id: str) -> None:
        """Nothing; the fit does not go on in this command, and has no record: its time stays noted."""
        self._left[fit_id] = self.end(fit_id)

    def write(self, *, now: bool = False) -> None:
        """Nothing; writes what was spent, unless that was done a moment ago."""
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
