"""Copies of committed records in MLflow and TensorBoard, made at the end of a run or on request.

The store remains the source of truth. Only new records are logged: parameters and metrics of every fit, without texts
and paths.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Set
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from moodbench.errors import PrerequisiteError
from moodbench.paths import folder_name
from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.store.schema import METRIC_COLUMNS, RECORDS

SWITCH = "MOODBENCH_TRACKING"
TIMEOUT_S = 60.0
URI = "MLFLOW_TRACKING_URI"
FOLDER = "tracking"
"""Folder of a local store with MLflow's file, TensorBoard's event files, and LIST."""
LIST = "tracked.txt"
"""Ids of the records that were logged: a cache, not the source of truth."""
EXPERIMENT = "moodbench"
FIT_TAG, RECORDS_TAG = "moodbench.fit_id", "moodbench.records"
"""Tags of a run: its fit, and the ids of the records that were logged to it."""
BATCH = 500
"""Metrics per call; MLflow accepts at most 1,000 metrics and 100 parameters."""
NO_ARTIFACTS = "mlflow-artifacts:/moodbench"
"""Artifact location of runs. No artifacts are logged, but by default MLflow would record folders of this machine."""
_FACTS = ("dataset", "seed", "method", "family", "quantization", "num_train", "num_validation", "num_params",
          "num_trainable", "devices")  # fmt: skip
_PREFIX = {"lora": "lora_", "train": "", "text": "", "probe": "probe_", "tfidf": "tfidf_", "chosen": "chosen_"}
_RENAMED = {"lora_r": "lora_rank"}
_OF_FIT = ("train_time_s", "train_texts_per_s", "train_peak_memory_bytes")
_OF_EVALUATION = {"f1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro"} | {
    name: name for name in (*METRIC_COLUMNS, "truncated_share") if not name.endswith("_macro")
}
_OF_MEASUREMENT = ("latency_p50_s", "latency_p90_s", "latency_p99_s", "throughput_texts_per_s",
                   "throughput_tokens_per_s", "cold_start_s", "weights_bytes", "memory_peak_batch1_bytes",
                   "memory_peak_bytes", "gpu_peak_allocated_bytes")  # fmt: skip


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
    """Return whether every record of the local `store` is in the list."""
    path = Path(store.uri, FOLDER, LIST)
    known = set(path.read_text("utf-8").split()) if path.exists() else set()
    return record_ids(store) <= known


def note_tracked(folder: Path, ids: Set[str]) -> None:
    """Replace the list in `folder` by `ids`, atomically."""
    staged = folder / f".{LIST}.new"
    staged.write_text("\n".join(sorted(ids)) + "\n", encoding="utf-8")
    staged.replace(folder / LIST)


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class TrackedRecord:
    """The metrics of one record."""

    id: str
    at: datetime
    points: tuple[Point, ...]


@dataclass(frozen=True)
class TrackedTrial:
    """The record of one fit, and the metrics of it, then of its evaluations, then of its measurements."""

    fit: Mapping[str, Any]
    records: list[TrackedRecord]


def tracked_trials(store: Store) -> list[TrackedTrial]:
    """Return every fit of `store` with its records, oldest first."""
    trials = {
        fit["fit_id"]: TrackedTrial(fit, [TrackedRecord(fit["fit_id"], fit["ended_at"], _fit_points(fit))])
        for fit in _rows(store, "fits")
    }
    for kind, id_, columns in (
        ("evaluations", "evaluation_id", _OF_EVALUATION),
        ("measurements", "measurement_id", {name: name for name in _OF_MEASUREMENT}),
    ):
        for row in _rows(store, kind):
            if row["fit_id"] in trials:
                points = tuple(Point(name, float(row[c])) for name, c in columns.items() if _present(row[c]))
                trials[row["fit_id"]].records.append(TrackedRecord(row[id_], row["ended_at"], points))
    return list(trials.values())


def _parameters(fit: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a fit record under their common names: model_name, lora_rank, learning_rate, ..."""
    found = {"model_name": fit["model"]} | {name: fit[name] for name in _FACTS}
    for part, fields in json.loads(fit["hparams"] or "{}").items():
        prefix = _PREFIX.get(part, f"{part}_")
        for name, value in fields.items() if isinstance(fields, dict) else [(part, fields)]:
            long: str = name if name.startswith(prefix) or name == part else prefix + name
            found[_RENAMED.get(long, long)] = value
    return {name: _parameter_text(value) for name, value in found.items() if _present(value)}


def _fit_points(fit: Mapping[str, Any]) -> tuple[Point, ...]:
    points = [Point(name, float(fit[name])) for name in _OF_FIT if _present(fit[name])]
    for point in fit["curve"] if fit["curve"] is not None else ():
        if _present(point["loss"]):
            points.append(Point("loss", float(point["loss"]), int(point["step"])))
        if _present(point["validation_score"]):
            points.append(Point(f"validation_{point['metric']}", float(point["validation_score"]), int(point["step"])))
    return tuple(points)


