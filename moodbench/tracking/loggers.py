"""Trials as runs of MLflow and as event files of TensorBoard, one per fit."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moodbench.errors import PrerequisiteError
from moodbench.tracking.trials import TrackedRecord, TrackedTrial

EXPERIMENT = "moodbench"
FIT, RECORDS = "moodbench.fit_id", "moodbench.records"
"""Tags of a run: its fit, and the ids of the records that were logged to it."""
BATCH = 500
"""Metrics per call; MLflow accepts at most 1,000 metrics and 100 parameters."""
NO_ARTIFACTS = "mlflow-artifacts:/moodbench"
"""Artifact location of runs. No artifacts are logged, but by default MLflow would record folders of this machine."""


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
        runs = _runs(client, experiment)
        return sum(_log(client, experiment, trial, runs.get(trial.fit_id)) for trial in trials)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:  # ImportError: no driver of the database
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PrerequisiteError(f"MLflow at {without_password(uri)}: {reason}; see MLFLOW_TRACKING_URI") from error


def without_password(uri: str) -> str:
    """Return `uri` without user name and password."""
    scheme, sign, rest = uri.partition("://")
    return scheme + sign + rest.rpartition("@")[2] if sign else uri


def _runs(client: Any, experiment: str) -> dict[str, Any]:
    """Return the runs of fits by fit id, including deleted ones, because a run that a user deleted stays deleted."""
    from mlflow.entities import ViewType

    runs: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        runs |= {run.data.tags[FIT]: run for run in page if FIT in run.data.tags}
        token = page.token
        if not token:
            return runs


def _log(client: Any, experiment: str, trial: TrackedTrial, run: Any) -> bool:
    """Log the new records of `trial` unless its run was deleted, and return whether any were logged."""
    known = set(run.data.tags.get(RECORDS, "").split(",")) if run else set()
    new = [record for record in trial.records if record.id not in known]
    if not new or (run and run.info.lifecycle_stage == "deleted"):
        return False
    from mlflow.entities import Metric, Param, RunTag

    if run is None:
        tags = {FIT: trial.fit_id, "moodbench.run_id": trial.run_id}
        run = client.create_run(experiment, _milliseconds(trial.started_at), tags, trial.name)
    metrics = [Metric(p.name, p.value, _milliseconds(r.at), p.step) for r in new for p in r.points]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
    # The tag comes last: after an interruption the same values are sent again, and MLflow stores them once.
    ids = ",".join(record.id for record in trial.records)
    params = [] if known else [Param(name, value) for name, value in trial.params.items()]
    client.log_batch(run.info.run_id, params=params, tags=[RunTag(RECORDS, ids)])
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
        target = folder / trial.dataset / trial.model / f"seed{trial.seed}-{trial.fit_id[:8]}"
        missing = [(record, path) for record in trial.records if not (path := target / _name(record)).exists()]
        for record, path in missing:
            target.mkdir(parents=True, exist_ok=True)
            _write(record, path)
        num_new += bool(missing)
    return num_new


def _name(record: TrackedRecord) -> str:
    return f"events.out.tfevents.{int(record.at.timestamp()):010d}.{record.id}"


def _write(record: TrackedRecord, path: Path) -> None:
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
