"""Trials of searches in a store: a record of each configuration that ended, and a journal of what was started.

searches/ID/FIT.parquet   record of one configuration, written once
searches/ID/journal.log   Optuna study: proposals, their states and learning curves, and the time spent
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from moodbench.config.search_space import Configuration
from moodbench.errors import MoodBenchError, StoreError
from moodbench.store import Store, stamped, write_table
from moodbench.store.location import LocalLocation
from moodbench.store.reading import read_table

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage

Status = Literal["finished", "stopped", "failed", "unfinished"]
SEARCH_TRIALS = pa.schema(
    [
        ("search_id", pa.string()),
        ("fit_id", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("space", pa.string()),
        ("configuration", pa.string()),  # JSON: parameter -> value
        ("status", pa.string()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("texts_trained", pa.int64()),
        ("curve", pa.list_(pa.struct([("texts", pa.int64()), ("score", pa.float64())]))),
        ("train_time_s", pa.float64()),
        ("elapsed_s", pa.float64()),
        ("error", pa.string()),
        ("memory_bytes", pa.int64()),
    ]
)
JOURNAL = "journal.log"
WRITE_EVERY_S = 5.0
"""Interval at which the time spent is written."""
UPLOAD_EVERY_S = 30.0
"""Interval at which the journal is uploaded to a remote store."""
LOCK_GRACE_S = 10
"""Age at which the lock of a killed command on the journal is removed."""
Curve = tuple[tuple[int, float], ...]
"""Learning curve: pairs of texts trained and validation score."""


@dataclass(frozen=True)
class SearchTrial:
    """One configuration that a search tried."""

    search_id: str
    fit_id: str
    model: str
    dataset: str
    space: str
    configuration: Configuration
    status: Status
    """finished: trained to the end, the fit is in the store; stopped: stopped early by the trial scheduler; failed;
    unfinished: still running, or interrupted when a command ended and resumed by the next command. Only the first three
    have a record."""
    metric: str
    """Name of the validation score."""
    score: float | None
    """Best validation score; None if the trial failed before the first validation."""
    texts_trained: int
    """Number of texts processed in training, repetitions included: a cost that does not depend on the machine."""
    curve: Curve
    train_time_s: float
    elapsed_s: float
    """Seconds that the search had run when the trial ended, including earlier interrupted commands."""
    error: str | None = None
    memory_bytes: int | None = None
    """Peak memory of the training process; None if several configurations shared it."""


def put_trial(store: Store, trial: SearchTrial) -> None:
    """Write `trial`, unless the search already has a record of that fit."""
    row = asdict(trial) | {
        "configuration": json.dumps(trial.configuration, sort_keys=True),
        "curve": [{"texts": texts, "score": score} for texts, score in trial.curve],
    }
    with store.attempt() as attempt:
        path = write_table(pa.Table.from_pylist([row], schema=stamped(SEARCH_TRIALS)), attempt.folder / "trial.parquet")
        store.location.create(path, f"searches/{trial.search_id}/{trial.fit_id}.parquet")


def search_trials(store: Store, search_id: str | None = None) -> list[SearchTrial]:
    """Return the recorded trials of one search or of all, each search's in the order in which they ended."""
    keys = store.location.keys(f"searches/{search_id}" if search_id else "searches")
    rows = [
        row
        for key in keys
        if key.endswith(".parquet")
        for row in read_table(store.location, key, SEARCH_TRIALS).to_pylist()
    ]
    trials = [
        SearchTrial(
            **{name: row[name] for name in SEARCH_TRIALS.names if name not in ("configuration", "curve")},
            configuration=json.loads(row["configuration"]),
            curve=tuple((point["texts"], point["score"]) for point in row["curve"]),
        )
        for row in rows
    ]
    return sorted(trials, key=lambda t: (t.search_id, t.elapsed_s, t.fit_id))


def sign(metric: str) -> int:
    """Return 1 if a higher `metric` is better, -1 if a lower one is."""
    return -1 if metric == "nll" else 1


@dataclass(frozen=True)
class StartedTrial:
    """A configuration that a search has started, whether or not it has ended since."""

    configuration: Configuration
    curve: Curve
    seconds: float
    """Training time in commands that ended before the trial did."""


@dataclass(frozen=True)
class Progress:
    """Progress of a search in all its commands."""

    elapsed_s: float = 0.0
    started: Mapping[str, StartedTrial] = field(default_factory=dict)
    """Fit id -> trial, in the order of the proposals."""

    def without_record(self, recorded: set[str]) -> dict[str, StartedTrial]:
        """Return the started trials whose fit id is not in `recorded`."""
        return {fit_id: each for fit_id, each in self.started.items() if fit_id not in recorded}


