"""Snapshot of a store for the page: read once, and again in the background when a record is added or removed."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from moodbench.analysis.cache import cached_results, record_stamps
from moodbench.analysis.results import Results
from moodbench.app.board_cells import Kept
from moodbench.app.privacy import Tells, public_datasets, tells_of
from moodbench.app.url_state import DEFAULT, chosen_track
from moodbench.errors import MoodBenchError
from moodbench.hardware import Hardware
from moodbench.report.leaderboard_view import LeaderboardView, StoreView
from moodbench.statistics.composite import Weights
from moodbench.store import Store
from moodbench.tune.result import searches

log = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0
"""Least number of seconds between two checks of whether the store has changed."""
LOOK_SHARE = 0.05
"""Share of the time that checks may take: a store whose records take long to list is checked less often."""
PATIENCE_S = 3.0
"""Seconds that a visitor waits for a changed store to be read, before the previous reading is shown."""
MOST_VIEWS = 32


@dataclass(frozen=True)
class Reading:
    """Snapshot of a store, with the time at which it was read."""

    store: Store
    shown: StoreView
    at: datetime
    cells: Kept = field(default_factory=dict, compare=False, repr=False)
    """Cache of the leaderboard cells that do not depend on weights, as far as they have been shown."""
    _views: OrderedDict[tuple[Weights, str, str | None], LeaderboardView] = field(
        default_factory=OrderedDict, compare=False
    )

    @property
    def results(self) -> Results:
        """Results of the store."""
        return self.shown.results

    @property
    def is_empty(self) -> bool:
        """Whether no model has been evaluated."""
        return self.results.entries.empty

    def view(self, weights: Weights, composite: str = "pinned", ranked_track: str | None = None) -> LeaderboardView:
        """Return the leaderboard under these weights; the last MOST_VIEWS are cached.

        If `ranked_track` is given, rank intervals are computed only for the dataset of that name.
        """
        key = (weights, composite, ranked_track)
        if (found := self._views.get(key)) is None:
            found = self._views[key] = self.shown.leaderboard(weights, composite, ranked_track=ranked_track)
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
        return found

    def order(self, weights: Weights) -> LeaderboardView:
        """Return the leaderboard under these weights without rank intervals, which takes the least time."""
        return self.view(weights, ranked_track="")

    @cached_property
    def tracks(self) -> list[str]:
        """Names of the datasets with their training sizes, all of them together last; independent of weights."""
        return self.order(DEFAULT.weights).tracks

    def tells(self, *, show_texts: bool) -> Tells:
        """Return for which datasets failure messages may be shown: for all if private texts may be (`show_texts`)."""
        return tells_of(self._public, show_texts=show_texts)

    @cached_property
    def _public(self) -> frozenset[str]:
        return public_datasets(self.store)

    @cached_property
    def families(self) -> dict[str, str]:
        """Family of each model."""
        fits = self.results.records.fits
        return dict(zip(fits["model"], fits["family"].fillna("").astype(str), strict=True))


class Reader:
    """Readings of one store, shared by all visitors.

    Callers wait for the first reading. Later, a thread reads a changed store in the background; a caller waits for it
    at most PATIENCE_S and then gets the previous reading.
    """

    def __init__(self, store: Store, machine: Hardware, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._machine, self._clock = machine, clock
        self._lock = threading.Lock()
        self._looked, self._pause = -float("inf"), LOOK_EVERY_S
        self._stamps: dict[str, str] | None = None
        self._reading: Reading | None = None
        self._problem: MoodBenchError | None = None
        self._thread: threading.Thread | None = None

    def current(self, patience_s: float | None = None) -> Reading:
        """Return the store as it is now, up to LOOK_EVERY_S and the time that reading takes.

        With `patience_s` below PATIENCE_S, the reading may be older.

        Raises: StoreError if the store cannot be read, or another MoodBenchError if it cannot be shown.
        """
        thread = self._look()
        if thread is not None:
            patience_s = PATIENCE_S if patience_s is None else patience_s
            thread.join(None if self._reading is None and self._problem is None else patience_s)
        if self._problem is not None:
            raise self._problem
        assert self._reading is not None, "the thread has ended, with a reading or a problem"
        return self._reading

    def begin(self) -> None:
        """Start reading, so that the first visitor waits less."""
        self._look()

    def _look(self) -> threading.Thread | None:
        """Return the thread that reads the store, started if a check is due; None if no thread is reading."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self._thread
            if self._clock() - self._looked < self._pause and (self._reading or self._problem):
                return None
            self._thread = threading.Thread(target=self._read, name="moodbench-reading", daemon=True)
            self._thread.start()
            return self._thread

    def _read(self) -> None:
        began = self._clock()
        try:
            stamps = record_stamps(self.store)
            self._pause = max(LOOK_EVERY_S, (self._clock() - began) / LOOK_SHARE)
            if self._reading is None or self._problem is not None or stamps != self._stamps:
                shown = StoreView(cached_results(self.store, self._machine), searches(self.store))
                reading = Reading(self.store, shown, datetime.now())
                if not reading.is_empty:
                    prepare(reading)
                self._reading, self._stamps = reading, stamps
            self._problem = None
        except MoodBenchError as problem:
            self._problem = problem
        except Exception as problem:  # otherwise visitors would wait for a dead thread
            log.exception("reading %s", self.store.uri)
            self._problem = MoodBenchError(f"{self.store.uri}: cannot be shown ({type(problem).__name__}: {problem})")
        finally:
            self._looked = self._clock()


def prepare(reading: Reading) -> None:
    """Compute the default view before the first visitor requests it."""
    reading.view(DEFAULT.weights, DEFAULT.composite, ranked_track=chosen_track(reading.tracks, DEFAULT))
