"""What the page knows of a store: read once, and again in the background when a record has come or gone."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from moodbench.comparison.composite import Weights
from moodbench.errors import MoodBenchError
from moodbench.hardware import Hardware
from moodbench.store import Store
from moodbench.visualization.board_view import BoardView, Results
from moodbench.visualization.kept_results import results_of, stamps_of
from moodbench.visualization.leaderboard_view import chosen_track
from moodbench.visualization.page.board_cells import Kept
from moodbench.visualization.page.privacy import Tells, public_datasets, tells_of
from moodbench.visualization.state import DEFAULT

log = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0
"""A store is not asked more often whether it has changed."""
LOOK_SHARE = 0.05
"""Of the time that looking may take: a store whose records take long to list is looked at less often."""
PATIENCE_S = 3.0
"""How long a visitor waits for a change to be read before the reading before it is shown."""
MOST_VIEWS = 32


@dataclass(frozen=True)
class Reading:
    """A store as it was read."""

    store: Store
    results: Results
    at: datetime
    cells: Kept = field(default_factory=dict, compare=False, repr=False)
    """Cells of the board that no weights change, as far as they were shown."""
    _views: OrderedDict[tuple[Weights, str, str | None], BoardView] = field(default_factory=OrderedDict, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether there is no evaluated model."""
        return self.results.contenders.empty

    def view(self, weights: Weights, composite: str = "pinned", placed: str | None = None) -> BoardView:
        """The board under these weights, the ranges of places of the track `placed` alone where it is named; the last few are kept."""
        key = (weights, composite, placed)
        if (found := self._views.get(key)) is None:
            found = self._views[key] = self.results.view(weights, composite, placed=placed)
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
        return found

    def order(self, weights: Weights) -> BoardView:
        """The board under these weights without ranges of places, which takes the least time."""
        return self.view(weights, placed="")

    @cached_property
    def tracks(self) -> list[str]:
        """The names of the tracks, all of them together last, whatever the weights."""
        return self.order(DEFAULT.weights).tracks

    def tells(self, *, show_texts: bool) -> Tells:
        """Of which data sets the messages of failures may be shown, where private texts may be (`show_texts`) or not."""
        return tells_of(self._public, show_texts=show_texts)

    @cached_property
    def _public(self) -> frozenset[str]:
        return public_datasets(self.store)

    @cached_property
    def families(self) -> dict[str, str]:
        """Model to its family."""
        fits = self.results.fits
        return dict(zip(fits["model"], fits["family"].fillna("").astype(str), strict=True))


class Reader:
    """Readings of one store, shared by all visitors.

    The first one is waited for. Later a change is read by a thread of its own, and whoever asks meanwhile waits
    PATIENCE_S at most and then sees the reading before it.
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
        """The store as it is now, give or take LOOK_EVERY_S and the time that reading takes; StoreError when it cannot be read.

        Whoever has less patience than PATIENCE_S may be shown a reading that is older.
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
        """Nothing; begins to read, so that the first visitor waits less."""
        self._look()

    def _look(self) -> threading.Thread | None:
        """The thread that reads, where one does."""
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
            stamps = stamps_of(self.store)
            self._pause = max(LOOK_EVERY_S, (self._clock() - began) / LOOK_SHARE)
            if self._reading is None or self._problem is not None or stamps != self._stamps:
                results = results_of(self.store, self._machine)
                reading = Reading(self.store, results, datetime.now())
                if not reading.is_empty:
                    prepare(reading)
                self._reading, self._stamps = reading, stamps
            self._problem = None
        except MoodBenchError as problem:
            self._problem = problem
        except Exception as problem:  # else a visitor would wait for a thread that is dead
            log.exception("reading %s", self.store.uri)
            self._problem = MoodBenchError(f"{self.store.uri}: cannot be shown ({type(problem).__name__}: {problem})")
        finally:
            self._looked = self._clock()


def prepare(reading: Reading) -> None:
    """Nothing; works out what a plain address shows, before anybody asks."""
    reading.view(DEFAULT.weights, DEFAULT.composite, placed=chosen_track(reading.tracks, DEFAULT))