def read_progress(store: Store, search_id: str) -> Progress:
    """Return the progress of a search, without any if it was not started.

    Raises: StoreError if the journal is damaged.
    """
    key = f"searches/{search_id}/{JOURNAL}"
    if key not in store.location.keys(f"searches/{search_id}"):
        return Progress()
    import optuna

    try:
        return progress_of(optuna.load_study(study_name=search_id, storage=_storage(store.location.local(key))))
    except KeyError:  # killed before its first line was complete
        return Progress()
    except ValueError as error:
        raise StoreError(
            f"{store.uri}/{key}: is no journal of Optuna ({error}). Move it away; the records of the search stay valid"
        ) from error


def progress_of(study: Study) -> Progress:
    """Return the progress that is written in `study`."""
    elapsed_s, seconds = 0.0, dict[str, float]()
    for session in study.user_attrs.values():
        elapsed_s += session["elapsed_s"]
        for fit_id, each in session["seconds"].items():
            seconds[fit_id] = seconds.get(fit_id, 0.0) + each
    configurations, curves = dict[str, Configuration](), dict[str, set[tuple[int, float]]]()
    for trial in study.get_trials(deepcopy=False):
        if fit_id := trial.user_attrs.get("fit_id"):
            configurations.setdefault(fit_id, trial.params)
            points = {(texts, score) for texts, score in trial.user_attrs.get("curve", ())}
            curves.setdefault(fit_id, set()).update(points)
    started = {
        fit_id: StartedTrial(configuration, tuple(sorted(curves[fit_id])), seconds.get(fit_id, 0.0))
        for fit_id, configuration in configurations.items()
    }
    return Progress(elapsed_s, started)


class Journal:
    """Optuna study of a search, opened by the command that drives the search, and the time that the command spends.

    The journal of a local store is written in place; that of a remote store in `folder`, and uploaded in intervals.
    """

    def __init__(
        self,
        store: Store,
        search_id: str,
        folder: Path,
        directions: Sequence[str],
        sampler: BaseSampler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._location, self._key = store.location, f"searches/{search_id}/{JOURNAL}"
        self._path = folder / JOURNAL
        if isinstance(self._location, LocalLocation):
            self._path = self._location.local(self._key)
            self._path.parent.mkdir(parents=True, exist_ok=True)
        elif self._key in self._location.keys(f"searches/{search_id}"):
            shutil.copy(self._location.local(self._key), self._path)
        self.study = optuna.create_study(
            study_name=search_id,
            storage=_storage(self._path, mend=True),
            directions=directions,
            sampler=sampler,
            load_if_exists=True,
        )
        self.problem: Exception | None = None
        """First error of writing, which ends the search."""
        self._session = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}"
        self._clock, self._began = clock, clock()
        self._written = self._uploaded = -math.inf
        self._running: dict[str, float] = {}
        self._given_up: dict[str, float] = {}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep an error of the block in `problem` instead of raising it inside of Ray Tune."""
        try:
            yield
        except (OSError, MoodBenchError) as problem:
            self.problem = self.problem or problem

    @property
    def elapsed_s(self) -> float:
        """Seconds since this command opened the journal."""
        return self._clock() - self._began

    def begin(self, fit_id: str) -> None:
        """Start the clock of a fit."""
        self._running.setdefault(fit_id, self._clock())

    def end(self, fit_id: str) -> float:
        """Stop the clock of a fit that has its record now, and return the seconds it took in this command."""
        return self._clock() - self._running.pop(fit_id, self._clock())

    def give_up(self, fit_id: str) -> None:
        """Stop the clock of a fit that ends in this command without a record, and keep its time."""
        self._given_up[fit_id] = self.end(fit_id)

    def write(self, *, now: bool = False) -> None:
        """Write the time spent; unless `now`, at most once every WRITE_EVERY_S."""
        clock = self._clock()
        if self.problem is not None or (not now and clock - self._written < WRITE_EVERY_S):
            return
        self._written = clock
        seconds = self._given_up | {fit_id: clock - began for fit_id, began in self._running.items()}
        with self.writing():
            self.study.set_user_attr(self._session, {"elapsed_s": self.elapsed_s, "seconds": seconds})
            if not isinstance(self._location, LocalLocation) and (now or clock - self._uploaded >= UPLOAD_EVERY_S):
                self._uploaded = clock
                self._location.replace(self._path, self._key)


def _storage(path: Path, *, mend: bool = False) -> JournalStorage:
    """Return the storage of the journal at `path`; with `mend`, without a last line that was not written completely."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    lock = JournalFileOpenLock(str(path), grace_period=LOCK_GRACE_S)

    def cut() -> None:
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)

    class Backend(JournalFileBackend):  # type: ignore[misc]
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            try:
                super().append_logs(logs)
            except OSError:  # such as a full disk: what follows must not be glued to half a line
                cut()
                raise

    if mend and path.exists():
        lock.acquire()
        try:
            cut()
        finally:
            lock.release()
    return JournalStorage(Backend(str(path), lock_obj=lock))
