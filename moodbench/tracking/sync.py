"""Copy of a store's records in MLflow and TensorBoard, at the end of a run or on request; only new ones are logged."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Set
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from moodbench.errors import PrerequisiteError
from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.store.schema import RECORDS
from moodbench.tracking.loggers import log_to_mlflow, log_to_tensorboard, without_password
from moodbench.tracking.trials import tracked_trials

SWITCH = "MOODBENCH_TRACKING"
TIMEOUT_S = 60.0
URI = "MLFLOW_TRACKING_URI"
FOLDER = "tracking"
"""Folder of a local store with MLflow's file, TensorBoard's event files, and LIST."""
LIST = "tracked.txt"
"""Ids of the records that were logged: a cache, not the source of truth."""


@dataclass(frozen=True)
class Synced:
    """Result of a sync."""

    num_trials: int
    """Number of trials in the store."""
    num_new_in_mlflow: int
    """Number of trials with records that were new to MLflow."""
    num_new_in_tensorboard: int | None
    """The same for TensorBoard; None if the store is not a local folder."""
    mlflow_uri: str
    tensorboard_folder: str | None


def track(store: Store, *, has_new: bool) -> None:
    """Log the records of `store` to MLflow and TensorBoard in a separate process, and warn once if that fails.

    MLflow takes seconds and 170 MiB, which must not affect a measurement. MOODBENCH_TRACKING=off disables tracking. No
    process is started if all records are tracked already; records of a killed run are tracked at the end of the next
    run. A store that is not a local folder is tracked if the run `has_new` records.
    """
    if os.environ.get(SWITCH, "on").lower() in ("off", "0", "false"):
        return
    local = isinstance(store.location, LocalLocation)
    if is_tracked(store) if local else not has_new:
        return
    command = [sys.executable, "-m", "moodbench", "track", "sync", "--store", store.uri]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        reason = f"no end after {TIMEOUT_S:.0f} s"
    else:
        if done.returncode == 0:
            return
        lines = done.stderr.strip().splitlines()
        reason = lines[-1].removeprefix("moodbench: ") if lines else f"exit code {done.returncode}"
    logging.getLogger(__name__).warning(
        "tracking: %s. The results are complete; `moodbench track sync` tries again, %s=off disables tracking",
        reason,
        SWITCH,
    )


def sync(store: Store) -> Synced:
    """Log the new records of `store` to MLflow and TensorBoard, and return how many trials had some.

    MLflow is the server or database that MLFLOW_TRACKING_URI names, or else a SQLite file in the folder `tracking` of
    the store, which also holds the event files of TensorBoard. Concurrent syncs of one local store wait for each other.
    Raises: PrerequisiteError if MLflow cannot be written.
    """
    location = store.location
    folder = location.root / FOLDER if isinstance(location, LocalLocation) else None
    uri = os.environ.get(URI) or (f"sqlite:///{folder / 'mlflow.db'}" if folder else None)
    if uri is None:
        raise PrerequisiteError(
            f"{store.uri}: is not a local folder, which could hold MLflow's file; set {URI} to a server or a database"
        )
    ids = record_ids(store)  # listed before reading, so that records added meanwhile are left to the next sync
    trials = tracked_trials(store)
    if folder and trials:
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock") if folder and trials else nullcontext():
        num_in_tensorboard = log_to_tensorboard(trials, folder / "tensorboard") if folder else None
        num_in_mlflow = log_to_mlflow(trials, uri) if trials else 0
        if folder and trials:
            note_tracked(folder, ids)
    events = str(folder / "tensorboard") if folder else None
    return Synced(len(trials), num_in_mlflow, num_in_tensorboard, without_password(uri), events)


def record_ids(store: Store) -> set[str]:
    """Return the ids of all records of `store`."""
    return set().union(*(store.ids(kind) for kind in RECORDS))


def is_tracked(store: Store) -> bool:
    """Return whether every record of `store` is in the list; False if the store is not a local folder."""
    location = store.location
    if not isinstance(location, LocalLocation):
        return False
    path = location.root / FOLDER / LIST
    known = set(path.read_text("utf-8").split()) if path.exists() else set()
    return record_ids(store) <= known


def note_tracked(folder: Path, ids: Set[str]) -> None:
    """Replace the list in `folder` by `ids`, atomically."""
    staged = folder / f".{LIST}.new"
    staged.write_text("\n".join(sorted(ids)) + "\n", encoding="utf-8")
    staged.replace(folder / LIST)