def _rows(store: Store, kind: str) -> list[dict[Any, Any]]:
    rows = store.records(kind).sort_values("ended_at", kind="stable").astype(object)
    return rows.where(rows.notna(), None).to_dict("records")


def _present(value: Any) -> bool:
    if value is None or value is pd.NaT:
        return False
    return not (isinstance(value, float) and not math.isfinite(value))


def _parameter_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, default=str)


def log_to_mlflow(trials: Iterable[TrackedTrial], uri: str) -> int:
    """Log the new records of `trials` to the MLflow at `uri`, and return how many trials had some.

    Raises: PrerequisiteError if MLflow cannot be written.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default, MLflow retries an unreachable server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", NO_ARTIFACTS)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # an unreachable server is reported once, by us
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        location = None if uri.startswith(("http:", "https:", "databricks")) else NO_ARTIFACTS
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=location)
        runs = _runs_by_fit(client, experiment)
        return sum(_log_trial(client, experiment, trial, runs.get(trial.fit["fit_id"])) for trial in trials)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:  # ImportError: no driver of the database
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PrerequisiteError(f"MLflow at {without_password(uri)}: {reason}; see MLFLOW_TRACKING_URI") from error


def without_password(uri: str) -> str:
    """Return `uri` without user name and password."""
    scheme, sign, rest = uri.partition("://")
    return scheme + sign + rest.rpartition("@")[2] if sign else uri


def _runs_by_fit(client: Any, experiment: str) -> dict[str, Any]:
    """Return the runs of fits by fit id, including deleted ones, because a run that a user deleted stays deleted."""
    from mlflow.entities import ViewType

    runs: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        runs |= {run.data.tags[FIT_TAG]: run for run in page if FIT_TAG in run.data.tags}
        token = page.token
        if not token:
            return runs


def _log_trial(client: Any, experiment: str, trial: TrackedTrial, run: Any) -> bool:
    """Log the new records of `trial` unless its run was deleted, and return whether any were logged."""
    known = set(run.data.tags.get(RECORDS_TAG, "").split(",")) if run else set()
    new = [record for record in trial.records if record.id not in known]
    if not new or (run and run.info.lifecycle_stage == "deleted"):
        return False
    from mlflow.entities import Metric, Param, RunTag

    if run is None:
        fit = trial.fit
        tags = {FIT_TAG: fit["fit_id"], "moodbench.run_id": fit["run_id"] or ""}
        name = f"{fit['model']} · {fit['dataset']} · seed {fit['seed']}"
        run = client.create_run(experiment, _milliseconds(fit["started_at"]), tags, name)
    metrics = [Metric(p.name, p.value, _milliseconds(r.at), p.step) for r in new for p in r.points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
    # The tag comes last: after an interruption the same values are sent again, and MLflow stores them once.
    ids = ",".join(record.id for record in trial.records)
    params = [] if known else [Param(name, value) for name, value in _parameters(trial.fit).items()]
    client.log_batch(run.info.run_id, params=params, tags=[RunTag(RECORDS_TAG, ids)])
    client.set_terminated(run.info.run_id, "FINISHED", _milliseconds(max(record.at for record in trial.records)))
    return True


def _milliseconds(at: Any) -> int:
    return int(1000 * at.timestamp())


def log_to_tensorboard(trials: Iterable[TrackedTrial], folder: Path) -> int:
    """Write the new records of `trials` to `folder`, and return how many trials had some.

    Each record is one event file, named by its time and id. It is renamed into place, so an existing file is complete.
    """
    num_new = 0
    for trial in trials:
        fit = trial.fit
        names = folder_name(fit["dataset"]), folder_name(fit["model"]), f"seed{fit['seed']}-{fit['fit_id'][:8]}"
        target = folder.joinpath(*names)
        files = {f"events.out.tfevents.{int(each.at.timestamp()):010d}.{each.id}": each for each in trial.records}
        missing = {target / name: record for name, record in files.items() if not (target / name).exists()}
        for path, record in missing.items():
            target.mkdir(parents=True, exist_ok=True)
            _write_event_file(record, path)
        num_new += bool(missing)
    return num_new


def _write_event_file(record: TrackedRecord, path: Path) -> None:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as made:
        writer = EventsWriter(str(Path(made) / "events"))
        for point in sorted(record.points, key=lambda p: p.step):
            event = Event(wall_time=record.at.timestamp(), step=point.step, summary=scalar(point.name, point.value))
            writer.write_event(event)
        writer.close()
        (written,) = Path(made).iterdir()
        written.replace(path)
