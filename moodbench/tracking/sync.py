"""Sync of a store to MLflow and TensorBoard: logs only records that are new there, so it can be repeated."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass

from filelock import FileLock

from moodbench.errors import PrerequisiteError
from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.tracking.to_mlflow import log_to_mlflow
from moodbench.tracking.to_tensorboard import log_to_tensorboard
from moodbench.tracking.tracked import FOLDER, note_tracked, record_ids
from moodbench.tracking.trials import tracked_trials

URI = "MLFLOW_TRACKING_URI"


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
            f"{store.uri}: is no local folder, which could hold MLflow's file; set {URI} to a server or a database"
        )
    ids = record_ids(store)  # listed before reading, so that records added meanwhile are left to the next sync
    trials = tracked_trials(store)
    if folder and trials:
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock") if folder and trials else nullcontext():
        num_in_tensorboard = log_to_tensorboard(trials, folder / "tensorboard") if folder else None
        try:
            num_in_mlflow = log_to_mlflow(trials, uri) if trials else 0
        except Exception as error:  # the exception type depends on the MLflow back end
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PrerequisiteError(f"MLflow at {_shown(uri)}: {reason}; see {URI}") from error
        if folder and trials:
            note_tracked(folder, ids)
    return Synced(
        len(trials), num_in_mlflow, num_in_tensorboard, _shown(uri), str(folder / "tensorboard") if folder else None
    )


def _shown(uri: str) -> str:
    """Return `uri` without user name and password."""
    scheme, sign, rest = uri.partition("://")
    return scheme + sign + rest.rpartition("@")[2] if sign else uri
