"""Snapshot of a store for the page: read once, and again in the background when a record is added or removed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import NamedTuple

import pandas as pd

from moodbench.analysis.cache import cached_results, record_stamps
from moodbench.analysis.results import Results
from moodbench.app.leaderboard_table import CellCache
from moodbench.app.privacy import MessageFilter, message_filter, public_datasets
from moodbench.app.url_state import DEFAULT, State
from moodbench.errors import MoodBenchError
from moodbench.hardware import Hardware
from moodbench.report.leaderboard_view import LeaderboardView, StoreView
from moodbench.statistics.composite import Weights
from moodbench.statistics.overall import OVERALL
from moodbench.store import Store
from moodbench.tune.result import searches

log = logging.getLogger(__name__)
CHECK_EVERY_S = 2.0
"""Least number of seconds between two checks of whether the store has changed."""
MAX_CHECK_SHARE = 0.05
"""Share of the time that checks may take: a store whose records take long to list is checked less often."""
REFRESH_TIMEOUT_S = 3.0
"""Seconds that a visitor waits for a changed store to be read, before the previous snapshot is shown."""
MAX_CACHED_VIEWS = 32


class Shown(NamedTuple):
    """The leaderboard of one track: a dataset at one training size, or all of them together."""

    name: str
    view: LeaderboardView
    track: pd.DataFrame
    """All rows of the track."""
    rows: pd.DataFrame
    """Rows that pass the search and the filters."""


@dataclass(frozen=True)
class Snapshot:
    """Results of a store at one time."""

    store: Store
    shown: StoreView
    read_at: datetime
    cells: CellCache = field(default_factory=dict, compare=False, repr=False)
    """Leaderboard cells that do not depend on weights, as far as they have been shown."""

    @property
    def results(self) -> Results:
        """Results of the store."""
        return self.shown.results

    @property
    def is_empty(self) -> bool:
        """Whether no model has been evaluated."""
        return self.results.entries.empty

    @cached_property
    def _cached_view(self) -> Callable[..., LeaderboardView]:
        return lru_cache(MAX_CACHED_VIEWS)(self.shown.leaderboard)

    def view(self, weights: Weights, composite: str = "pinned", ranked_track: str | None = None) -> LeaderboardView:
        """Return the leaderboard under these weights.

        If `ranked_track` is given, rank intervals are computed only for the dataset of that name.
        """
        return self._cached_view(weights, composite, ranked_track=ranked_track)

    @cached_property
    def track_names(self) -> list[str]:
        """Names of the datasets with their training sizes, all of them together last; independent of weights."""
        return self.view(DEFAULT.weights, ranked_track="").tracks

    def chosen_track(self, state: State) -> str:
        """Return the track in `state`; by default all datasets together, or else the first."""
        if state.track in self.track_names:
            return state.track
        return next((name for name in self.track_names if name.startswith(OVERALL)), self.track_names[0])

    def leaderboard(self, state: State) -> Shown:
        """Return the leaderboard of the track in `state`, with rank intervals."""
        name = self.chosen_track(state)
        view = self.view(state.weights, state.composite, ranked_track=name)
        track = view.track(name)
        return Shown(name, view, track, self._visible(track, state))

    def _visible(self, rows: pd.DataFrame, state: State) -> pd.DataFrame:
        """Return the `rows` that pass the search and the filters, with the ranks and groups of the whole track."""
        keep = pd.Series(True, index=rows.index)
        terms = [term.strip().lower() for term in state.search.split(";") if term.strip()]
        if terms:
            family = rows["model"].map(self._families).fillna("")
            text = (rows["name"] + " " + family + " " + rows["method"]).str.lower()
            keep &= text.map(lambda searched: any(term in searched for term in terms))
        if state.methods:
            keep &= rows["method"].isin(state.methods)
        if state.max_params is not None:
            keep &= rows["num_params"] <= state.max_params * 1e6
        return rows[keep]

    def track_rows(self, state: State) -> pd.DataFrame:
        """Return the rows of the track in `state`, without rank intervals, which take longest."""
        return self.view(state.weights, ranked_track="").track(self.chosen_track(state))

    def dataset_rows(self, state: State) -> pd.DataFrame:
        """Return the rows of the dataset in `state`, or of the first dataset if it names all of them together."""
        is_overall = self.chosen_track(state).startswith(OVERALL)
        return self.track_rows(replace(state, track=self.track_names[0]) if is_overall else state)

    def dataset_note(self, state: State) -> str:
        """Return which dataset `dataset_rows` shows, where the chosen one is all of them together; empty elsewhere."""
        chosen = self.chosen_track(state)
        if not chosen.startswith(OVERALL):
            return ""
        return f"Shown: {self.track_names[0]}, as {chosen} has no values of its own here; choose a dataset above."

    def pinned_rows(self, state: State, default: int) -> pd.DataFrame:
        """Return the pinned models on the dataset in `state`, in the order of the pins.

        If none is pinned there, return the first `default` rows.
        """
        rows = self.dataset_rows(state)
        pinned = [name for name in state.models if name in set(rows["name"])]
        return rows.set_index("name", drop=False).loc[pinned] if pinned else rows.head(default)

    def message_filter(self, *, show_texts: bool) -> MessageFilter:
        """Return a filter of failure messages by dataset; it allows all if private texts may be shown."""
        return message_filter(self._public, show_texts=show_texts)

    @cached_property
    def _public(self) -> frozenset[str]:
        return public_datasets(self.store)

    @cached_property
    def _families(self) -> dict[str, str]:
        """Family of each model."""
        fits = self.results.records.fits
        return dict(zip(fits["model"], fits["family"].fillna("").astype(str), strict=True))


class SnapshotReader:
    """The newest snapshot of one store, shared by all visitors.

    Callers wait for the first snapshot. Later, a thread reads a changed store in the background; a caller waits for it
    at most REFRESH_TIMEOUT_S and then gets the previous snapshot.
    """

    def __init__(self, store: Store, machine: Hardware, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._machine, self._clock = machine, clock
        self._lock = threading.Lock()
        self._checked_at, self._check_every_s = -float("inf"), CHECK_EVERY_S
        self._stamps: dict[str, str] | None = None
        self._snapshot: Snapshot | None = None
        self._problem: MoodBenchError | None = None
        self._thread: threading.Thread | None = None

    def current(self, timeout_s: float | None = None) -> Snapshot:
        """Return the store as it is now, up to CHECK_EVERY_S and the time that reading takes.

        With `timeout_s` below REFRESH_TIMEOUT_S, the snapshot may be older.

        Raises: StoreError if the store cannot be read, or another MoodBenchError if it cannot be shown.
        """
        thread = self.refresh()
        if thread is not None:
            is_first = self._snapshot is None and self._problem is None
            thread.join(None if is_first else REFRESH_TIMEOUT_S if timeout_s is None else timeout_s)
        if self._problem is not None:
            raise self._problem
        assert self._snapshot is not None, "the thread has ended, with a snapshot or a problem"
        return self._snapshot

    def refresh(self) -> threading.Thread | None:
        """Return the thread that reads the store, started if a check is due; None if no thread is reading."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self._thread
            if self._clock() - self._checked_at < self._check_every_s and (self._snapshot or self._problem):
                return None
            self._thread = threading.Thread(target=self._read, name="moodbench-snapshot", daemon=True)
            self._thread.start()
            return self._thread

    def _read(self) -> None:
        began = self._clock()
        try:
            stamps = record_stamps(self.store)
            self._check_every_s = max(CHECK_EVERY_S, (self._clock() - began) / MAX_CHECK_SHARE)
            if self._snapshot is None or self._problem is not None or stamps != self._stamps:
                shown = StoreView(cached_results(self.store, self._machine), searches(self.store))
                snapshot = Snapshot(self.store, shown, datetime.now())
                if not snapshot.is_empty:
                    snapshot.leaderboard(DEFAULT)  # cached before a visitor requests it
                self._snapshot, self._stamps = snapshot, stamps
            self._problem = None
        except MoodBenchError as problem:
            self._problem = problem
        except Exception as problem:  # the edge of the thread: visitors get the error instead of waiting forever
            log.exception("reading %s", self.store.uri)
            self._problem = MoodBenchError(f"{self.store.uri}: cannot be shown ({type(problem).__name__}: {problem})")
        finally:
            self._checked_at = self._clock()
