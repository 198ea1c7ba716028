"""A store's records to MLflow and TensorBoard: what they do not show yet, as often as one likes."""

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
    """What a sync did."""

    num_trials: int
    """Trials in the store."""
    num_new_in_mlflow: int
    """Trials of which MLflow did not show something."""
    num_new_in_tensorboard: int | None
    """The same for TensorBoard; None for a store that is no local folder."""
    mlflow_uri: str
    tensorboard_folder: str | None


def sync(store: Store) -> Synced:
    """What was new; PrerequisiteError when MLflow cannot be written.

    MLflow is the one that MLFLOW_TRACKING_URI names, else a SQLite file in the store's folder `tracking`, where the
    event files of TensorBoard are too. Two syncs of one local store wait for each other.
    """
    location = store.location
    folder = location.root / FOLDER if isinstance(location, LocalLocation) else None
    uri = os.environ.get(URI) or (f"sqlite:///{folder / 'mlflow.db'}" if folder else None)
    if uri is None:
        raise PrerequisiteError(
            f"{store.uri}: is no local folder, which could hold MLflow's file; set {URI} to a server or a database"
        )
    ids = record_ids(store)  # before they are read: what comes meanwhile is for the next sync
    trials = tracked_trials(store)
    if folder and trials:
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock") if folder and trials else nullcontext():
        num_in_tensorboard = log_to_tensorboard(trials, folder / "tensorboard") if folder else None
        try:
            num_in_mlflow = log_to_mlflow(trials, uri) if trials else 0
        except Exception as error:  # MLflow raises what its many back ends raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PrerequisiteError(f"MLflow at {_shown(uri)}: {reason}; see {URI}") from error
        if folder and trials:
            note_tracked(folder, ids)
    return Synced(
        len(trials), num_in_mlflow, num_in_tensorboard, _shown(uri), str(folder / "tensorboard") if folder else None
    )


def _shown(uri: str) -> str:
    """The URI without a user's name and password."""
    scheme, sign, rest = uri.partition("://")
    return scheme + sign + rest.rpartition("@")[2] if sign else uri
